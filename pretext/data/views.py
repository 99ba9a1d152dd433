"""Views of photos as torch data sets, which CPU workers read."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from PIL import Image
from torch.utils.data import Dataset

from pretext.data.crops import View, center_crop
from pretext.data.photos import Photos, try_image
from pretext.data.sampling import Draw, draw_rng
from pretext.errors import InputError

#: How many photos in a row may be unreadable before one sample gives up.
MAX_TRIES = 64


class PretrainingViews(Dataset[dict[str, Any]]):
    """Views of unlabeled photos, one per draw.

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
        """Return the sample of one draw.

        Returns:
            ``image`` uint8 (3, size, width); ``index`` of the photo shown among all; ``unreadable``, a list of
            (photo's name, reason) of the photos that were skipped to find a readable one.
        """
        index, image, unreadable = self.readable(draw.index)
        return {
            "image": self.view(image, draw_rng(self.seed, draw)),
            "index": index,
            "unreadable": list(unreadable.items()),
        }

    def readable(self, position: int) -> tuple[int, Image.Image, dict[str, str]]:
        """Return the first photo from ``position`` on that can be decoded.

        Returns:
            Its number among all, itself, and the names of those that were skipped, with the reason.

        Raises:
            InputError: Many in a row are unreadable.
        """
        unreadable: dict[str, str] = {}
        for step in range(min(MAX_TRIES, len(self))):
            index = int(self.indices[(position + step) % len(self)])
            image = try_image(self.photos, index, unreadable)
            if image is not None:
                return index, image, unreadable
        name, reason = next(iter(unreadable.items()))
        raise InputError(
            f"{len(unreadable)} photos in a row are unreadable",
            received=f"first {name} ({reason})",
            allowed="allowed are whole JPEG, PNG and WebP files",
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
        """Return the sample at a position; see `PretrainingViews`."""
        index, image, unreadable = self.views.readable(position)
        view = self.views.view
        return {
            "image": center_crop(image, view.size, view.resize),
            "index": index,
            "unreadable": list(unreadable.items()),
        }


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Batch samples: ``image`` uint8 (N, 3, H, W), ``index`` int64 (N,), ``unreadable`` one joined list."""
    return {
        "image": torch.stack([sample["image"] for sample in samples]),
        "index": torch.tensor([sample["index"] for sample in samples]),
        "unreadable": [entry for sample in samples for entry in sample["unreadable"]],
    }
