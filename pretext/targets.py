"""Predictions of a map and targets at some of a photo's pixels, brought together."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.functional import center_crop

from pretext.backbones.base import Layer, check_at_least
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
    decoded: Float[Tensor, "n c h w"], values: Float[Tensor, "n c height width"], stride: int, factor: int
) -> tuple[Float[Tensor, "n c h2 w2"], Float[Tensor, "n c h2 w2"]]:
    """What a decoder made of a map, and a photo's values at the same pixels.

    A map whose positions look at pixels 0, ``stride * factor``, ... of a photo is decoded to ``factor`` times as many
    a side, which lie evenly around the positions: between the pixels' multiples of ``stride``, unless the factor is 1.
    A padded AlexNet has a position more than the photo has strides, and reaches as far beyond it on all sides; without
    padding it has fewer, and what lies at the border has no prediction. So the central parts of both are returned.

    Args:
        decoded: (N, C, H, W).
        values: Of every pixel.
        stride: Pixels between two of what is decoded.
        factor: How often the decoder multiplied the sides.
    """
    begin = 0 if factor == 1 else stride // 2
    targets = values[:, :, begin::stride, begin::stride]
    size = [min(sides) for sides in zip(decoded.shape[-2:], targets.shape[-2:], strict=True)]
    return center_crop(decoded, size), center_crop(targets, size)
