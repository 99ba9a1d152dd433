"""Heads of colorizers: from a backbone's features to a prediction in an output space.

A head says over which layers it stands (`under`) and predicts from a backbone's input (`predict`). Those that files can
hold are in `HEADS`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pretext.backbones.base import Backbone, Layer
from pretext.backbones.hypercolumn import Places, column_layers, hypercolumns, sample_grid, walk_layers
from pretext.checks import check_at_least, check_share
from pretext.errors import InputError

#: Numbers of the hidden layer in a band of rows: 4 MB, which stay in the cache; a longer row is a band of its own.
BAND_NUMBERS = 1 << 20


@dataclass(frozen=True)
class Grid:
    """Where a head predicts: position j is centred on pixel ``offset + j * stride``.

    Attributes:
        stride: Pixels between two positions.
        offset: Pixel, counted from 0, on which position 0 is centred.
        multiple: Photos whose sides are multiples of so many pixels have whole positions at each layer.
    """

    stride: int
    offset: float
    multiple: int


def grid_over(layer: Layer) -> Grid:
    """Return where a head over one layer predicts, in training as in painting: where the layer's positions are centred.

    Those of the colorization net start before the photo's first pixel. They learn the colours of the pixels at
    multiples of their stride, as in the released code of Zhang et al. (ECCV 2016), and so these are where they predict.
    """
    return Grid(layer.stride, max(layer.offset, 0.0), layer.stride)


class ColorHead(nn.Sequential):
    """Convolutions that predict in an output space from a layer's features.

    Args:
        in_channels: Channels of the features: the layer's first ones.
        out_channels: Channels of the output space.
        hidden_channels: Channels of a 3x3 convolution with batch norm and ReLU under the 1x1 classifier; 0 for the
            classifier alone.
    """

    name: ClassVar[str] = "convolutions"

    def __init__(self, in_channels: int, out_channels: int, hidden_channels: int = 0):
        layers: list[nn.Module] = []
        if hidden_channels:
            layers += [
                nn.Conv2d(in_channels, hidden_channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(hidden_channels),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers, nn.Conv2d(hidden_channels or in_channels, out_channels, 1))
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.hidden_channels = hidden_channels

    def under(self, backbone: Backbone, layer: Layer) -> Grid:
        """Return where it predicts from a layer; raise InputError if it takes more channels than that has."""
        if self.in_channels > layer.channels:
            raise InputError(
                f"a colorizer's head does not fit over {layer.name}",
                received=(self.in_channels, self.out_channels),
                allowed=f"allowed are up to {layer.channels} channels in",
            )
        return grid_over(layer)

    def predict(
        self, backbone: Backbone, inputs: Float[Tensor, "n c h w"], layer: Layer
    ) -> Float[Tensor, "n q h2 w2"]:
        """Return the prediction at every position of a layer from normalised input."""
        features = backbone.extract(inputs, [layer.name])[layer.name]
        prediction: Tensor = self(features[:, : self.in_channels])
        return prediction

    def arguments(self) -> dict[str, Any]:
        """Return what the constructor needs beside the channels of the output space, as JSON can hold it."""
        return {"in_channels": self.in_channels, "hidden_channels": self.hidden_channels}


class _FromColumns(nn.Conv2d):
    """A layer's part of the hidden layer, initialised as the paper's release does."""

    #: Deviation of its first weights.
    initial_std = 1e-4


class HypercolumnHead(nn.Module):
    """A hidden layer over hypercolumns and a classifier: Larsson, Maire, Shakhnarovich (ECCV 2016).

    In training it is given the hypercolumns of single places. `predict` makes none: the hidden layer is linear in them,
    so that a coarse layer's share is computed at the layer's own positions and then interpolated. Of a fine layer only
    the positions of the prediction are kept. The hidden layer goes through bands of rows.

    Args:
        layers: Names of the hypercolumn's layers, from the photo upwards.
        channels: Channels of each.
        out_channels: Channels of the output space.
        hidden_channels: Channels of the hidden layer, 1024 in the paper.
        dropout: Share of the hidden layer that is dropped in training.
        stride: Pixels between two positions of `predict`; the paper's is 4.

    Attributes:
        in_channels: Channels of the whole hypercolumn.
        scales: Factor of each layer, (layers,); see `balance`.

    Raises:
        InputError: A number is out of its range, or layers and channels differ in number.
    """

    name: ClassVar[str] = "hypercolumn"
    scales: Tensor

    def __init__(
        self,
        layers: Sequence[str],
        channels: Sequence[int],
        out_channels: int,
        *,
        hidden_channels: int = 1024,
        dropout: float = 0.5,
        stride: int = 4,
    ):
        super().__init__()
        check_at_least("hidden_channels", hidden_channels, 1)
        check_share("dropout", dropout, below_one=True)
        check_at_least("stride", stride, 1)
        if len(layers) != len(channels):
            raise InputError(
                "each layer of a hypercolumn has its number of channels",
                received=f"{len(layers)} layers and {len(channels)} numbers",
            )
        self.layers, self.channels = tuple(layers), tuple(channels)
        self.in_channels, self.out_channels = sum(channels), out_channels
        self.hidden_channels, self.dropout, self.stride = hidden_channels, dropout, stride
        self.columns = nn.ModuleDict(
            {
                name: _FromColumns(count, hidden_channels, 1, bias=False)
                for name, count in zip(layers, channels, strict=True)
            }
        )
        self.bias = nn.Parameter(torch.zeros(hidden_channels))
        self.register_buffer("scales", torch.ones(len(self.layers)))
        self.classifier = nn.Sequential(
            nn.ReLU(inplace=True), nn.Dropout(dropout), nn.Conv2d(hidden_channels, out_channels, 1)
        )

    def balance(self, second_moments: Float[Tensor, " layers"]) -> None:
        """Give each layer's features a second moment of 1, as Larsson et al. balance them.

        Args:
            second_moments: The mean of each layer's squared features, unscaled. A layer whose features are all 0 keeps
                the factor 1.
        """
        scales = second_moments.rsqrt()
        self.scales.copy_(torch.where(second_moments > 0, scales, torch.ones_like(scales)))

    def under(self, backbone: Backbone, layer: Layer) -> Grid:
        """Return where it predicts.

        Args:
            backbone: The network below.
            layer: The last of its layers.

        Raises:
            InputError: The backbone lacks a layer, has it with another number of channels, or has another layer on top.
        """
        layers = column_layers(backbone, self.layers)
        found = [(each.name, each.channels) for each in layers]
        wanted = list(zip(self.layers, self.channels, strict=True))
        if found != wanted or layers[-1] != layer:
            raise InputError(
                f"a head over hypercolumns does not fit over {layer.name} of {backbone.architecture}",
                received=wanted,
                allowed=f"layers and channels of the backbone, from the photo up to {layer.name}: {found}",
            )
        multiple = math.lcm(self.stride, *(each.stride for each in layers))
        return Grid(self.stride, (self.stride - 1) / 2, multiple)

    def forward(self, columns: Float[Tensor, "n d p 1"]) -> Float[Tensor, "n q p 1"]:
        """Return the prediction at places from their hypercolumns, (N, in_channels, P, 1)."""
        parts = zip(self.layers, torch.split(columns, list(self.channels), 1), strict=True)
        hidden = sum((self._share(name, part) for name, part in parts), self.bias.view(-1, 1, 1))
        prediction: Tensor = self.classifier(hidden)
        return prediction

    def at(
        self,
        backbone: Backbone,
        inputs: Float[Tensor, "n c h w"],
        rows: Places,
        columns: Places,
    ) -> Float[Tensor, "n q p 1"]:
        """Return the prediction at places of each photo from normalised input.

        Args:
            backbone: The network below.
            inputs: Normalised input, (N, C, H, W).
            rows: Rows of the places in pixels of the photo, (N, P).
            columns: Their columns, (N, P).
        """
        layers = column_layers(backbone, self.layers)
        prediction: Tensor = self(hypercolumns(backbone, inputs, layers, rows, columns))
        return prediction

    def predict(
        self, backbone: Backbone, inputs: Float[Tensor, "n c h w"], layer: Layer
    ) -> Float[Tensor, "n q h2 w2"]:
        """Return the prediction at every position of its grid from normalised input."""
        rows, columns = (
            torch.arange(0, side, self.stride, device=inputs.device) + (self.stride - 1) / 2
            for side in inputs.shape[-2:]
        )
        parts = self._parts(backbone, inputs, rows, columns)
        band = max(1, BAND_NUMBERS // (len(inputs) * len(columns) * self.hidden_channels))
        bands = []
        for first in range(0, len(rows), band):
            some = slice(first, first + band)
            hidden = self.bias.view(-1, 1, 1)
            for each, values, is_share in parts:
                if is_share:
                    hidden = hidden + sample_grid(values, each, rows[some], columns)
                else:
                    hidden = hidden + self._share(each.name, values[:, :, some])
            bands.append(self.classifier(hidden))
        return torch.cat(bands, 2)

    def _parts(
        self, backbone: Backbone, inputs: Tensor, rows: Tensor, columns: Tensor
    ) -> list[tuple[Layer, Tensor, bool]]:
        """Return what the layers give for a grid: features at its places, or shares of the hidden layer, and which.

        A layer with fewer positions than the grid gives its share at these; layers with the same positions give one.
        """
        parts: list[tuple[Layer, Tensor, bool]] = []
        for each, features in walk_layers(backbone, inputs, column_layers(backbone, self.layers)):
            if features[0, 0].numel() >= len(rows) * len(columns):
                parts.append((each, sample_grid(features, each, rows, columns), False))
                continue
            share = self._share(each.name, features)
            if parts and parts[-1][2] and _same_positions(parts[-1][:2], (each, share)):
                before, shares, _ = parts.pop()
                parts.append((before, shares + share, True))
            else:
                parts.append((each, share, True))
        return parts

    def _share(self, name: str, features: Tensor) -> Tensor:
        """Return what a layer adds to the hidden layer, (N, hidden_channels, H, W)."""
        weighted: Tensor = self.columns[name](features * self.scales[self.layers.index(name)])
        return weighted.to(torch.promote_types(weighted.dtype, torch.float32))

    def arguments(self) -> dict[str, Any]:
        """Return what the constructor needs beside the channels of the output space, as JSON can hold it."""
        return {
            "layers": list(self.layers),
            "channels": list(self.channels),
            "hidden_channels": self.hidden_channels,
            "dropout": self.dropout,
            "stride": self.stride,
        }


def _same_positions(one: tuple[Layer, Tensor], other: tuple[Layer, Tensor]) -> bool:
    (first, a), (second, b) = one, other
    return (first.stride, first.offset) == (second.stride, second.offset) and a.shape == b.shape


#: Every head by its name in colorizer files.
HEADS: Mapping[str, Callable[..., ColorHead | HypercolumnHead]] = MappingProxyType(
    {"convolutions": ColorHead, "hypercolumn": HypercolumnHead}
)
