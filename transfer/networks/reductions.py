"""How a linear probe reduces a feature map before its classifier, to 9,000 to 10,000 numbers."""

import math
from collections.abc import Sequence
from types import MappingProxyType

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pretext.backbones.base import Layer
from pretext.errors import InputError

#: Upper limit of the numbers left of a map; 96, 256 and 384 channels keep 10x10, 6x6 and 5x5 positions.
MAX_FEATURES = 10_000

#: Size, stride and padding of a pooling, in positions.
Window = Sequence[int]


class BilinearResize:
    """Bilinear interpolation at the centres of a coarser grid (Split-Brain Autoencoders, CVPR 2017).

    The grid is as fine as `MAX_FEATURES` allows, whatever the size of the map.
    """

    def __call__(self, layer: Layer, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c k k"]:
        """Reduce the map of a layer."""
        return F.interpolate(features, size=_side(layer), mode="bilinear", align_corners=False)


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
                f"{reduction} has no window for a layer", received=layer.name, allowed=self.windows
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
        "BilinearResize": BilinearResize,
        "MaxPool": MaxPool,
    }
)


def _side(layer: Layer) -> int:
    return math.isqrt(MAX_FEATURES // layer.channels)
