"""Patches and tiles cut from a batch of photos, and what keeps colours and brightness from giving them away."""

import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor
from torchvision.transforms.v2.functional import rgb_to_grayscale

from pretext.backbones.base import INPUT_STATISTICS
from pretext.checks import check_at_least
from pretext.errors import InputError

#: Mean and standard deviation of a normalised tile: three deviations reach to 0 and to 255.
TILE_MEAN, TILE_STD = 127.5, 42.5
#: Deviation of the noise in place of a dropped channel, relative to that of the channel that stays.
DROP_NOISE = 0.01


def cut(
    photos: Shaped[Tensor, "n c h w"], top: Int[Tensor, "n k"], left: Int[Tensor, "n k"], size: int
) -> Shaped[Tensor, "n k c size size"]:
    """Cut k square patches of ``size`` pixels from each photo.

    Args:
        photos: Of any type.
        top: The first row of each patch; patch and photo must overlap wholly.
        left: The first column of each.
        size: Side of the patches.
    """
    windows = photos.unfold(2, size, 1).unfold(3, size, 1)
    number = torch.arange(len(photos), device=photos.device)[:, None]
    return windows[number, :, top.to(photos.device), left.to(photos.device)]


def jittered_grid(
    count: int, *, grid: int, pitch: int, jitter: int
) -> tuple[Int[Tensor, "n k"], Int[Tensor, "n k"]]:
    """Draw where the patches of a grid begin: cell (r, c) at (r, c) * pitch, plus up to ``jitter``.

    Args:
        count: How many grids are drawn.
        grid: Cells a side.
        pitch: Pixels between the beginnings of two cells.
        jitter: Most pixels by which a patch lies further right or further down; each is drawn by itself.

    Returns:
        First row and first column of each patch, (count, grid * grid), row of cells by row of cells.
    """
    row = (torch.arange(grid) * pitch).repeat_interleave(grid)
    column = (torch.arange(grid) * pitch).repeat(grid)
    draws = torch.randint(jitter + 1, (2, count, grid * grid))
    return row + draws[0], column + draws[1]


def tiles_of_cells(
    photos: Shaped[Tensor, "n c h w"], *, grid: int, share: float, channel_shift: int = 0
) -> Shaped[Tensor, "n k c size size"]:
    """Split photos into a grid of cells, and cut a tile at a random place inside each cell.

    Args:
        photos: Of any type; what does not fill a row or column of cells is left out.
        grid: Cells a side.
        share: Side of a tile as a share of the cell's, above 0 to 1.
        channel_shift: Most pixels by which each channel of a tile is cut elsewhere in each direction, drawn channel by
            channel, but within the photo.

    Raises:
        InputError: An argument is out of range, or the cells have less than two pixels a side.
    """
    height, width = photos.shape[2:]
    cell = min(height, width) // grid
    if not 0 < share <= 1 or cell < 2:
        raise InputError(
            f"photos cannot be split so: received {height}x{width} pixels, {grid} cells a side and tiles of {share}"
            " of a cell; allowed are shares above 0 to 1 and cells of two pixels and more"
        )
    check_at_least("channel_shift", channel_shift, 0)
    size = max(1, round(cell * share))
    top, left = jittered_grid(len(photos), grid=grid, pitch=cell, jitter=cell - size)
    if channel_shift == 0:
        return cut(photos, top, left, size)
    # Each channel of each photo is cut as a photo of its own.
    shifts = torch.randint(-channel_shift, channel_shift + 1, (2, photos.shape[1], *top.shape))
    tops = (top + shifts[0]).clamp(0, height - size).transpose(0, 1).flatten(0, 1)
    lefts = (left + shifts[1]).clamp(0, width - size).transpose(0, 1).flatten(0, 1)
    tiles = cut(photos.flatten(0, 1).unsqueeze(1), tops, lefts, size)
    return tiles.reshape(*photos.shape[:2], grid * grid, size, size).transpose(1, 2)


def drop_colors(patches: Shaped[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Replace two of the three channels of each patch, drawn patch by patch, by noise; the third keeps its contrast.

    Doersch, Gupta, Efros (ICCV 2015), section 3.1: against chromatic aberration, which tells from the shift between the
    channels where in the photo a patch lies. The noise has a hundredth of the deviation of the channel that stays. All
    three have the mean of all photos (of ImageNet), as in the authors' code, which subtracts the patch's own:
    brightness and colour do not tell where a patch is from.

    Args:
        patches: RGB, 0..255.

    Returns:
        Some values of great contrast lie beyond 0..255.
    """
    values = patches.float()
    kept = torch.randint(3, (len(values),)).to(values.device).view(-1, 1, 1, 1)
    channel = torch.arange(3, device=values.device).view(1, 3, 1, 1)
    mean = 255 * torch.tensor(INPUT_STATISTICS["rgb"][0], device=values.device).view(1, 3, 1, 1)
    deviation = values.std((2, 3), correction=0, keepdim=True).gather(1, kept)
    noise = torch.randn(values.shape).to(values.device) * DROP_NOISE * deviation
    return mean + torch.where(channel == kept, values - values.mean((2, 3), keepdim=True), noise)


def project_colors(patches: Shaped[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Take away how green or magenta each pixel is, and leave the rest of its colour.

    Doersch, Gupta, Efros (ICCV 2015), section 3.1: with a = (-1, 2, -1), every pixel is multiplied by 1 - a^T a / (a
    a^T). The lens shifts green against red and blue, and that shift is what cannot be seen any more. Very saturated
    colours leave 0..255 by up to a sixth and are clamped.

    Args:
        patches: RGB, 0..255.
    """
    red, green, blue = patches.float().unbind(1)
    greenness = (2 * green - red - blue) / 6
    return torch.stack([red + greenness, green - 2 * greenness, blue + greenness], 1).clamp(0, 255)


def normalize_each(tiles: Shaped[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Give each channel of each tile the same mean and deviation, and a flat one the same mean.

    Args:
        tiles: 0..255.

    Returns:
        Values of mean 127.5 and deviation 42.5; what lies more than three deviations from the mean is clamped to
        0..255.
    """
    values = tiles.float()
    mean, deviation = values.mean((2, 3), keepdim=True), values.std((2, 3), correction=0, keepdim=True)
    return ((values - mean) / deviation.clamp_min(1) * TILE_STD + TILE_MEAN).clamp(0, 255)


def gray_at_random(photos: UInt8[Tensor, "n *k 3 h w"], share: float) -> UInt8[Tensor, "n *k 3 h w"]:
    """Make some photos (or all tiles of some) gray, with three equal channels; each with the probability ``share``."""
    chosen = (torch.rand(len(photos)) < share).to(photos.device)
    gray: Tensor = rgb_to_grayscale(photos, num_output_channels=3)
    return torch.where(chosen.view(-1, *[1] * (photos.ndim - 1)), gray, photos)
