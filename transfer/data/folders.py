"""Labelled photos: folders of classes, ``ROOT/SPLIT/CLASS/photo.jpg``, or a list of photos and labels.

ImageNet has folders; its flat folder ``val`` and Places205 have lists, of which Caffe's ``val.txt`` and
``val_places205.csv`` are read as they are.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import ten_crop

from pretext.data.crops import RandomCrop, RandomResizedCrop, center_crop, resize_shorter_side, to_tensor
from pretext.data.decoding import PHOTO_SUFFIXES, UnreadablePhotoError, decode_rgb
from pretext.data.sampling import Draw, draw_rng
from pretext.errors import InputError
from transfer.stage import names_fingerprint

#: Endings of lists of photos and labels.
LISTS = (".txt", ".csv")


@dataclass(frozen=True)
class LabeledPhotos:
    """One split: paths of photos, their labels 0..len(classes)-1, and the classes' names in order."""

    paths: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]

    def names(self) -> list[str]:
        """``class/photo`` of every photo, its class by name or, in a list, by number."""
        return [
            f"{self.classes[label]}/{path.rpartition('/')[2]}"
            for path, label in zip(self.paths, self.labels, strict=True)
        ]


def read_image_list(root: Path, split: str) -> LabeledPhotos:
    """List one split by its file, each line of which holds a photo's path and its label, a number from 0.

    Paths are relative to the folder that is named as the list, ``train`` of ``train.txt``, if there is one, and else to
    ``root``. The classes' names are the numbers up to the largest.

    Raises:
        InputError: The list cannot be read, a line of it is something else, a photo is not there, or fewer than two
            classes have photos.
    """
    path = root / split
    folder = path.with_suffix("") if path.with_suffix("").is_dir() else root
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the list {path} cannot be read: {error}") from error
    paths, labels = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, _, label = line.strip().replace(",", " ").rpartition(" ")
        if not name.strip() or not label.isdecimal():
            raise InputError(
                f"line {number} of {path} is no photo with a label: received {line!r}, expected 'PATH LABEL', the label"
                " a number from 0"
            )
        paths.append(str(folder / name.strip()))
        labels.append(int(label))
    missing = [path for path in paths if not Path(path).is_file()]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(paths)} photos of {path} are not there, first {missing[0]}; expected in {folder}"
        )
    if len(set(labels)) < 2:
        raise InputError(f"{path} has photos of {len(set(labels))} classes; a probe needs two or more")
    return LabeledPhotos(tuple(paths), tuple(labels), tuple(map(str, range(max(labels) + 1))))


def read_image_folder(root: Path, split: str) -> LabeledPhotos:
    """List one split.

    Raises:
        InputError: There is no such folder, a class is empty, or there are fewer than two classes.
    """
    folder = root / split
    if folder.is_file():
        raise InputError(
            f"{folder} is neither a folder of classes nor a list: allowed are lists that end in {', '.join(LISTS)}"
        )
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

    Args:
        root: Folder of the data.
        train: A folder of classes, or a list with the ending .txt or .csv.
        test: Likewise; both must be of one kind.

    Raises:
        InputError: As :func:`read_image_folder` and :func:`read_image_list`; or one is a folder and the other a list;
            or the splits have different classes.
    """
    are_lists = [Path(split).suffix.lower() in LISTS for split in (train, test)]
    if are_lists[0] != are_lists[1]:
        raise InputError(
            f"both splits must be lists, or both folders of classes: received {train} and {test}; a list numbers its"
            " classes, a folder names them"
        )
    read = read_image_list if are_lists[0] else read_image_folder
    first, second = read(root, train), read(root, test)
    if first.classes != second.classes:
        differing = sorted(set(first.classes) ^ set(second.classes))
        raise InputError(
            f"the classes of {root}/{train} and {root}/{test} differ: {', '.join(differing[:5])}"
        )
    return first, second, names_fingerprint([train, *first.names(), test, *second.names()])


def ten_crops(image: Image.Image, size: int, resize: int) -> Tensor:
    """The four corners and the centre of a resized photo, and all five mirrored, (10, 3, size, size) uint8."""
    crops = ten_crop(resize_shorter_side(image, resize), [size, size])
    return torch.stack([to_tensor(crop) for crop in crops])


class LabeledViews(Dataset[tuple[Tensor, int]]):
    """Crops of labelled photos with their labels: a random one of a draw, the test's of a plain index.

    Args:
        photos: One split.
        view: The random crop; its ``size`` and ``resize`` also make the test's.
        seed: Seed of every draw.
        crops: Views of a photo at test: 1, the central one, or 10, with the corners, and all of them mirrored.
    """

    def __init__(
        self, photos: LabeledPhotos, view: RandomCrop | RandomResizedCrop, seed: int, crops: int = 1
    ):
        self.photos, self.view, self.seed, self.crops = photos, view, seed, crops

    def __len__(self) -> int:
        return len(self.photos.paths)

    def __getitem__(self, which: Any) -> tuple[Tensor, int]:
        """Views uint8 and the label: (3, size, size) of a Draw, (crops, 3, size, size) of an index.

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
        label, size, resize = self.photos.labels[index], self.view.size, self.view.resize
        if isinstance(which, Draw):
            return self.view(image, draw_rng(self.seed, which)), label
        if self.crops == 10:
            return ten_crops(image, size, resize), label
        return center_crop(image, size, resize)[None], label
