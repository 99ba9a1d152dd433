"""Labelled photos: folders of classes, ``ROOT/SPLIT/CLASS/photo.jpg``, or a list of photos and labels.

ImageNet has folders. Its flat folder ``val`` and Places205 have lists; Caffe's ``val.txt`` and
``val_places205.csv`` are read as they are.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.functional import ten_crop

from pretext.data.crops import View, center_crop, resize_shorter_side, to_tensor
from pretext.data.decoding import PHOTO_SUFFIXES, UnreadablePhotoError, read_rgb
from pretext.data.sampling import Draw, draw_rng
from pretext.data.walking import is_hidden, tell_left_out, walk_files
from pretext.errors import InputError
from pretext.files import read_lines
from transfer.data.identity import names_fingerprint
from transfer.data.listed import check_files

#: Endings of lists of photos and labels.
LISTS = (".txt", ".csv")
#: What a line of a list looks like: a path, which may hold blanks and commas, and a label behind the last of them. Each
#: number up to the largest is a class: a number of more digits is not a label but, say, the size of a file.
_LINE = re.compile(r"(\S.*?)(?:\s*,\s*|\s+)([0-9]{1,6})")
#: What is left out, beside the kinds of `pretext.data.walking`.
_NO_CLASS = "photos outside of the folders of classes"


@dataclass(frozen=True)
class LabeledPhotos:
    """One split: paths of photos, their labels 0..len(classes)-1, and the classes' names in order."""

    paths: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]

    def names(self) -> list[str]:
        """Return ``class/photo`` for every photo; in a list the class is a number."""
        return [
            f"{self.classes[label]}/{path.rpartition('/')[2]}"
            for path, label in zip(self.paths, self.labels, strict=True)
        ]


def read_image_list(root: Path, split: str) -> LabeledPhotos:
    """List one split from its file: each line holds a photo's path and its label, a number from 0.

    Blanks, a tab or a comma stand between the two; a path in a .csv may stand in double quotes. Paths are relative to
    the folder that is named like the list, ``train`` for ``train.txt``, if there is one, and else to ``root``. The
    classes' names are the numbers up to the largest.

    Raises:
        InputError: The list cannot be read, a line has another form, a photo is missing, or fewer than two classes have
            photos.
    """
    path = root / split
    folder = path.with_suffix("") if path.with_suffix("").is_dir() else root
    paths, labels = [], []
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise InputError(
                f"line {number} of {path} is not a photo with a label",
                received=line,
                allowed="write PATH LABEL, the label a number from 0 to 999999",
            )
        paths.append(folder / (_unquoted(match[1]) if path.suffix.lower() == ".csv" else match[1]))
        labels.append(int(match[2]))
    check_files(str(path), paths, f"paths are relative to {folder}")
    if len(set(labels)) < 2:
        raise InputError(
            f"{path} has too few classes with photos",
            received=len(set(labels)),
            allowed="a probe needs two or more",
        )
    return LabeledPhotos(tuple(map(str, paths)), tuple(labels), tuple(map(str, range(max(labels) + 1))))


def _unquoted(word: str) -> str:
    if len(word) > 2 and word.startswith('"') and word.endswith('"'):
        return word[1:-1].replace('""', '"')
    return word


def read_image_folder(root: Path, split: str) -> LabeledPhotos:
    """List one split from its folder: each folder in it is a class, with photos at any depth (see `walk_files`).

    Hidden folders are not classes. What is left out is counted and said on stderr.

    Raises:
        InputError: The folder is missing or cannot be read, a class is empty, or there are fewer than two classes.
    """
    folder = root / split
    expected = f"put photos at {root}/{split}/CLASS/PHOTO.jpg"
    if folder.is_file():
        raise InputError(
            f"{folder} is neither a folder of classes nor a list",
            received=folder.suffix,
            allowed=f"lists end in {' or '.join(LISTS)}",
        )
    if not folder.is_dir():
        raise InputError(f"no folder {folder} with labelled photos", allowed=expected)
    walked = walk_files(folder, PHOTO_SUFFIXES)
    by_class: dict[str, list[Path]] = {name: [] for name in _class_folders(folder)}
    for path in walked.files:
        name, *below = path.relative_to(folder).parts
        if below:
            by_class.setdefault(name, []).append(path)
        else:
            walked.left_out[_NO_CLASS] += 1
    tell_left_out(folder, walked.left_out)
    classes = sorted(by_class)
    empty = [name for name in classes if not by_class[name]]
    if empty:
        raise InputError(
            f"classes of {folder} have no photos", received=", ".join(empty[:5]), allowed=expected
        )
    if len(classes) < 2:
        raise InputError(
            f"{folder} has too few classes", received=classes, allowed="a probe needs two or more"
        )
    paths, labels = [], []
    for label, name in enumerate(classes):
        # Folder by folder, as torchvision's ImageFolder lists them.
        for path in sorted(by_class[name], key=lambda path: (str(path.parent), path.name)):
            paths.append(str(path))
            labels.append(label)
    return LabeledPhotos(tuple(paths), tuple(labels), tuple(classes))


def _class_folders(folder: Path) -> Iterator[str]:
    """List the folders that must hold photos: not the hidden ones, nor links to folders that are read anyway."""
    real = folder.resolve()
    for entry in folder.iterdir():
        try:
            target = entry.resolve()
            is_class = entry.is_dir() and not is_hidden(entry.name)
        except (OSError, RuntimeError):  # a link in a circle
            continue
        again = entry.is_symlink() and (target.is_relative_to(real) or real.is_relative_to(target))
        if is_class and not again:
            yield entry.name


def read_splits(root: Path, train: str, test: str) -> tuple[LabeledPhotos, LabeledPhotos, str]:
    """List both splits, and return them with the fingerprint of their lists.

    Args:
        root: Folder of the data.
        train: A folder of classes, or a list that ends in .txt or .csv.
        test: The same kind as ``train``.

    Raises:
        InputError: As in :func:`read_image_folder` and :func:`read_image_list`; or one is a folder and the other a
            list; or the splits have different classes.
    """
    are_lists = [Path(split).suffix.lower() in LISTS for split in (train, test)]
    if are_lists[0] != are_lists[1]:
        raise InputError(
            "both splits must be lists, or both folders of classes",
            received=f"{train} and {test}",
            allowed="a list numbers its classes, a folder names them",
        )
    read = read_image_list if are_lists[0] else read_image_folder
    first, second = read(root, train), read(root, test)
    if first.classes != second.classes:
        differing = sorted(set(first.classes) ^ set(second.classes))
        raise InputError(
            f"{root}/{train} and {root}/{test} must have the same classes",
            received=f"{', '.join(differing[:5])} in one of them only",
        )
    return first, second, names_fingerprint([train, *first.names(), test, *second.names()])


def ten_crops(image: Image.Image, size: int, resize: int) -> Tensor:
    """Crop the four corners and the centre of a resized photo, and mirror all five: (10, 3, size, size) uint8."""
    crops = ten_crop(resize_shorter_side(image, resize), [size, size])
    return torch.stack([to_tensor(crop) for crop in crops])


class LabeledViews(Dataset[tuple[Tensor, int]]):
    """Crops of labelled photos with their labels: a random crop for a draw, the test's crops for a plain index.

    Args:
        photos: One split.
        view: The random crop; the test's crops take its ``size`` and ``resize``.
        seed: Seed of every draw.
        crops: Crops of a photo at test: 1 (centre) or 10 (corners, centre, and all mirrored).
    """

    def __init__(self, photos: LabeledPhotos, view: View, seed: int, crops: int = 1):
        self.photos, self.view, self.seed, self.crops = photos, view, seed, crops

    def __len__(self) -> int:
        return len(self.photos.paths)

    def __getitem__(self, which: Any) -> tuple[Tensor, int]:
        """Return uint8 views and the label: (3, size, size) for a Draw, (crops, 3, size, size) for an index.

        Raises:
            InputError: The photo cannot be decoded.
        """
        index = which.index if isinstance(which, Draw) else which
        path = self.photos.paths[index]
        try:
            image = read_rgb(Path(path))
        except UnreadablePhotoError as error:
            raise InputError(
                f"cannot read the labelled photo {path}: {error}", allowed="mend or remove it"
            ) from error
        label, size, resize = self.photos.labels[index], self.view.size, self.view.resize
        if isinstance(which, Draw):
            return self.view(image, draw_rng(self.seed, which)), label
        if self.crops == 10:
            return ten_crops(image, size, resize), label
        return center_crop(image, size, resize)[None], label
