"""Counting as a pretext task: "Representation Learning by Learning to Count" (Noroozi, Pirsiavash, Favaro, ICCV 2017).

What a photo shows is counted by a vector, and the counts of its four quarters must add up to its own.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from pretext.backbones.base import Backbone
from pretext.checks import check_at_least
from pretext.errors import InputError
from pretext.methods.base import Method
from pretext.methods.parts.heads import MapHead
from pretext.methods.parts.patches import gray_at_random, tiles_of_cells

#: How a photo is made half as large.
_DOWNSAMPLERS: dict[str, Callable[[Tensor, list[int]], Tensor]] = {
    "area": lambda photos, size: F.interpolate(photos, size, mode="area"),
    "bilinear": lambda photos, size: F.interpolate(photos, size, mode="bilinear", antialias=True),
    "bicubic": lambda photos, size: F.interpolate(photos, size, mode="bicubic", antialias=True).clamp(0, 255),
}
DOWNSAMPLING = tuple(_DOWNSAMPLERS)
#: Tiles a side.
GRID = 2


class Counting(Method):
    """Finds features of a photo that are the sum of the features of its four tiles.

    Photo and tiles get the same size in pixels: the photo is made half as large, its tiles are its quarters as they
    are. All five go through the same backbone in one batch. The distance to the sum of another photo's tiles must be
    large (equation 3), or else features of zero would do.

    Args:
        backbone: What is pretrained.
        layer: The backbone's layer that the head stands on.
        margin: The paper's M: the squared distance to another photo's tiles that is large enough.
        num_features: Length of the vector that counts.
        downsampling: Ways in which the photos are made half as large, of ``area``, ``bilinear`` and ``bicubic``; one is
            drawn for each batch, so that its traces do not tell photo and tiles apart.
        gray: Share of the photos that are shown in gray, against chromatic aberration.
        head_size: Positions a side that the backbone's map is pooled to.
        head_hidden: Length of the hidden layer.

    Raises:
        InputError: An argument is none of the allowed values; a batch has one photo alone.

    Differences from the paper: photos of 48 to 64 pixels in place of 114; Lanczos is not among the ways of
    downsampling, one of which is drawn for a batch and not for a photo; one hidden layer with batch norm in place of
    fc6 and fc7; counts are divided by the root of their number, so that they begin at distances like the margin; the
    photo is not cropped by the method. With several processes the other photo is one of the same process.
    """

    name = "counting"
    least_batch = 2
    whole_photos = False

    def __init__(
        self,
        backbone: Backbone,
        *,
        layer: str = "conv5",
        margin: float = 10.0,
        num_features: int = 1000,
        downsampling: Sequence[str] = DOWNSAMPLING,
        gray: float = 0.67,
        head_size: int = 3,
        head_hidden: int = 512,
    ):
        super().__init__(backbone)
        check_at_least("margin", margin, 0.0)
        check_at_least("num_features", num_features, 1)
        if not 0 <= gray <= 1:
            raise InputError(f"gray is a share: received {gray}, allowed are 0 to 1")
        if not downsampling or not set(downsampling) <= set(DOWNSAMPLING):
            raise InputError(
                f"unknown downsampling: received {downsampling}, allowed are some of {', '.join(DOWNSAMPLING)}"
            )
        self.layer = backbone.layer(layer)
        self.margin, self.gray, self.num_features = margin, gray, num_features
        self.downsampling = tuple(downsampling)
        self.head = MapHead(self.layer.channels, num_features, size=head_size, hidden=head_hidden)

    def forward(
        self, image: UInt8[Tensor, "n 3 h w"], index: Int[Tensor, " n"], mode: Literal["loss"] = "loss"
    ) -> dict[str, Tensor]:
        """The contrastive loss, the squared distances to a photo's own and to another's tiles, and what is counted."""
        if len(image) < 2:
            raise InputError(
                f"counting compares photos: received a batch of {len(image)}, allowed are 2 and above"
            )
        kind = self.downsampling[int(torch.randint(len(self.downsampling), ()))]
        small, tiles = halved_and_quartered(gray_at_random(image, self.gray), kind)
        inputs = torch.cat([small.unsqueeze(1), tiles], 1)
        counts = self.count(inputs.flatten(0, 1)).view(*inputs.shape[:2], -1)
        whole, parts = counts[:, 0], counts[:, 1:].sum(1)
        equal, different = distances_to_sums(whole, parts)
        return {
            "loss_counting": (equal + (self.margin - different).clamp_min(0)).mean(),
            "distance_equal": equal.detach().mean(),
            "distance_different": different.detach().mean(),
            "counted": (whole.detach() > 0).float().mean(),
        }

    def count(self, photos: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n features"]:
        """The features of photos, none of them negative, in single precision."""
        maps = self.backbone(photos, [self.layer.name])[self.layer.name]
        # The paper's margin is one of distances between vectors, which must not grow with their length.
        counts: Tensor = F.relu(self.head(maps).float()) / float(self.num_features) ** 0.5
        return counts


def halved_and_quartered(
    photos: UInt8[Tensor, "n 3 h w"], downsampling: str
) -> tuple[Float[Tensor, "n 3 size size"], Float[Tensor, "n 4 3 size size"]]:
    """Each photo's square at half its size, and its four quarters, all of the same size in pixels, 0..255.

    Args:
        photos: Their largest square of an even side is taken, at the top left.
        downsampling: ``area``, ``bilinear`` or ``bicubic``.
    """
    side = min(photos.shape[2:]) // GRID * GRID
    square = photos[..., :side, :side].float()
    return _DOWNSAMPLERS[downsampling](square, [side // GRID] * 2), tiles_of_cells(
        square, grid=GRID, share=1.0
    )


def distances_to_sums(
    whole: Float[Tensor, "n features"], parts: Float[Tensor, "n features"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Squared distances of each photo's features to its own tiles' sum, and of another photo's features to that sum.

    Equation 3's two terms: the other photo is the one before it in the batch, whose order is random.
    """
    equal = (whole - parts).square().sum(1)
    different = (whole.roll(1, 0) - parts).square().sum(1)
    return equal, different
