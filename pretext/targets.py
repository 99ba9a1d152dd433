"""Predictions of a map and targets at some of a photo's pixels, brought together."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pretext.backbones.base import Layer
from pretext.checks import check_at_least
from pretext.errors import InputError


def check_target_stride(layer: Layer, target_stride: int) -> None:
    """Raise InputError unless targets every ``target_stride`` pixels fall on the positions of ``layer``."""
    check_at_least("target_stride", target_stride, 1)
    if layer.stride % target_stride:
        raise InputError(
            f"target_stride must divide the stride of {layer.name}: received {target_stride}, allowed are"
            f" {', '.join(str(k) for k in range(1, layer.stride + 1) if layer.stride % k == 0)}"
        )


def at_targets(
    prediction: Float[Tensor, "n q h w"], size: torch.Size, factor: int
) -> Float[Tensor, "n q height width"]:
    """Upsample predictions to the ``size`` of the targets, ``factor`` times as dense.

    Targets are the pixels at multiples of their stride, from the photo's first on. In a padded AlexNet position j
    looks at pixel j * stride too, in the colorization net two pixels before it, so corners are aligned: 12 positions
    give 23, the upsampling of Zhang et al.'s code, and what lies beyond the last target is cut. Where that does not
    cover the targets, the map is taken to be spread evenly over the photo.

    Args:
        prediction: Of a whole map, (N, Q, H, W).
        size: Height and width of the targets.
        factor: Stride of the map over that of the targets.

    Returns:
        (N, Q, height, width); a view of ``prediction``, where it only had to be cut.
    """
    reach = [factor * (side - 1) + 1 for side in prediction.shape[-2:]]
    if reach[0] < size[0] or reach[1] < size[1]:
        return F.interpolate(prediction, size=tuple(size), mode="bilinear", align_corners=False)
    if factor > 1:
        prediction = F.interpolate(prediction, size=reach, mode="bilinear", align_corners=True)
    return prediction if prediction.shape[-2:] == size else prediction[..., : size[0], : size[1]]


def at_decoded(
    decoded: Float[Tensor, "n c h w"], values: Float[Tensor, "n c height width"], layer: Layer, stride: int
) -> tuple[Float[Tensor, "n c h2 w2"], Float[Tensor, "n c h2 w2"]]:
    """What a decoder made of a map, and a photo's values at the same pixels.

    A decoder that doubles a map's sides spreads its cells evenly around the position they come of: with a stride of 4
    those of a position that looks at pixel 16 are at pixels 10, 14, 18 and 22. Cells that lie beyond the photo, as
    those of a padded map do on both sides, and what lies at the border of an unpadded one are left out. Between two
    pixels the one before counts.

    Args:
        decoded: (N, C, H, W).
        values: Of every pixel.
        layer: Whose map was decoded.
        stride: Pixels between two of what is decoded: the layer's divided by a power of two.
    """
    first = layer.offset - (layer.stride // stride - 1) / 2 * stride
    skipped = max(0, math.ceil(-first / stride))
    begin = math.floor(first + skipped * stride)
    targets, decoded = values[:, :, begin::stride, begin::stride], decoded[:, :, skipped:, skipped:]
    height, width = (min(sides) for sides in zip(decoded.shape[-2:], targets.shape[-2:], strict=True))
    return decoded[..., :height, :width], targets[..., :height, :width]
