"""Counting as a pretext task: "Representation Learning by Learning to Count" (Noroozi, Pirsiavash, Favaro, ICCV 2017).

A vector counts what a photo shows, and the counts of the photo's four quarters must add up to its own.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from pretext.backbones.base import Backbone
from pretext.checks import check_at_least, check_share
from pretext.errors import InputError
from pretext.methods.base import Method, Scalars
from pretext.methods.parts.heads import MapHead
from pretext.methods.parts.patches import gray_at_random, tiles_of_cells

#: Ways to make a photo half as large.
_DOWNSAMPLERS: dict[str, Callable[[Tensor, list[int]], Tensor]] = {
    "area": lambda photos, size: F.interpolate(photos, size, mode="area"),
    "bilinear": lambda photos, size: F.interpolate(photos, size, mode="bilinear", antialias=True),
    "bicubic": lambda photos, size: F.interpolate(photos, size, mode="bicubic", antialias=True).clamp(0, 255),
}
DOWNSAMPLING = tuple(_DOWNSAMPLERS)
#: Tiles per side of a photo.
GRID = 2


class Counting(Method):
    """Learns features of a photo that are the sum of the features of its four tiles.

    Photo and tiles get the same size in pixels: the photo is made half as large, and its tiles are its quarters,
    unchanged. All five go through the same backbone in one batch. The distance to the sum of another photo's tiles must
    be large (equation 3), or features of zero would do.

    Args:
        backbone: The network to pretrain.
        layer: The backbone's layer under the head.
        margin: The paper's M: the squared distance to another photo's tiles that is large enough.
        num_features: Length of the vector that counts.
        downsampling: Ways to make the photos half as large, from ``area``, ``bilinear`` and ``bicubic``; one is drawn
            for each batch, so that its traces do not tell photo and tiles apart.
        gray: Share of the photos that are shown in gray, to hide chromatic aberration.
        head_size: Side, in positions, that the backbone's map is pooled to.
        head_hidden: Length of the hidden layer.

    Raises:
        InputError: An argument has a value that is not allowed; or a batch has a single photo.

    Differences from the paper: photos of 48 to 64 pixels instead of 114; no Lanczos among the ways of downsampling, one
    of which is drawn per batch and not per photo; one hidden layer with batch norm instead of fc6 and fc7; counts are
    divided by the root of their number, so that distances begin near the margin; the method does not crop the photo.
    With several processes the other photo is one of the same process.
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
        check_share("gray", gray)
        if not downsampling or not set(downsampling) <= set(DOWNSAMPLING):
            raise InputError(
                "downsampling must name one or more of the allowed ways",
                received=downsampling,
                allowed=DOWNSAMPLING,
            )
        self.layer = backbone.layer(layer)
        self.margin, self.gray, self.num_features = margin, gray, num_features
        self.downsampling = tuple(downsampling)
        self.head = MapHead(self.layer.channels, num_features, size=head_size, hidden=head_hidden)

    def forward(
        self, image: UInt8[Tensor, "n 3 h w"], index: Int[Tensor, " n"], mode: Literal["loss"] = "loss"
    ) -> Scalars:
        """Return the contrastive loss, the squared distances to the own and the other tiles, and the share counted."""
        check_at_least("batch of counting", len(image), 2)
        kind = self.downsampling[int(torch.randint(len(self.downsampling), ()))]
        small, tiles = halved_and_quartered(gray_at_random(image, self.gray), kind)
        inputs = torch.cat([small.unsqueeze(1), tiles], 1)
        counts = self.count(inputs.flatten(0, 1)).view(*inputs.shape[:2], -1)
        whole, parts = counts[:, 0], counts[:, 1:].sum(1)
        equal, different = distances_to_sums(whole, parts)
        return Scalars(
            {"loss_counting": (equal + (self.margin - different).clamp_min(0)).mean()},
            {
                "distance_equal": equal.detach().mean(),
                "distance_different": different.detach().mean(),
                "counted": (whole.detach() > 0).float().mean(),
            },
        )

    def count(self, photos: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n features"]:
        """Return the features of photos, none of them negative, in single precision."""
        maps = self.backbone.features(photos, self.layer.name)
        # The paper's margin is a distance between vectors, which must not grow with their length.
        counts: Tensor = F.relu(self.head(maps).float()) / float(self.num_features) ** 0.5
        return counts


def halved_and_quartered(
    photos: UInt8[Tensor, "n 3 h w"], downsampling: str
) -> tuple[Float[Tensor, "n 3 size size"], Float[Tensor, "n 4 3 size size"]]:
    """Return each photo's square at half its size, and its four quarters, all of the same size in pixels, 0..255.

    Args:
        photos: Photos, of which the largest square with an even side is used, at the top left.
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
    """Return the squared distances of each photo's features, and of another photo's features, to its tiles' sum.

    These are equation 3's two terms. The other photo is the one before it in the batch, whose order is random.
    """
    equal = (whole - parts).square().sum(1)
    different = (whole.roll(1, 0) - parts).square().sum(1)
    return equal, different
