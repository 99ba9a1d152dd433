"""Labelled photos in the ImageFolder layout: ``ROOT/SPLIT/CLASS/photo.jpg``, as ImageNet and Places have it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder

from pretext.data.photos import PHOTO_SUFFIXES, UnreadablePhotoError, decode_rgb
from pretext.data.views import Draw, RandomCrop, center_crop, draw_rng
from pretext.errors import InputError
from transfer.stage import names_fingerprint


@dataclass(frozen=True)
class LabeledPhotos:
    """One split: paths of photos, their labels 0..len(classes)-1, and the classes' names in order."""

    paths: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]

    def names(self) -> list[str]:
        """``class/photo`` of every photo."""
        return ["/".join(path.split("/")[-2:]) for path in self.paths]


def read_image_folder(root: Path, split: str) -> LabeledPhotos:
    """List one split.

    Raises:
        InputError: There is no such folder, a class is empty, or there are fewer than two classes.
    """
    folder = root / split
    try:
        listed = ImageFolder(str(folder), is_valid_file=lambda p: Path(p).suffix.lower() in PHOTO_SUFFIXES)
    except FileNotFoundError as error:
        raise InputError(
            f"no labelled photos in {folder}: {error}; expected {root}/{split}/CLASS/PHOTO.jpg"
        ) from error
    if len(listed.classes) < 2:
        raise InputError(f"{folder} has only the class {listed.classes[0]}; a probe needs two or more")
    paths, labels = zip(*listed.samples, strict=True)
    return LabeledPhotos(paths, labels, tuple(listed.classes))


def read_splits(root: Path, train: str, test: str) -> tuple[LabeledPhotos, LabeledPhotos, str]:
    """Both splits and the fingerprint of their lists.

    Raises:
        InputError: As :func:`read_image_folder`; or the splits have different classes.
    """
    first, second = read_image_folder(root, train), read_image_folder(root, test)
    if first.classes != second.classes:
        differing = sorted(set(first.classes) ^ set(second.classes))
        raise InputError(
            f"the classes of {root}/{train} and {root}/{test} differ: {', '.join(differing[:5])}"
        )
    return first, second, names_fingerprint([train, *first.names(), test, *second.names()])


class LabeledViews(Dataset[tuple[Tensor, int]]):
    """Crops of labelled photos with their labels: random ones of draws, central ones of plain indices."""

    def __init__(self, photos: LabeledPhotos, view: RandomCrop, seed: int):
        self.photos, self.view, self.seed = photos, view, seed

    def __len__(self) -> int:
        return len(self.photos.paths)

    def __getitem__(self, which: Any) -> tuple[Tensor, int]:
        """A view (3, size, size) uint8 and the label, of a Draw (random crop) or an int (central crop).

        Raises:
            InputError: The photo cannot be decoded.
        """
        index = which.index if isinstance(which, Draw) else which
        path = self.photos.paths[index]
        try:
            image = decode_rgb(Path(path).read_bytes())
        except (UnreadablePhotoError, OSError) as error:
            raise InputError(
                f"the labelled photo {path} is unreadable: {error}; mend or remove it"
            ) from error
        if isinstance(which, Draw):
            view = self.view(image, draw_rng(self.seed, which))
        else:
            view = center_crop(image, self.view.size, self.view.resize)
        return view, self.photos.labels[index]
