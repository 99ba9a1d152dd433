"""Rotation as a pretext task: "Unsupervised Representation Learning by Predicting Image Rotations" (Gidaris et al.).

ICLR 2018. A photo is turned by 0, 90, 180 and 270 degrees, and the network says by how many.
"""

from typing import Literal

import torch
from jaxtyping import Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from pretext.backbones.base import Backbone
from pretext.errors import InputError
from pretext.methods.base import Method, Scalars
from pretext.methods.parts.heads import MapHead, accuracy

#: Number of rotations of a photo, by quarter turns.
TURNS = 4


class Rotation(Method):
    """Predicts by how many quarter turns a photo was rotated; all four rotations of a photo are in one batch.

    Args:
        backbone: The network to pretrain.
        layer: The backbone's layer under the head.
        head_size: Side, in positions, that the layer's map is pooled to.
        head_hidden: Length of the hidden layer.

    Raises:
        InputError: The backbone has no such layer, or a number is out of range.

    Differences from the paper: one hidden layer of 512 on the pooled map instead of fc6 and fc7 of 4,096.
    """

    name = "rotation"

    def __init__(
        self, backbone: Backbone, *, layer: str = "conv5", head_size: int = 3, head_hidden: int = 512
    ):
        super().__init__(backbone)
        self.layer = backbone.layer(layer)
        self.head = MapHead(self.layer.channels, TURNS, size=head_size, hidden=head_hidden)

    def forward(
        self, image: UInt8[Tensor, "n 3 h w"], index: Int[Tensor, " n"], mode: Literal["loss"] = "loss"
    ) -> Scalars:
        """Return the cross-entropy over the four rotations of square views, and the accuracy."""
        turned, labels = rotations(image)
        logits = self.head(self.backbone.features(turned, self.layer.name)).float()
        return Scalars(
            {"loss_rotation": F.cross_entropy(logits, labels)}, {"accuracy": accuracy(logits, labels)}
        )


def rotations(
    image: UInt8[Tensor, "n 3 h w"],
) -> tuple[UInt8[Tensor, "m 3 h w"], Int[Tensor, " m"]]:
    """Turn all photos by k = 0, 1, 2 and 3 quarter turns counterclockwise; return them ordered by k, and their k.

    Raises:
        InputError: The photos are not square.
    """
    if image.shape[2] != image.shape[3]:
        raise InputError(
            "rotation needs square views",
            received=f"{image.shape[2]}x{image.shape[3]} pixels",
            allowed="choose a view that crops squares",
        )
    turned = torch.cat([torch.rot90(image, k, (2, 3)) for k in range(TURNS)])
    return turned, torch.arange(TURNS, device=image.device).repeat_interleave(len(image))
