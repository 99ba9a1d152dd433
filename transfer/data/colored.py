"""True photos in colour, which of them are compared, and the files of a folder that holds them coloured by others."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from pretext.data.crops import center_crop, to_tensor
from pretext.data.decoding import PHOTO_SUFFIXES, UnreadablePhotoError, read_rgb
from pretext.data.photos import Photos
from pretext.data.samples import spread
from pretext.data.sources import open_photos
from pretext.data.walking import walk_files
from pretext.errors import InputError
from transfer.data.identity import names_fingerprint

#: Names of ImageNet's validation photos end in their number, from 1.
_NUMBER = re.compile(r"ILSVRC2012_val_(\d{8})")
#: The numbers, from 1, for which the bits of a list's file stand.
_BITS = {"ctest10k": range(25_001, 50_001), "cval1k": range(1, 5_001)}


def listed_numbers(name: str) -> Int[np.ndarray, " n"]:
    """Return the numbers, from 1, of ImageNet's validation photos in a list.

    Args:
        name: ``ctest10k``: the 10,000 photos of Larsson et al. (ECCV 2016), as richzhang/colorization-pytorch lists
            them; ``cval1k``: their 1,000 others, as AruniRC/colorizer-fcn lists them; ``val5k``: the first 5,000.
    """
    if name == "val5k":
        return np.arange(1, 5001)
    with (files("transfer.data") / "lists" / f"{name}.npy").open("rb") as file:
        bits = np.unpackbits(np.load(file, allow_pickle=False))
    numbers = np.array(_BITS[name])
    return numbers[np.flatnonzero(bits)]


class TruePhotos(Dataset[Tensor]):
    """The photos that colours are compared with, uint8 (3, H, W).

    Args:
        source: As `pretext.data.sources.open_photos` takes it.
        chosen: ``all``, or a list of `listed_numbers`.
        count: At most so many, spread over all.
        fit: ``own``: as they are; ``square``: resized whole; ``center``: the central square, resized.
        size: Side of the square in pixels.

    Attributes:
        names: Of each photo: its path below ``source``, or its shard and member.
        all_folders: The folders that hold photos of the source, chosen or not.

    Raises:
        InputError: There are no photos, pairs of photos, or not all that are listed.
    """

    def __init__(self, source: Path, chosen: str, count: int | None, fit: str, size: int | None):
        photos = open_photos(source)
        if photos.kind != "photos":
            raise InputError(
                "colours are compared photo by photo", received=str(source), allowed="single photos"
            )
        self._photos, self._fit, self._size = photos, fit, size
        names = [_relative(photos.name(index), source) for index in range(len(photos))]
        self.all_folders = frozenset(PurePosixPath(name).parent.name for name in names)
        kept = range(len(names)) if chosen == "all" else _listed(names, chosen, source)
        self._indices = [kept[k] for k in spread(len(kept), len(kept) if count is None else count)]
        self.names = tuple(names[index] for index in self._indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> UInt8[Tensor, "3 height width"]:
        """Return one photo, fitted.

        Raises:
            InputError: The photo cannot be decoded.
        """
        return self.fitted(self.image(index))

    def place(self, index: int) -> str:
        """Return the path of a photo, or its shard's and member's."""
        return self._photos.name(self._indices[index])

    def image(self, index: int) -> Image.Image:
        """Return one photo as it is; InputError if it cannot be decoded."""
        return _readable(self._photos, self._indices[index])

    def fitted(self, image: Image.Image) -> UInt8[Tensor, "3 height width"]:
        """Return what is compared of a photo, or of the same photo in other colours."""
        if self._size is None:
            return to_tensor(image)
        if self._fit == "center":
            return center_crop(image, self._size, self._size)
        return to_tensor(image.resize((self._size, self._size), Image.Resampling.BILINEAR))

    def fingerprint(self) -> str:
        """Return the SHA-256 of the names of the photos."""
        return names_fingerprint(self.names)


class ColoredFiles(Dataset[Tensor]):
    """The files of a folder that hold photos as others coloured them.

    A photo's file has its path below the folder of the true photos, with any ending that photos have.

    Args:
        folder: Where to look.
        photos: The true photos.

    Raises:
        InputError: A photo has no file, or several; or a file may be of several photos.
    """

    def __init__(self, folder: Path, photos: TruePhotos):
        self._photos = photos
        found: dict[str, list[Path]] = {}
        for path in walk_files(folder, PHOTO_SUFFIXES).files:
            found.setdefault(os.path.splitext(path.relative_to(folder))[0], []).append(path)  # noqa: PTH122
        stems = [os.path.splitext(name)[0] for name in photos.names]  # noqa: PTH122  # Path would change odd names
        missing = [stem for stem in stems if stem not in found]
        if missing:
            raise InputError(
                f"{folder} lacks {len(missing)} of {len(stems)} photos",
                received=f"no {missing[0]}.*",
                allowed="the coloured files have the paths of the true photos, with any ending",
            )
        shared, times = Counter(stems).most_common(1)[0]
        if times > 1:
            alike = (name for name, stem in zip(photos.names, stems, strict=True) if stem == shared)
            raise InputError(
                "true photos differ only in their ending, so that a coloured file may be of either",
                received=", ".join(alike),
                allowed="rename one of them, and its coloured file",
            )
        double = [stem for stem in stems if len(found[stem]) > 1]
        if double:
            raise InputError(
                f"{folder} has several files of one photo",
                received=", ".join(str(path.relative_to(folder)) for path in found[double[0]]),
                allowed="keep one",
            )
        self._paths = [found[stem][0] for stem in stems]

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> UInt8[Tensor, "3 height width"]:
        """Return the coloured photo, fitted as the true one.

        Raises:
            InputError: It cannot be decoded, or has another size than the true one.
        """
        path = self._paths[index]
        try:
            image = read_rgb(path)
        except UnreadablePhotoError as error:
            raise InputError(f"cannot read {path}: {error}", allowed="colour it again") from error
        true = self._photos.image(index)
        if image.size != true.size:
            raise InputError(
                f"{path} has another size than the true photo {self._photos.names[index]}",
                received=f"{image.width} x {image.height}",
                allowed=f"its size is {true.width} x {true.height}",
            )
        return self._photos.fitted(image)


def _relative(name: str, source: Path) -> str:
    """Return a photo's path below the folder it was found in, or its own."""
    folder = f"{source}/" if source.is_dir() else f"{source.parent}/"
    return name.removeprefix(folder)


def _listed(names: Sequence[str], chosen: str, source: Path) -> list[int]:
    matches = ((index, _NUMBER.search(name)) for index, name in enumerate(names))
    by_number = {int(match[1]): index for index, match in matches if match}
    wanted = listed_numbers(chosen)
    missing = [number for number in wanted if number not in by_number]
    if missing:
        raise InputError(
            f"{source} lacks {len(missing)} of the {len(wanted)} photos of {chosen}",
            received=f"no ILSVRC2012_val_{missing[0]:08d}",
            allowed="name the folder of ImageNet's validation photos",
        )
    return [by_number[number] for number in wanted]


def _readable(photos: Photos, index: int) -> Image.Image:
    try:
        return photos.image(index)
    except UnreadablePhotoError as error:
        raise InputError(f"cannot read {photos.name(index)}: {error}", allowed="mend or remove it") from error
