"""Files in the layouts that readers expect: folders of photos, ImageFolder, and PASCAL VOC devkits."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from pretext.data.toyworld.canvas import Bytes
from pretext.data.toyworld.classes import TOY_CLASSES
from pretext.data.toyworld.plan import Split, ToyworldSizes, splits
from pretext.data.toyworld.scenes import Scene

_JPEG_QUALITY = 92

#: Classes of one photo: index -> whether all its objects of that class are difficult.
PhotoLabels = dict[int, bool]


@dataclass(frozen=True)
class PhotoRecord:
    """What the lists of a devkit need to know of a photo."""

    name: str
    labels: PhotoLabels


def make_folders(root: Path) -> None:
    """Make every folder that photos are written to, under `root`."""
    folders = ["unlabeled"]
    folders += [f"labeled/{split}/{name}" for split in ("train", "val") for name in TOY_CLASSES]
    folders += [f"VOCdevkit/VOC2007/{name}" for name in ("JPEGImages", "Annotations", "ImageSets/Main")]
    folders += [
        f"VOCdevkit/VOC2012/{name}" for name in ("JPEGImages", "Annotations", "ImageSets/Segmentation")
    ]
    folders += [f"VOCdevkit/VOC2012/{name}" for name in ("SegmentationClass", "SegmentationObject")]
    for folder in folders:
        (root / folder).mkdir(parents=True)


def write_photo(root: Path, split: Split, index: int, scene: Scene, label: int) -> PhotoRecord:
    """Write photo `index` of a split, with its annotation and masks where the layout has them.

    Args:
        root: the data set.
        split: where the photo belongs.
        index: its number in the split, from 0.
        scene: photo and objects.
        label: the class of a labeled photo; not used elsewhere.

    Returns:
        What the lists need.
    """
    name = f"{split.first + index:06d}"
    if split.place == "unlabeled":
        _save_jpeg(scene.image, root / "unlabeled" / f"{name}.jpg")
    elif split.place == "labeled":
        _save_jpeg(scene.image, root / "labeled" / split.name / TOY_CLASSES[label] / f"{name}.jpg")
    else:
        name = name if split.place == "VOC2007" else f"2012_{name}"
        _write_voc_photo(root / "VOCdevkit" / split.place, split.place, name, scene)
    labels: PhotoLabels = {}
    for item in scene.objects:
        labels[item.label] = labels.get(item.label, True) and item.difficult
    return PhotoRecord(name, labels)


def write_lists(root: Path, sizes: ToyworldSizes, records: dict[int, list[PhotoRecord]]) -> None:
    """Write labels.txt and ImageSets of both devkits.

    Args:
        root: the data set.
        sizes: numbers of photos.
        records: of every photo, in order, by `Split.number`.
    """
    for place, kind in (("VOC2007", "Main"), ("VOC2012", "Segmentation")):
        lists = {s.name: records[s.number] for s in splits(sizes) if s.place == place}
        lists["trainval"] = lists["train"] + lists["val"]
        devkit = root / "VOCdevkit" / place
        _write_lines(devkit / "labels.txt", TOY_CLASSES)
        for split, photos in lists.items():
            _write_lines(devkit / "ImageSets" / kind / f"{split}.txt", [photo.name for photo in photos])
            if kind == "Main":
                for label, name in enumerate(TOY_CLASSES):
                    lines = [f"{photo.name} {_presence(photo, label):2d}" for photo in photos]
                    _write_lines(devkit / "ImageSets" / kind / f"{name}_{split}.txt", lines)


def voc_color_map() -> Bytes:
    """Return the palette of PASCAL VOC, (256, 3): the bits of an index dealt out to R, G, B from the top bit down."""
    index = np.arange(256)
    palette = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((index >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return palette


def _presence(photo: PhotoRecord, label: int) -> int:
    """1 if the class is in the photo, 0 if only as difficult objects, -1 if not."""
    if label not in photo.labels:
        return -1
    return 0 if photo.labels[label] else 1


def _write_voc_photo(devkit: Path, place: str, name: str, scene: Scene) -> None:
    """Write JPEG and XML, and for VOC2012 the masks of classes and of objects."""
    _save_jpeg(scene.image, devkit / "JPEGImages" / f"{name}.jpg")
    has_masks = place == "VOC2012"
    annotation = _annotation(place, name, scene, segmented=has_masks)
    (devkit / "Annotations" / f"{name}.xml").write_text(annotation, encoding="utf-8")
    if has_masks:
        _save_mask(scene.class_mask, devkit / "SegmentationClass" / f"{name}.png")
        _save_mask(scene.owners, devkit / "SegmentationObject" / f"{name}.png")


def _annotation(place: str, name: str, scene: Scene, *, segmented: bool) -> str:
    """Return the XML of a photo; boxes are written as VOC does, 1-based and inclusive."""
    height, width = scene.image.shape[:2]
    root = ElementTree.Element("annotation")
    _add(root, folder=place, filename=f"{name}.jpg")
    _add(ElementTree.SubElement(root, "source"), database="toy world")
    _add(ElementTree.SubElement(root, "size"), width=width, height=height, depth=3)
    _add(root, segmented=int(segmented))
    for item in scene.objects:
        node = ElementTree.SubElement(root, "object")
        _add(node, name=TOY_CLASSES[item.label], pose="Unspecified")
        _add(node, truncated=int(item.truncated), difficult=int(item.difficult))
        xmin, ymin, xmax, ymax = (edge + 1 for edge in item.box)
        _add(ElementTree.SubElement(node, "bndbox"), xmin=xmin, ymin=ymin, xmax=xmax, ymax=ymax)
    ElementTree.indent(root, "\t")
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _add(node: ElementTree.Element, **values: str | int) -> None:
    """Add one child with text for each keyword."""
    for tag, value in values.items():
        ElementTree.SubElement(node, tag).text = str(value)


def _save_jpeg(image: Bytes, path: Path) -> None:
    """Save (H, W, 3) without chroma subsampling, which would blur the colours that are to be learnt."""
    Image.fromarray(image).save(path, quality=_JPEG_QUALITY, subsampling=0)


def _save_mask(mask: Bytes, path: Path) -> None:
    """Save (H, W) indices as a palette PNG in the colours of VOC."""
    image = Image.fromarray(mask)
    image.putpalette(voc_color_map().tobytes())
    image.save(path)


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    """Write a text file, one entry per line."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
