"""What must be sampled on CPU workers: which photo, which crop, mirrored or not.

Every draw is a function of (seed, epoch, index of the photo) alone, so that a run on one process or two, with
no worker or four, or stopped and resumed in mid-epoch, sees the same crops.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from pretext.data.photos import Photos, UnreadablePhotoError, decode_rgb
from pretext.errors import InputError

#: How many photos in a row may be unreadable before one sample gives up.
MAX_TRIES = 64


@dataclass(frozen=True)
class Draw:
    """One sample of a run: the photo and the epoch it is seen in."""

    epoch: int
    index: int


def draw_rng(seed: int, draw: Draw) -> np.random.Generator:
    """The random numbers of one draw of a run with that seed."""
    return np.random.default_rng((seed, draw.epoch, draw.index))


@runtime_checkable
class View(Protocol):
    """What a config may name as the view of a pretraining run."""

    @property
    def size(self) -> int:
        """Height of a view, and side of the central crop, in pixels."""
        ...

    @property
    def resize(self) -> int:
        """Length of the shorter side before the central crop, in pixels."""
        ...

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Tensor:
        """A view (3, size, width) uint8 of an RGB photo; the width is the same for all photos."""
        ...


@dataclass(frozen=True)
class RandomCrop:
    """Resize, crop at a random place, mirror at random.

    Attributes:
        size: Side of the square crop in pixels.
        resize: Length of the photo's shorter side before cropping, in pixels; at least ``size``.
        flip: Whether to mirror every other photo, at random.
        min_scale: If below 1, the crop is first cut with a side of ``min_scale`` to 1 times the shorter
            side, then resized to ``size``; ``resize`` is then not used.
        square: Whether to crop within the photo's central square only.
    """

    size: int
    resize: int
    flip: bool = True
    min_scale: float = 1.0
    square: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.size <= self.resize or not 0 < self.min_scale <= 1:
            raise InputError(
                f"a crop needs 0 < size <= resize and 0 < min_scale <= 1: received size={self.size},"
                f" resize={self.resize}, min_scale={self.min_scale}"
            )

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Tensor:
        """A view (3, size, size) uint8 of an RGB photo."""
        where = rng.random(4)
        if self.square:
            side = min(image.size)
            image = image.crop(_central_box(image, side))
        if self.min_scale < 1:
            side = min(image.size) * (self.min_scale + (1 - self.min_scale) * where[3])
            left, top = (image.width - side) * where[0], (image.height - side) * where[1]
            box = (left, top, left + side, top + side)
            image = image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=box)
        else:
            image = resize_shorter_side(image, self.resize)
            left = int(where[0] * (image.width - self.size + 1))
            top = int(where[1] * (image.height - self.size + 1))
            image = image.crop((left, top, left + self.size, top + self.size))
        if self.flip and where[2] < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return to_tensor(image)


@dataclass(frozen=True)
class RandomResizedCrop:
    """Cut a random part of a random shape, resize it, mirror at random ("Inception" crop of Szegedy et al. 2015).

    Attributes:
        size: Side of the square view in pixels.
        resize: Length of the shorter side at test, of which the central ``size`` pixels are taken.
        flip: Whether to mirror every other photo, at random.
        scale: Least and greatest area of the part, as a share of the photo's.
        ratio: Least and greatest width of the part over its height.
    """

    size: int
    resize: int
    flip: bool = True
    scale: Sequence[float] = (0.08, 1.0)
    ratio: Sequence[float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        scale, ratio = self.scale, self.ratio
        if not (0 < self.size <= self.resize and 0 < scale[0] <= scale[1] <= 1 and 0 < ratio[0] <= ratio[1]):
            raise InputError(
                "a crop needs 0 < size <= resize, 0 < scale <= 1 and 0 < ratio, from the least to the greatest:"
                f" received size={self.size}, resize={self.resize}, scale={scale}, ratio={ratio}"
            )

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Tensor:
        """A view (3, size, size) uint8 of an RGB photo."""
        image = image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=self._box(image, rng))
        if self.flip and rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return to_tensor(image)

    def _box(self, image: Image.Image, rng: np.random.Generator) -> tuple[int, int, int, int]:
        for _ in range(10):
            area = image.width * image.height * rng.uniform(self.scale[0], self.scale[1])
            ratio = np.exp(rng.uniform(*np.log(self.ratio)))
            width, height = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
            if 0 < width <= image.width and 0 < height <= image.height:
                left = int(rng.integers(image.width - width + 1))
                top = int(rng.integers(image.height - height + 1))
                return left, top, left + width, top + height
        return _central_box(image, min(image.size))


@dataclass(frozen=True)
class RandomScaleCrop:
    """Resize by a random factor, crop at a random place, mirror at random (Kraehenbuehl et al., ICLR 2016).

    Attributes:
        size: Side of the square crop in pixels.
        resize: Length of the shorter side where the central crop is asked for.
        flip: Whether to mirror every other photo, at random.
        scale: Least and greatest factor by which the photo is resized. Where it would become smaller than the crop,
            its shorter side gets the crop's size.
    """

    size: int
    resize: int
    flip: bool = True
    scale: Sequence[float] = (0.5, 2.0)

    def __post_init__(self) -> None:
        if not (0 < self.size <= self.resize and 0 < self.scale[0] <= self.scale[1]):
            raise InputError(
                "a crop needs 0 < size <= resize and 0 < scale, from the least to the greatest: received"
                f" size={self.size}, resize={self.resize}, scale={self.scale}"
            )

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Tensor:
        """A view (3, size, size) uint8 of an RGB photo."""
        draws = rng.random(4)
        factor = self.scale[0] + (self.scale[1] - self.scale[0]) * draws[0]
        side = min(self.size / factor, *image.size)
        left, top = (image.width - side) * draws[1], (image.height - side) * draws[2]
        box = (left, top, left + side, top + side)
        image = image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=box)
        if self.flip and draws[3] < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return to_tensor(image)


def _central_box(image: Image.Image, side: int) -> tuple[int, int, int, int]:
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return left, top, left + side, top + side


def resize_shorter_side(image: Image.Image, length: int) -> Image.Image:
    """Resize so that the shorter side has ``length`` pixels, keeping the aspect ratio."""
    shorter = min(image.size)
    if shorter == length:
        return image
    size = (
        max(length, round(image.width * length / shorter)),
        max(length, round(image.height * length / shorter)),
    )
    return image.resize(size, Image.Resampling.BILINEAR)


def center_crop(image: Image.Image, size: int, resize: int) -> Tensor:
    """The central (3, size, size) uint8 view of a photo whose shorter side is resized to ``resize``."""
    image = resize_shorter_side(image, resize)
    return to_tensor(image.crop(_central_box(image, size)))


def to_tensor(image: Image.Image) -> Tensor:
    """An RGB photo as a uint8 tensor (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


class PretrainingViews(Dataset[dict[str, Any]]):
    """Views of unlabeled photos, one a draw.

    A photo that cannot be decoded is replaced by the next one that can, and reported in the sample.

    Args:
        photos: Where the photos come from.
        indices: Which of them to use, (n,) int64.
        view: How to crop.
        seed: Seed of every draw.
    """

    def __init__(self, photos: Photos, indices: Int[np.ndarray, " n"], view: View, seed: int):
        self.photos = photos
        self.indices = indices
        self.view = view
        self.seed = seed

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        """The sample of one draw.

        Returns:
            ``image`` uint8 (3, size, width); ``index`` of the photo shown among all; ``unreadable``, a list of
            (photo's name, reason) of the photos that were skipped to find a readable one.
        """
        index, image, unreadable = self.readable(draw.index)
        return {
            "image": self.view(image, draw_rng(self.seed, draw)),
            "index": index,
            "unreadable": unreadable,
        }

    def readable(self, position: int) -> tuple[int, Image.Image, list[tuple[str, str]]]:
        """The first photo from ``position`` on that can be decoded: its number among all, itself, and what was skipped.

        Raises:
            InputError: Many in a row are unreadable.
        """
        unreadable: list[tuple[str, str]] = []
        for step in range(min(MAX_TRIES, len(self))):
            index = int(self.indices[(position + step) % len(self)])
            try:
                return index, decode_rgb(self.photos.read(index)), unreadable
            except (UnreadablePhotoError, OSError) as error:
                unreadable.append((self.photos.name(index), str(error)))
        raise InputError(
            f"{len(unreadable)} photos in a row are unreadable, first {unreadable[0][0]} ({unreadable[0][1]});"
            " allowed are whole JPEG, PNG and WebP files"
        )


class CentralViews(Dataset[dict[str, Any]]):
    """Central crops of the same photos as ``views``, in the order of their numbers; nothing is drawn.

    A photo that cannot be decoded is replaced as in `PretrainingViews`.
    """

    def __init__(self, views: PretrainingViews):
        self.views = views

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, position: int) -> dict[str, Any]:
        """The sample at a position; see `PretrainingViews`."""
        index, image, unreadable = self.views.readable(position)
        view = self.views.view
        return {"image": center_crop(image, view.size, view.resize), "index": index, "unreadable": unreadable}


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Batch samples: ``image`` uint8 (N, 3, H, W), ``index`` int64 (N,), ``unreadable`` one joined list."""
    return {
        "image": torch.stack([sample["image"] for sample in samples]),
        "index": torch.tensor([sample["index"] for sample in samples]),
        "unreadable": [entry for sample in samples for entry in sample["unreadable"]],
    }


class EpochSampler(Sampler[Draw]):
    """An endless stream of draws, each epoch a new permutation, that can start anywhere.

    Process ``rank`` takes the ``rank``-th part of each global batch, so that two processes with batches of 20
    see together what one process with batches of 40 sees. What does not fill a global batch is left out of
    that epoch.

    Args:
        num_samples: Photos in an epoch.
        batch_size: Samples a process and step.
        seed: Seed of the permutations.
        rank: Number of this process.
        world_size: Number of processes.

    Raises:
        InputError: One global batch needs more photos than there are.
    """

    def __init__(self, num_samples: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1):
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.steps_per_epoch = num_samples // (batch_size * world_size)
        self._skipped_steps = 0
        if self.steps_per_epoch == 0:
            raise InputError(
                f"{num_samples} photos do not fill one batch of {batch_size} on each of {world_size} processes;"
                " use more photos or a smaller batch_size"
            )

    def __len__(self) -> int:
        """Draws of this process in one epoch; the stream itself does not end."""
        return self.steps_per_epoch * self.batch_size

    def skip(self, num_samples: int) -> None:
        """Start after the first ``num_samples`` draws of this process (whole batches), without drawing them."""
        self._skipped_steps = num_samples // self.batch_size

    def __iter__(self) -> Iterator[Draw]:
        epoch, step = divmod(self._skipped_steps, self.steps_per_epoch)
        for number in count(epoch):
            order = np.random.default_rng((self.seed, number)).permutation(self.num_samples)
            for current in range(step, self.steps_per_epoch):
                start = (current * self.world_size + self.rank) * self.batch_size
                for index in order[start : start + self.batch_size]:
                    yield Draw(number, int(index))
            step = 0
