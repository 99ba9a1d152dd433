"""How a small map becomes as large as the photo, one band of rows at a time: bilinear, or by the photo's lightness."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

#: Difference in CIE L at which a cell of the colour map counts exp(-1/2) as much for a pixel.
LIGHTNESS_SIGMA = 10.0
#: Share of a cell's weight that does not depend on lightness, for pixels that are unlike all cells around.
UNLIKE = 1e-3

Map = Float[Tensor, "c _ _"]
Lightness = Float[Tensor, "1 _ _"]


def bilinear(small: Map, cells: Lightness, band: Lightness, rows: slice, height: int) -> Map:
    """Return the values of a band of rows, as `F.interpolate` without aligned corners gives them for the photo.

    Args:
        small: Values at the positions of the map, (C, h, w).
        cells: Not needed.
        band: Lightness of the band, (1, rows, W).
        rows: Which rows of the photo it is.
        height: Rows of the photo.
    """
    down, across = small.shape[1:]
    before_x, way_x = _places(torch.arange(band.shape[2], dtype=torch.float64), band.shape[2], across)
    before_y, way_y = _places(torch.arange(rows.start, rows.stop, dtype=torch.float64), height, down)
    # Only the rows of the map around the band become as wide as the photo.
    first = max(0, int(before_y[0]))
    wide = _mixed(small[:, first : int(before_y[-1]) + 2], before_x, way_x, 2)
    return _mixed(wide, before_y - first, way_y[:, None], 1)


def bilateral(small: Map, cells: Lightness, band: Lightness, rows: slice, height: int) -> Map:
    """Return the values of a band of rows: weighted means of the 4 x 4 cells around each pixel.

    A cell's weight falls linearly to 0 at a distance of two cells, across and down, and by a Gaussian with its
    difference in lightness.

    Args:
        small: Values at the positions of the map, (C, h, w).
        cells: Mean lightness of each cell of the map, (1, h, w).
        band: Lightness of the band, (1, rows, W).
        rows: Which rows of the photo it is.
        height: Rows of the photo.
    """
    down, across = small.shape[1:]
    before_y, way_y = _places(torch.arange(rows.start, rows.stop, dtype=torch.float64), height, down)
    before_x, way_x = _places(torch.arange(band.shape[2], dtype=torch.float64), band.shape[2], across)
    values = torch.cat([cells, small])
    total = torch.zeros(len(values), *band.shape[1:])
    for j in range(-1, 3):
        some = values.index_select(1, (before_y + j).clamp(0, down - 1))
        near_y = (1 - (way_y - j).abs() / 2)[:, None]
        for i in range(-1, 3):
            here = some.index_select(2, (before_x + i).clamp(0, across - 1))
            near = near_y * (1 - (way_x - i).abs() / 2)
            unlike = (here[0] - band[0]).div_(LIGHTNESS_SIGMA).square_()
            weight = unlike.mul_(-0.5).exp_().add_(UNLIKE).mul_(near)
            total[0] += weight
            total[1:].addcmul_(here[1:], weight)
    return total[1:] / total[:1]


def _places(pixels: Tensor, length: int, cells: int) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """Return for pixels of a side of ``length`` the cell before each one's centre, -1 up, and the way on from it."""
    at = (pixels + 0.5) * (cells / length) - 0.5
    before = at.floor()
    return before.long(), (at - before).float()


def _mixed(values: Tensor, before: Tensor, way: Tensor, dimension: int) -> Tensor:
    last = values.shape[dimension] - 1
    first = values.index_select(dimension, before.clamp(0, last))
    second = values.index_select(dimension, (before + 1).clamp(0, last))
    return torch.lerp(first, second, way.expand_as(first))
