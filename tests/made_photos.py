"""Photos made on the spot."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from pretext.data.decoding import UnreadablePhotoError


def smooth_photos(count, cells=8, side=64):
    """Square photos of smooth random colours; ``cells`` colours a side, interpolated."""
    generator = torch.Generator().manual_seed(0)
    colors = torch.rand(count, 3, cells, cells, generator=generator)
    return (F.interpolate(colors, size=side, mode="bilinear") * 255).to(torch.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    """The picture as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def gradient(side: int = 16) -> Image.Image:
    """A picture in which red goes up from left to right, and green from the top down."""
    rows = np.linspace(0, 255, side).astype(np.uint8)
    return Image.fromarray(
        np.stack(
            [np.tile(rows, (side, 1)), np.tile(rows[:, None], side), np.full((side, side), 90)], 2
        ).astype(np.uint8)
    )


class Memory:
    """Photos of noise in memory, the ones in ``broken`` unreadable."""

    kind = "photos"

    def __init__(self, count, broken=()):
        self.count, self.broken = count, set(broken)

    def __len__(self):
        return self.count

    def name(self, index):
        return f"photo{index}"

    key = name

    def image(self, index):
        if index in self.broken:
            raise UnreadablePhotoError("broken")
        pixels = np.random.default_rng(index).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        return Image.fromarray(pixels)


class UnreadPhotos:
    """Photos that must not be looked at."""

    kind = "photos"

    def __len__(self):
        pytest.fail("photos were counted")

    def name(self, index):
        pytest.fail("a photo was named")

    def key(self, index):
        pytest.fail("a photo was named")

    def image(self, index):
        pytest.fail("a photo was read")


def gray_folder(folder, count):
    """Make a folder of photos without colour, some of them saved as RGB with the noise that JPEG adds."""
    folder.mkdir()
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (6, 8), dtype=np.uint8)
        photo = Image.fromarray(pixels).resize((64, 48), Image.Resampling.BICUBIC)
        photo.convert("RGB" if number % 2 else "L").save(folder / f"gray{number}.jpg")
    return folder
