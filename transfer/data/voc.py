"""PASCAL VOC devkit trees: lists, boxes and masks, all read and checked before anything is trained.

A year's folder (``VOCdevkit/VOC2007``) holds::

    ImageSets/Main/<split>.txt            names of photos, one per line
    ImageSets/Main/<class>_<split>.txt    a name and -1, 0 (only difficult objects) or 1; follows from the annotations
    ImageSets/Segmentation/<split>.txt    names of photos with masks
    Annotations/<name>.xml                size and objects
    JPEGImages/<name>.jpg
    SegmentationClass/<name>.png          class of each pixel: 0 background, 255 void
    labels.txt                            names of the classes, one per line; without it they are VOC's twenty
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8
from PIL import Image

from pretext.data.decoding import PhotoHeader, UnreadablePhotoError, read_header, read_rgb
from pretext.data.walking import is_hidden
from pretext.errors import InputError
from pretext.files import read_lines
from transfer.data.identity import names_fingerprint
from transfer.data.listed import check_files
from transfer.data.orientation import belongs_upright, other_size

#: Label of what is not judged: difficult objects in classification, void pixels in masks.
VOID = 255

#: The twenty classes in the devkit's order; in masks and detectors the first is 1, the background 0.
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
#: What stands behind each name in a list of one class.
_PRESENCE = re.compile(r"\s+(-1|0|1)$")


@dataclass(frozen=True, eq=False)
class VocPhoto:
    """A photo and its objects.

    Attributes:
        name: As in the lists, for instance ``000005``.
        path: The JPEG file.
        header: Its size and orientation.
        width: Pixels, as the annotation has it: of the stored photo or of the upright one.
        height: Pixels, as the annotation has it.
        boxes: (G, 4) x1, y1, x2, y2 in pixels, 0-based and continuous: [0, width] and [0, height]. The
            devkit's corners are 1-based pixels that belong to the box: xmin is x1 + 1, xmax is x2.
        labels: (G,) class of each object, 1..C.
        difficult: (G,) whether the annotators called it difficult.
    """

    name: str
    path: Path
    header: PhotoHeader
    width: int
    height: int
    boxes: Float32[np.ndarray, "g 4"]
    labels: Int64[np.ndarray, " g"]
    difficult: Bool[np.ndarray, " g"]

    @property
    def upright(self) -> bool:
        """Whether the boxes belong to the upright photo, and not to the stored pixels."""
        return bool(belongs_upright(self.header, (self.width, self.height)))


@dataclass(frozen=True)
class VocMask:
    """A photo with a mask of classes."""

    name: str
    path: Path
    mask: Path


@dataclass(frozen=True)
class VocYear:
    """One year of a devkit tree.

    Attributes:
        folder: The year's folder, for instance ``VOCdevkit/VOC2007``.
        classes: Names of its C classes; the first has label 1.
    """

    folder: Path
    classes: tuple[str, ...]

    def photos(self, split: str) -> list[VocPhoto]:
        """Read the photos of ``ImageSets/Main/<split>.txt`` with their objects, in the list's order.

        Raises:
            InputError: The list, a photo or an annotation is missing, damaged or empty; a size is wrong; or
                the class of an object is not known.
        """
        index = {name: label for label, name in enumerate(self.classes, 1)}
        names = self._names("Main", split)
        paths = self._files(names, "JPEGImages", ".jpg")
        annotations = self._files(names, "Annotations", ".xml")
        return [
            _read_photo(name, path, annotation, index)
            for name, path, annotation in zip(names, paths, annotations, strict=True)
        ]

    def masks(self, split: str) -> list[VocMask]:
        """List the photos of ``ImageSets/Segmentation/<split>.txt`` with their masks, in the list's order.

        Raises:
            InputError: The list is missing or empty, or a photo or a mask is missing.
        """
        names = self._names("Segmentation", split)
        paths = self._files(names, "JPEGImages", ".jpg")
        masks = self._files(names, "SegmentationClass", ".png")
        return [VocMask(*entry) for entry in zip(names, paths, masks, strict=True)]

    def _names(self, task: str, split: str) -> list[str]:
        path = self.folder / "ImageSets" / task / f"{split}.txt"
        if not path.is_file():
            splits = sorted(p.stem for p in path.parent.glob("*.txt") if "_" not in p.stem)
            raise InputError(
                f"the devkit has no list {path}",
                received=split,
                allowed=[name for name in splits if not is_hidden(name)],
            )
        names = [line.strip() for line in read_lines(path) if line.strip()]
        if not names:
            raise InputError(f"the split {split} is empty", allowed=f"write one name per line to {path}")
        if all(_PRESENCE.search(name) for name in names):
            names = [_PRESENCE.sub("", name) for name in names]
        return names

    def _files(self, names: Sequence[str], folder: str, suffix: str) -> list[Path]:
        paths = [self.folder / folder / f"{name}{suffix}" for name in names]
        check_files(f"the split in {folder}", paths, "unpack the tree again, or mend the list")
        return paths


def open_voc(data: Path, year: int) -> VocYear:
    """Find a year of a VOC devkit.

    Args:
        data: The folder that contains ``VOCdevkit``, the ``VOCdevkit`` itself, or its ``VOC<year>`` folder.
        year: 2007 or 2012, say.

    Raises:
        InputError: There is no such year below ``data``, it has no ``ImageSets``, or its ``labels.txt`` does not
            name each class once.
    """
    name = f"VOC{year}"
    places = [data / "VOCdevkit" / name, data / name, *([data] if data.name == name else [])]
    folder = next((place for place in places if place.is_dir()), None)
    if folder is None:
        raise InputError(
            f"no VOC devkit of {year}",
            received=str(data),
            allowed=f"name a folder that holds VOCdevkit/{name}, the VOCdevkit itself, or its folder {name}",
        )
    if not (folder / "ImageSets").is_dir():
        raise InputError(
            f"{folder} is not a VOC devkit: it has no ImageSets",
            allowed="it needs ImageSets/Main/<split>.txt, Annotations and JPEGImages",
        )
    listed = folder / "labels.txt"
    if not listed.is_file():
        return VocYear(folder, VOC_CLASSES)
    classes = tuple(line.strip() for line in read_lines(listed) if line.strip())
    if not classes or len(set(classes)) < len(classes):
        raise InputError(
            f"{listed} must name each class once", received=classes, allowed="write one per line"
        )
    return VocYear(folder, classes)


def classification_labels(photos: Sequence[VocPhoto], num_classes: int) -> UInt8[np.ndarray, "n c"]:
    """Return which classes each photo shows, as the devkit's ``<class>_<split>.txt`` lists say it.

    Returns:
        (N, C): 1 where an object of the class is not difficult, 255 where all of them are, 0 where there is
        none (1, 0 and -1 in the lists).
    """
    labels = np.zeros((len(photos), num_classes), dtype=np.uint8)
    for row, photo in zip(labels, photos, strict=True):
        row[photo.labels[photo.difficult] - 1] = VOID
        row[photo.labels[~photo.difficult] - 1] = 1
    return labels


def split_fingerprint(splits: Mapping[str, Sequence[VocPhoto] | Sequence[VocMask]]) -> str:
    """Return the SHA-256 of the splits' names and of the names of their photos, in their order."""
    return names_fingerprint(
        line for split, entries in splits.items() for line in (split, *(entry.name for entry in entries))
    )


def read_image(path: Path, *, upright: bool = True) -> Image.Image:
    """Decode a photo to RGB.

    Args:
        path: The photo.
        upright: Whether to apply the EXIF orientation; see `VocPhoto.upright` where boxes belong to the photo.

    Raises:
        InputError: It is damaged or gone.
    """
    try:
        return read_rgb(path, upright=upright)
    except UnreadablePhotoError as error:
        raise InputError(f"cannot decode {path}: {error}", allowed="copy the photo again") from error


def _read_photo(name: str, path: Path, annotation: Path, index: dict[str, int]) -> VocPhoto:
    try:
        header = read_header(path)
    except UnreadablePhotoError as error:
        raise InputError(f"cannot read {path} as a photo: {error}", allowed="copy it again") from error
    try:
        root = ET.parse(annotation).getroot()
        said = (_number(root, "size/width"), _number(root, "size/height"))
        objects = root.findall("object")
        corners = [[_number(entry, f"bndbox/{corner}") for corner in _CORNERS] for entry in objects]
        difficult = [_number(entry, "difficult", "0") != 0 for entry in objects]
    # LookupError is what an encoding that Python does not know raises.
    except (ET.ParseError, ValueError, LookupError, OSError) as error:
        raise InputError(
            f"cannot read {annotation}: {error}",
            allowed="a VOC annotation is XML with size/width, size/height and, for each object, name and"
            f" bndbox/{', '.join(_CORNERS)}",
        ) from error
    if belongs_upright(header, said) is None:
        raise other_size(annotation, path, header, said)
    width, height = map(int, said)
    boxes = np.array(corners, dtype=np.float32).reshape(-1, 4) - np.array([1, 1, 0, 0], dtype=np.float32)
    boxes = np.clip(boxes, 0, np.array([width, height] * 2, dtype=np.float32))
    if not (boxes[:, 2:] > boxes[:, :2]).all():
        raise InputError(
            f"{annotation} holds a box without area inside the photo of {width} x {height} pixels",
            received=corners,
            allowed=f"{', '.join(_CORNERS)} are 1-based and inclusive",
        )
    labels = np.array([_label(entry, annotation, index) for entry in objects], dtype=np.int64)
    return VocPhoto(name, path, header, width, height, boxes, labels, np.array(difficult, dtype=np.bool_))


def _number(element: ET.Element, path: str, default: str | None = None) -> float:
    text = element.findtext(path, default)
    if text is None:
        raise ValueError(f"{path} is missing")
    return float(text)


def _label(entry: ET.Element, annotation: Path, index: dict[str, int]) -> int:
    name = (entry.findtext("name") or "").strip()
    if name not in index:
        raise InputError(f"{annotation} holds an object of an unknown class", received=name, allowed=index)
    return index[name]
