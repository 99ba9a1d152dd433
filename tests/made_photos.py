"""Photos made on the spot, and photos that must not be read."""

import pytest
import torch
from torch.nn import functional as F


def smooth_photos(count, cells=8, side=64):
    """Square photos of smooth random colours; ``cells`` colours a side, interpolated."""
    generator = torch.Generator().manual_seed(0)
    colors = torch.rand(count, 3, cells, cells, generator=generator)
    return (F.interpolate(colors, size=side, mode="bilinear") * 255).to(torch.uint8)


class UnreadPhotos:
    """Photos that must not be looked at."""

    def __len__(self):
        pytest.fail("photos were counted")

    def name(self, index):
        pytest.fail("a photo was named")

    def read(self, index):
        pytest.fail("a photo was read")
