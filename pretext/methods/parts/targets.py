"""Alignment of a map's predictions with targets at some of a photo's pixels."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pretext.backbones.base import Layer
from pretext.backbones.hypercolumn import sample_grid
from pretext.checks import check_at_least
from pretext.colorize.heads import Grid
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
    prediction: Float[Tensor, "n q h w"], size: torch.Size, grid: Grid, target_stride: int
) -> Float[Tensor, "n q height width"]:
    """Interpolate predictions at the targets, the pixels at multiples of their stride from the photo's first on.

    A padded AlexNet and the colorization net predict at multiples of their own stride, so corners are aligned: 12
    positions give 23, as in Zhang et al.'s code, and what lies beyond the last target is cut off. Of other grids,
    targets before the first position and beyond the last have the prediction of these.

    Args:
        prediction: Predictions of a whole map, (N, Q, H, W).
        size: Height and width of the targets.
        grid: Where the positions of the map predict.
        target_stride: Pixels between two targets; see `check_target_stride`.

    Returns:
        Predictions, (N, Q, height, width); a view of ``prediction`` if it only had to be cut.
    """
    factor = grid.stride // target_stride
    reach = [factor * (side - 1) + 1 for side in prediction.shape[-2:]]
    if grid.offset or reach[0] < size[0] or reach[1] < size[1]:
        rows, columns = (target_stride * torch.arange(side, device=prediction.device) for side in size)
        return sample_grid(prediction, grid, rows, columns)
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
