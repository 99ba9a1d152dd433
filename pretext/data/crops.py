"""From a photo in RGB to a tensor: random crops for training, the central one for tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pretext.errors import InputError

#: A photo is resized to so many pixels at the most: 100 MB in RGB.
MAX_RESIZED = 1 << 25
#: Principal components of ImageNet's colours, one per column, R, G and B per row, and their eigenvalues, for values of
#: 0..1, as fb.resnet.torch and FAIR's benchmark have them.
_COLOR_COMPONENTS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)
_COLOR_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])


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
        """Return a view (3, size, width) uint8 of an RGB photo; the width is the same for all photos."""
        ...


@dataclass(frozen=True)
class CentralCrop:
    """Resize, crop the centre, shift the colours at random, mirror at random.

    Attributes:
        size: Side of the square crop in pixels.
        resize: Length of the photo's shorter side before cropping, in pixels; at least ``size``.
        flip: Whether to mirror every other photo, at random.
        lighting: Standard deviation of three random factors, by which all pixels are shifted along the principal
            components of ImageNet's colours, each times its eigenvalue (Krizhevsky et al., NIPS 2012, section 4.1, have
            0.1); 0 for none. Shifted colours are rounded and kept within 0..255.
    """

    size: int
    resize: int
    flip: bool = True
    lighting: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.size <= self.resize and self.lighting >= 0):
            raise InputError(
                "CentralCrop cannot cut such crops",
                received=f"size={self.size}, resize={self.resize}, lighting={self.lighting}",
                allowed="0 < size <= resize and lighting from 0 up",
            )

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Tensor:
        """Return a view (3, size, size) uint8 of an RGB photo."""
        view = center_crop(image, self.size, self.resize)
        if self.lighting:
            shift = 255 * _COLOR_COMPONENTS @ (rng.normal(0.0, self.lighting, 3) * _COLOR_EIGENVALUES)
            shifted = view + torch.from_numpy(shift).view(3, 1, 1)
            view = shifted.round().clamp(0, 255).to(torch.uint8)
        return view.flip(2) if self.flip and rng.random() < 0.5 else view


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
        resize_up_to: Greatest length of the shorter side before cropping, in pixels: it is drawn from ``resize`` up to
            this, both included; None always takes ``resize``. Not beside ``min_scale`` below 1.
    """

    size: int
    resize: int
    flip: bool = True
    min_scale: float = 1.0
    square: bool = False
    resize_up_to: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.size <= self.resize or not 0 < self.min_scale <= 1:
            raise InputError(
                "RandomCrop cannot cut such crops",
                received=f"size={self.size}, resize={self.resize}, min_scale={self.min_scale}",
                allowed="0 < size <= resize and 0 < min_scale <= 1",
            )
        if self.resize_up_to is not None and (self.resize_up_to < self.resize or self.min_scale < 1):
            raise InputError(
                "RandomCrop cannot draw the length of the shorter side",
                received=f"resize_up_to={self.resize_up_to}, resize={self.resize}, min_scale={self.min_scale}",
                allowed="resize <= resize_up_to and min_scale=1",
            )

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Tensor:
        """Return a view (3, size, size) uint8 of an RGB photo."""
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
            lengths = (self.resize_up_to or self.resize) - self.resize + 1
            image = resize_shorter_side(image, self.resize + int(where[3] * lengths))
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
                "RandomResizedCrop cannot cut such crops",
                received=f"size={self.size}, resize={self.resize}, scale={scale}, ratio={ratio}",
                allowed="0 < size <= resize, and from the least to the greatest 0 < scale <= 1 and 0 < ratio",
            )

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Tensor:
        """Return a view (3, size, size) uint8 of an RGB photo."""
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
class RandomWindowCrop:
    """Cut a square window of a random size at a random place, resize it, mirror at random.

    The crop of Kraehenbuehl et al. (ICLR 2016): src/caffe/layers/transformation_layer.cpp of philkr/caffe, branch
    ``future``. It interpolates bilinearly, without smoothing where the window is larger than the view.

    Differences from the layer: a view's pixels lie evenly in the window. The layer's begin at its border, up to half a
    pixel of the photo away.

    Attributes:
        size: Side of the square view in pixels.
        resize: Length of the shorter side where the central crop is asked for.
        flip: Whether to mirror every other photo, at random.
        scale: Least and greatest side of the window, over ``size``. The greatest is at most the photo's shorter side;
            if the least is more than that, the window has the shorter side.
    """

    size: int
    resize: int
    flip: bool = True
    scale: Sequence[float] = (0.5, 2.0)

    def __post_init__(self) -> None:
        if not (0 < self.size <= self.resize and 0 < self.scale[0] <= self.scale[1]):
            raise InputError(
                "RandomWindowCrop cannot cut such crops",
                received=f"size={self.size}, resize={self.resize}, scale={self.scale}",
                allowed="0 < size <= resize, and from the least to the greatest 0 < scale",
            )

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Tensor:
        """Return a view (3, size, size) uint8 of an RGB photo."""
        box = self._box(image, rng)
        image = image.transform(
            (self.size, self.size), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR
        )
        if self.flip and rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return to_tensor(image)

    def _box(self, image: Image.Image, rng: np.random.Generator) -> tuple[float, float, float, float]:
        least, greatest = (min(scale * self.size, *image.size) for scale in self.scale)
        side = rng.uniform(least, greatest)
        left, top = rng.uniform(0, image.width - side), rng.uniform(0, image.height - side)
        return left, top, left + side, top + side


@dataclass(frozen=True)
class PairCrop:
    """Resize both pictures of a pair and crop both at the same random place.

    It does not mirror, which would change the direction of a motion; a method that can bear it mirrors itself.

    Attributes:
        size: Side of the square crops in pixels.
        resize: Length of each picture's shorter side before cropping, in pixels; at least ``size``.
    """

    size: int
    resize: int

    def __post_init__(self) -> None:
        if not 0 < self.size <= self.resize:
            raise InputError(
                "PairCrop cannot cut such crops",
                received=f"size={self.size}, resize={self.resize}",
                allowed="0 < size <= resize",
            )

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Tensor:
        """Return a view (3, size, 2 size) uint8 of a pair."""
        middle = image.width // 2
        pictures = [
            resize_shorter_side(image.crop(box), self.resize)
            for box in ((0, 0, middle, image.height), (middle, 0, 2 * middle, image.height))
        ]
        left, top = (
            int(draw * (side - self.size + 1))
            for draw, side in zip(rng.random(2), pictures[0].size, strict=True)
        )
        view = Image.new("RGB", (2 * self.size, self.size))
        for number, picture in enumerate(pictures):
            view.paste(picture.crop((left, top, left + self.size, top + self.size)), (number * self.size, 0))
        return to_tensor(view)


#: Every view by the name that configs and records have.
VIEWS: Mapping[str, type[View]] = MappingProxyType(
    {
        "CentralCrop": CentralCrop,
        "PairCrop": PairCrop,
        "RandomCrop": RandomCrop,
        "RandomResizedCrop": RandomResizedCrop,
        "RandomWindowCrop": RandomWindowCrop,
    }
)


def _central_box(image: Image.Image, side: int) -> tuple[int, int, int, int]:
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return left, top, left + side, top + side


def resize_shorter_side(image: Image.Image, length: int) -> Image.Image:
    """Resize so that the shorter side has ``length`` pixels, keeping the aspect ratio.

    Of a photo so long and thin that this would take more than MAX_RESIZED pixels, only the central part is kept.
    """
    shorter = min(image.size)
    if shorter == length:
        return image
    longest = max(shorter, int(shorter * MAX_RESIZED / length**2))
    if shorter < length and longest < max(image.size):
        width, height = (min(side, longest) for side in image.size)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))
    size = (
        max(length, round(image.width * length / shorter)),
        max(length, round(image.height * length / shorter)),
    )
    return image.resize(size, Image.Resampling.BILINEAR)


def center_crop(image: Image.Image, size: int, resize: int) -> Tensor:
    """Return the central (3, size, size) uint8 view of a photo whose shorter side is resized to ``resize``."""
    image = resize_shorter_side(image, resize)
    return to_tensor(image.crop(_central_box(image, size)))


def to_tensor(image: Image.Image) -> Tensor:
    """Return an RGB photo as a uint8 tensor (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
