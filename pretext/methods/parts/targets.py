"""Alignment of a map's predictions with targets at some of a photo's pixels."""

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
            f"target_stride must divide the stride of {layer.name}",
            received=target_stride,
            allowed=[k for k in range(1, layer.stride + 1) if layer.stride % k == 0],
        )


def at_targets(
    prediction: Float[Tensor, "n q h w"], size: torch.Size, factor: int
) -> Float[Tensor, "n q height width"]:
    """Upsample predictions to the ``size`` of the targets, ``factor`` times as dense.

    Targets are the pixels at multiples of their stride, starting with the photo's first. Position j of a padded
    AlexNet is centred on pixel j * stride too, and in the colorization net two pixels before it, so corners are
    aligned: 12 positions give 23, as in Zhang et al.'s code, and the rest beyond the last target is cut off. If that
    does not cover the targets, the map is spread evenly over the photo instead.

    Args:
        prediction: Predictions of a whole map, (N, Q, H, W).
        size: Height and width of the targets.
        factor: Stride of the map divided by that of the targets.

    Returns:
        Predictions, (N, Q, height, width); a view of ``prediction`` if it only had to be cut.
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
    """Return a decoder's output and a photo's values at the same pixels.

    A decoder that doubles a map's sides spreads its cells evenly around the position they come from: with a stride of
    4, those of a position centred on pixel 16 are at pixels 10, 14, 18 and 22. Cells beyond the photo, which a padded
    map has on all sides, and pixels at the border that an unpadded map does not reach are left out. A cell between two
    pixels takes the one before it.

    Args:
        decoded: The decoder's output, (N, C, H, W).
        values: Values of every pixel.
        layer: The layer whose map was decoded.
        stride: Pixels between two cells: the layer's stride divided by a power of two.
    """
    first = layer.offset - (layer.stride // stride - 1) / 2 * stride
    skipped = max(0, math.ceil(-first / stride))
    begin = math.floor(first + skipped * stride)
    targets, decoded = values[:, :, begin::stride, begin::stride], decoded[:, :, skipped:, skipped:]
    height, width = (min(sides) for sides in zip(decoded.shape[-2:], targets.shape[-2:], strict=True))
    return decoded[..., :height, :width], targets[..., :height, :width]
