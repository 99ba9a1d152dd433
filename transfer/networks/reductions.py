"""How a linear probe reduces a feature map before its classifier, to 9,000 to 10,000 numbers."""

import math
from collections.abc import Sequence
from functools import cache
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pretext.backbones.base import Layer
from pretext.errors import InputError

#: Upper limit of the numbers left of a map; 96, 256 and 384 channels keep 10x10, 6x6 and 5x5 positions.
MAX_FEATURES = 10_000

#: Size, stride and padding of a pooling, in positions.
Window = Sequence[int]


class TentResize:
    """Blur by a tent, then bilinear interpolation with the corners aligned (Split-Brain Autoencoders, CVPR 2017).

    The layer ``Resize`` of the authors' Caffe: src/caffe/layers/resize_layer.cpp of philkr/caffe, branch ``future``.
    The grid is as fine as `MAX_FEATURES` allows, whatever the size of the map.

    Differences from the layer: a single position, for which it divides zero by zero, is the mean of the map; and tents
    of a radius from 11 on, which its GPU code cuts off at 10 positions, are whole (AlexNet's have 6 at the most).
    """

    def __call__(self, layer: Layer, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c k k"]:
        """Reduce the map of a layer."""
        side = _side(layer)
        vertical, horizontal = (
            tent_matrix(size, side, features.dtype, features.device) for size in features.shape[-2:]
        )
        # The probe's maps have their channels last in memory.
        rows = horizontal @ features.permute(0, 2, 3, 1)  # (N, H, K, C)
        maps: Tensor = vertical @ rows.flatten(2)  # (N, K, K C)
        return maps.reshape(-1, side, side, features.shape[1]).permute(0, 3, 1, 2)


class AdaptiveAveragePool:
    """Means over a grid of equal cells, as fine as `MAX_FEATURES` allows."""

    def __call__(self, layer: Layer, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c k k"]:
        """Reduce the map of a layer."""
        return F.adaptive_avg_pool2d(features, _side(layer))


class AdaptiveMaxPool:
    """Maxima over a grid of equal cells, as fine as `MAX_FEATURES` allows."""

    def __call__(self, layer: Layer, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c k k"]:
        """Reduce the map of a layer."""
        return F.adaptive_max_pool2d(features, _side(layer))


class _WindowPool:
    """Pooling by one window per layer."""

    def __init__(self, **windows: Window):
        self.windows = windows

    def window(self, layer: Layer) -> tuple[int, int, int]:
        """Return the window of a layer; InputError if there is none."""
        reduction = f"reduction={type(self).__name__}"
        if layer.name not in self.windows:
            raise InputError(
                f"{reduction} has no window for a layer",
                received=layer.name,
                allowed=self.windows
                or f"write reduction=dict(..., {layer.name}=(size, stride, padding)) in a config",
            )
        window = self.windows[layer.name]
        if not isinstance(window, Sequence) or len(window) != 3:
            raise InputError(
                f"{reduction} has a wrong window for {layer.name}",
                received=window,
                allowed="a window is (size, stride, padding)",
            )
        size, stride, padding = window
        return size, stride, padding


class AveragePool(_WindowPool):
    """Means over one window (size, stride, padding) per layer; padding counts as zeros."""

    def __call__(self, layer: Layer, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c i j"]:
        """Reduce the map of a layer."""
        return F.avg_pool2d(features, *self.window(layer))


class MaxPool(_WindowPool):
    """Maxima over one window (size, stride, padding) per layer."""

    def __call__(self, layer: Layer, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c i j"]:
        """Reduce the map of a layer."""
        return F.max_pool2d(features, *self.window(layer))


#: Every reduction by the name that configs and records have.
REDUCTIONS = MappingProxyType(
    {
        "AdaptiveAveragePool": AdaptiveAveragePool,
        "AdaptiveMaxPool": AdaptiveMaxPool,
        "AveragePool": AveragePool,
        "MaxPool": MaxPool,
        "TentResize": TentResize,
    }
)


def _side(layer: Layer) -> int:
    return math.isqrt(MAX_FEATURES // layer.channels)


@cache
def tent_matrix(
    size: int, out: int, dtype: torch.dtype = torch.float32, device: torch.device | None = None
) -> Float[Tensor, "k length"]:
    """Return the matrix by which `TentResize` takes one axis from ``size`` to ``out`` positions.

    Position i reads the axis at i (size - 1) / (out - 1), between two positions in proportion to their distances. If
    the axis becomes shorter, it is first averaged with the weights of a tent of radius (size - 1) / (out - 1); beyond
    its ends it goes on with its first and last value.
    """
    if out == 1:
        return torch.full((1, size), 1 / size, dtype=dtype, device=device)
    radius = (size - 1) / (out - 1)
    positions = torch.arange(size)
    read = torch.arange(out, dtype=torch.float64) * radius
    matrix = (1 - (read[:, None] - positions).abs()).clamp(min=0)
    if radius > 1:
        offsets = torch.arange(-int(radius), int(radius) + 1)
        tent = radius - offsets.abs().double()
        reached = F.one_hot((positions[:, None] + offsets).clamp(0, size - 1), size).double()
        matrix = matrix @ torch.einsum("r,pri->pi", tent / tent.sum(), reached)
    return matrix.to(device, dtype)
