"""Photos with masks of classes, for segmentation: read, checked, and cropped together."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image
from scipy.io import loadmat
from torch.utils.data import Dataset

from pretext.data.crops import to_tensor
from pretext.data.decoding import PhotoHeader, UnreadablePhotoError, read_header, without_texts
from pretext.data.sampling import Draw, draw_rng
from pretext.errors import InputError
from transfer.data.orientation import belongs_upright, other_size, tell_assumed
from transfer.data.sbd import COUNTS, sbd_split
from transfer.data.voc import VOID, VocMask, open_voc, read_image


@dataclass(frozen=True)
class ScaledCrop:
    """Scale a photo and its mask at random, crop them at a random place, mirror them at random.

    Attributes:
        size: Side of the crop in pixels; it is smaller where the scaled photo is.
        scale: Smallest and largest factor, drawn uniformly.
        flip: Whether to mirror every other photo, at random.
    """

    size: int
    scale: tuple[float, float]
    flip: bool

    def __post_init__(self) -> None:
        low, high = self.scale
        if self.size < 1 or not 0 < low <= high:
            raise InputError(
                "the crop cannot be made",
                received=f"crop={self.size}, scales={self.scale}",
                allowed="crop >= 1 and scales = (low, high) with 0 < low <= high",
            )

    def __call__(
        self, photo: Image.Image, mask: Image.Image, rng: np.random.Generator
    ) -> tuple[Image.Image, Image.Image]:
        """Return a view of both, at most (size, size)."""
        where = rng.random(4)
        factor = self.scale[0] + (self.scale[1] - self.scale[0]) * where[3]
        scaled = [max(1, round(length * factor)) for length in photo.size]
        crop = [min(self.size, length) for length in scaled]
        start = [int(where[axis] * (scaled[axis] - crop[axis] + 1)) for axis in (0, 1)]
        # The part of the photo that becomes the crop is resized at once, not the whole photo.
        unit = [photo.size[axis] / scaled[axis] for axis in (0, 1)]
        corners = [start[0], start[1], start[0] + crop[0], start[1] + crop[1]]
        box = tuple(corner * unit[i % 2] for i, corner in enumerate(corners))
        photo = photo.resize((crop[0], crop[1]), Image.Resampling.BILINEAR, box=box)
        mask = mask.resize((crop[0], crop[1]), Image.Resampling.NEAREST, box=box)
        if self.flip and where[2] < 0.5:
            photo = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            mask = mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return photo, mask


class MaskedPhotos(Dataset[dict[str, Any]]):
    """Photos with masks as mmsegmentation's samples: a random crop for a draw, the whole photo for a plain index.

    Args:
        entries: Where photos and masks are.
        classes: Names of the classes in the masks' order, the background first.
        view: How to crop; None for whole photos.
        seed: Seed of every draw.

    Attributes:
        metainfo: The classes, as mmengine's loops look for them.
    """

    def __init__(
        self, entries: Sequence[VocMask], classes: Sequence[str], view: ScaledCrop | None, seed: int
    ):
        self.entries, self.view, self.seed = entries, view, seed
        self.metainfo = {"classes": tuple(classes)}

    def __len__(self) -> int:
        return len(self.entries)

    def chosen(self, numbers: Int[np.ndarray, " k"]) -> "MaskedPhotos":
        """Return some of the photos, in the order of their numbers here."""
        entries = [self.entries[number] for number in numbers]
        return MaskedPhotos(entries, self.metainfo["classes"], self.view, self.seed)

    def names(self) -> list[str]:
        """Return the names of the photos, in order."""
        return [entry.name for entry in self.entries]

    def __getitem__(self, which: Any) -> dict[str, Any]:
        """Return ``inputs`` uint8 (3, H, W) RGB, and ``data_samples`` with the mask int64 (1, H, W)."""
        photo, mask = self.read(which.index if isinstance(which, Draw) else which)
        if isinstance(which, Draw) and self.view is not None:
            photo, mask = self.view(photo, mask, draw_rng(self.seed, which))
        shape = (photo.height, photo.width)
        sample = SegDataSample(metainfo={"ori_shape": shape, "img_shape": shape})
        sample.gt_sem_seg = PixelData(data=torch.from_numpy(np.array(mask, dtype=np.int64))[None])
        return {"inputs": to_tensor(photo), "data_samples": sample}

    def header(self, index: int) -> PhotoHeader:
        """Read the photo's size and orientation.

        Raises:
            InputError: It is not a photo.
        """
        path = self.entries[index].path
        try:
            return read_header(path)
        except UnreadablePhotoError as error:
            raise InputError(f"cannot read {path} as a photo: {error}", allowed="copy it again") from error

    def read(self, index: int) -> tuple[Image.Image, Image.Image]:
        """Read the photo in RGB and its mask in mode L, at their own size: both as stored, or both upright.

        Raises:
            InputError: One of them cannot be decoded, their sizes differ, or the mask is not one of classes or holds a
                value that is neither a class nor 255.
        """
        entry, header = self.entries[index], self.header(index)
        values = _read_mask(entry.mask)
        size = (values.shape[1], values.shape[0])
        upright = belongs_upright(header, size)
        if upright is None:
            raise other_size(entry.mask, entry.path, header, size)
        classes = self.metainfo["classes"]
        last = len(classes) - 1
        odd = np.setdiff1d(values[values > last], VOID)
        if odd.size:
            raise InputError(
                f"{entry.mask} holds values that are not classes",
                received=odd[:5].tolist(),
                allowed=f"allowed are 0 to {last} ({', '.join(classes)}) and {VOID} = void",
            )
        return read_image(entry.path, upright=upright), Image.fromarray(values)


def _read_mask(path: Path) -> UInt8[np.ndarray, "h w"]:
    try:
        if path.suffix == ".mat":
            values, mode = _read_mat(path), "L"
        else:
            with Image.open(io.BytesIO(without_texts(path.read_bytes())), formats=("PNG",)) as opened:
                mode, values = opened.mode, np.array(opened)
    except (
        Exception
    ) as error:  # Pillow's and SciPy's errors are of many kinds, some of them plain exceptions.
        raise InputError(f"cannot read {path} as a mask: {error}", allowed="unpack the tree again") from error
    if mode not in ("P", "L") or values.dtype != np.uint8 or values.ndim != 2:
        raise InputError(
            f"{path} is not a mask of classes",
            received=f"an image of mode {mode}",
            allowed="allowed are palette and 8-bit gray PNGs whose values are classes",
        )
    return values


def _read_mat(path: Path) -> np.ndarray:
    """Read the classes in a file of the Semantic Boundaries Dataset."""
    values: np.ndarray = loadmat(path, variable_names=["GTcls"])["GTcls"]["Segmentation"][0, 0]
    return values


def read_masks(
    data: Path,
    year: int,
    splits: Sequence[str],
    view: ScaledCrop | None,
    seed: int,
    check_counts: bool = True,
) -> list[MaskedPhotos]:
    """Find splits of a VOC devkit, and check them by reading every photo and mask once.

    Args:
        data: See :func:`open_voc`.
        year: See :func:`open_voc`.
        splits: Names of lists in ``ImageSets/Segmentation``, or of splits that `sbd_split` computes.
        view: How to crop for training; None for whole photos.
        seed: Seed of every draw.
        check_counts: Whether computed splits must be as long as the papers'.

    Raises:
        InputError: A list, a photo or a mask is missing or not what it must be.
    """
    devkit = open_voc(data, year)
    classes = ("background", *devkit.classes)
    entries = [
        sbd_split(data, split, check_counts) if split in COUNTS else devkit.masks(split) for split in splits
    ]
    found = [MaskedPhotos(each, classes, view, seed) for each in entries]
    for photos in found:
        for index in range(len(photos)):
            photos.read(index)
    tell_assumed(photos.header(index) for photos in found for index in range(len(photos)))
    return found


def collate(samples: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return lists of inputs and of samples; mmsegmentation pads and stacks them on the device."""
    return {key: [sample[key] for sample in samples] for key in ("inputs", "data_samples")}
