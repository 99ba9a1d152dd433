"""Hypercolumns: what several layers know of a place of a photo (Hariharan et al., CVPR 2015).

"Learning Representations for Automatic Colorization" (Larsson, Maire, Shakhnarovich, ECCV 2016) colours photos from
them. A place is a pixel of the photo, whole or in between, counted from 0. Each layer's map is read there bilinearly,
at the layer's own stride and offset; beyond the map's first and last positions it has the values of these.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from pretext.backbones.base import Backbone, Layer, Positions
from pretext.checks import check_choice
from pretext.errors import InputError

#: Name of the input itself, the normalised photo, among the layers of a hypercolumn.
DATA = "data"

Places = Shaped[Tensor, "n p"]


def column_layers(backbone: Backbone, names: Sequence[str]) -> tuple[Layer, ...]:
    """Return the layers of a hypercolumn, from the photo upwards.

    Args:
        backbone: Any backbone.
        names: Layers of it, in any order, and ``data`` for its input.

    Raises:
        InputError: A layer is unknown or named twice, or none is a layer of the backbone.
    """
    data = Layer(DATA, backbone.in_channels, 1)
    known = {layer.name: layer for layer in (data, *backbone.layers)}
    for name in names:
        check_choice(f"layer of {backbone.architecture}", name, known)
    chosen = tuple(layer for name, layer in known.items() if name in names)
    if len(chosen) != len(names) or chosen in ((), (data,)):
        raise InputError(
            "a hypercolumn has at least one layer of its backbone, and each layer once",
            received=tuple(names),
            allowed=tuple(known),
        )
    return chosen


def all_column_layers(backbone: Backbone) -> tuple[str, ...]:
    """Return the names of the paper's hypercolumn: the input and every layer of the backbone, without its pools."""
    return (DATA, *(name for name in backbone.layer_names if not name.startswith("pool")))


def walk_layers(
    backbone: Backbone, inputs: Float[Tensor, "n c h w"], layers: Sequence[Layer]
) -> Iterator[tuple[Layer, Tensor]]:
    """Yield the layers of a hypercolumn with their maps, each as soon as it is computed.

    Args:
        backbone: Any backbone.
        inputs: Normalised input, as `Backbone.extract` takes it.
        layers: From `column_layers`.
    """
    wanted = {layer.name: layer for layer in layers}
    if DATA in wanted:
        yield wanted.pop(DATA), inputs
    for name, features in backbone.walk(inputs):
        if name in wanted:
            yield wanted.pop(name), features
        if not wanted:
            return


def sample(
    features: Float[Tensor, "n c h w"], layer: Layer, rows: Places, columns: Places
) -> Float[Tensor, "n c p 1"]:
    """Return the features of one layer at places of each photo.

    Only four positions of the map are read for a place, and only they get a gradient. Half precision is interpolated
    in single precision.

    Args:
        features: The layer's map, fastest with the channels last.
        layer: Says where its positions are centred.
        rows: Rows of the places in pixels of the photo, (N, P).
        columns: Their columns, (N, P).
    """
    height, width = features.shape[-2:]
    above, below, down = _neighbors(rows, layer, height)
    left, right, across = _neighbors(columns, layer, width)
    photo = torch.arange(len(features), device=features.device).view(1, -1, 1) * height
    corners = (torch.stack([above, above, below, below]) + photo) * width
    corners = corners + torch.stack([left, right, left, right])
    shares = torch.stack([(1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across])
    table = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
    dtype = torch.promote_types(features.dtype, torch.float32)
    # One look-up for all four corners: its gradient is one map.
    found = table.index_select(0, corners.flatten()).view(*corners.shape, -1).to(dtype)
    return (found * shares.to(dtype).unsqueeze(-1)).sum(0).transpose(1, 2).unsqueeze(-1)


def sample_grid(
    features: Float[Tensor, "n c h w"],
    positions: Positions,
    rows: Shaped[Tensor, " height"],
    columns: Shaped[Tensor, " width"],
) -> Float[Tensor, "n c height width"]:
    """Return the features of one layer at every place of a grid, the same as `sample` gives there.

    Args:
        features: The layer's map, or another.
        positions: Says where the map's positions are centred.
        rows: Rows of the grid in pixels of the photo.
        columns: Its columns.
    """
    above, below, down = _neighbors(rows, positions, features.shape[2])
    left, right, across = _neighbors(columns, positions, features.shape[3])
    table = features.permute(0, 2, 3, 1).to(torch.promote_types(features.dtype, torch.float32))
    down, across = down.to(table.dtype).view(-1, 1, 1), across.to(table.dtype).view(-1, 1)
    between = torch.lerp(table.index_select(1, above), table.index_select(1, below), down)
    found = torch.lerp(between.index_select(2, left), between.index_select(2, right), across)
    return found.permute(0, 3, 1, 2)


def hypercolumns(
    backbone: Backbone,
    inputs: Float[Tensor, "n c h w"],
    layers: Sequence[Layer],
    rows: Places,
    columns: Places,
) -> Float[Tensor, "n d p 1"]:
    """Return the features of all layers at places of each photo, one layer's channels after the other's.

    Args:
        backbone: Any backbone.
        inputs: Normalised input, as `Backbone.extract` takes it.
        layers: From `column_layers`.
        rows: Rows of the places in pixels of the photo, (N, P).
        columns: Their columns, (N, P).
    """
    parts = [
        sample(features, layer, rows, columns) for layer, features in walk_layers(backbone, inputs, layers)
    ]
    return torch.cat(parts, 1)


def _neighbors(places: Tensor, positions: Positions, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the positions before and after each place on a side of a map, and the share of the one after."""
    exact = places.to(torch.promote_types(places.dtype, torch.float32))
    at = ((exact - positions.offset) / positions.stride).clamp(0, length - 1)
    before = at.long()
    return before, (before + 1).clamp_max(length - 1), at - before
