"""Cutting patches and tiles from a batch of photos, and hiding colours and brightness that would give them away."""

import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor
from torchvision.transforms.v2.functional import rgb_to_grayscale

from pretext.backbones.base import INPUT_STATISTICS
from pretext.checks import check_at_least, check_share
from pretext.errors import InputError

#: Mean and standard deviation of a normalised tile: 0 and 255 are three deviations from the mean.
TILE_MEAN, TILE_STD = 127.5, 42.5
#: Standard deviation of the noise that replaces a dropped channel, relative to that of the channel that stays.
DROP_NOISE = 0.01


def cut(
    photos: Shaped[Tensor, "n c h w"], top: Int[Tensor, "n k"], left: Int[Tensor, "n k"], size: int
) -> Shaped[Tensor, "n k c size size"]:
    """Cut k square patches of ``size`` pixels from each photo.

    Args:
        photos: Photos of any dtype.
        top: First row of each patch, which must lie inside its photo.
        left: First column of each patch.
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
        count: Number of grids to draw.
        grid: Cells per side.
        pitch: Pixels between the beginnings of two cells.
        jitter: Most pixels that a patch is moved right and down; both are drawn for each patch.

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
        photos: Photos of any dtype; pixels that do not fill a row or column of cells are left out.
        grid: Cells per side.
        share: Side of a tile as a share of the cell's, above 0 to 1.
        channel_shift: Most pixels that each channel of a tile is shifted in each direction, drawn channel by channel;
            no channel leaves the photo.

    Raises:
        InputError: An argument is out of range, or the cells are smaller than 2 x 2 pixels.
    """
    height, width = photos.shape[2:]
    cell = min(height, width) // grid
    check_share("share of a tile", share, above_zero=True)
    if cell < 2:
        raise InputError(
            f"photos are too small for {grid} cells per side",
            received=f"{height}x{width} pixels",
            allowed="cells need at least 2x2 pixels",
        )
    check_at_least("channel_shift", channel_shift, 0)
    size = max(1, round(cell * share))
    top, left = jittered_grid(len(photos), grid=grid, pitch=cell, jitter=cell - size)
    if channel_shift == 0:
        return cut(photos, top, left, size)
    # Each channel of each photo is cut like a separate photo.
    shifts = torch.randint(-channel_shift, channel_shift + 1, (2, photos.shape[1], *top.shape))
    tops = (top + shifts[0]).clamp(0, height - size).transpose(0, 1).flatten(0, 1)
    lefts = (left + shifts[1]).clamp(0, width - size).transpose(0, 1).flatten(0, 1)
    tiles = cut(photos.flatten(0, 1).unsqueeze(1), tops, lefts, size)
    return tiles.reshape(*photos.shape[:2], grid * grid, size, size).transpose(1, 2)


def drop_colors(patches: Shaped[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Replace two of the three channels of each patch, drawn patch by patch, by noise; the third keeps its contrast.

    Doersch, Gupta, Efros (ICCV 2015), section 3.1: this hides chromatic aberration, a shift between the channels that
    tells where in the photo a patch lies. The noise has a hundredth of the deviation of the channel that stays. All
    three channels get the mean of all photos (of ImageNet) and, as in the authors' code, lose that of the patch, so
    that brightness and colour do not tell where a patch is from.

    Args:
        patches: RGB, 0..255.

    Returns:
        Patches; values of high contrast may lie outside 0..255.
    """
    values = patches.float()
    kept = torch.randint(3, (len(values),)).to(values.device).view(-1, 1, 1, 1)
    channel = torch.arange(3, device=values.device).view(1, 3, 1, 1)
    mean = 255 * torch.tensor(INPUT_STATISTICS["rgb"][0], device=values.device).view(1, 3, 1, 1)
    deviation = values.std((2, 3), correction=0, keepdim=True).gather(1, kept)
    noise = torch.randn(values.shape).to(values.device) * DROP_NOISE * deviation
    return mean + torch.where(channel == kept, values - values.mean((2, 3), keepdim=True), noise)


def project_colors(patches: Shaped[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Remove how green or magenta each pixel is, and keep the rest of its colour.

    Doersch, Gupta, Efros (ICCV 2015), section 3.1: with a = (-1, 2, -1), every pixel is multiplied by 1 - a^T a / (a
    a^T). This hides the lens's shift of green against red and blue. Very saturated colours leave 0..255 by up to a
    sixth and are clamped.

    Args:
        patches: RGB, 0..255.
    """
    red, green, blue = patches.float().unbind(1)
    greenness = (2 * green - red - blue) / 6
    return torch.stack([red + greenness, green - 2 * greenness, blue + greenness], 1).clamp(0, 255)


def normalize_each(tiles: Shaped[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Give each channel of each tile the same mean and deviation; flat channels only get the mean.

    Args:
        tiles: Tiles, 0..255.

    Returns:
        Tiles of mean 127.5 and deviation 42.5; values more than three deviations from the mean are clamped to 0..255.
    """
    values = tiles.float()
    mean, deviation = values.mean((2, 3), keepdim=True), values.std((2, 3), correction=0, keepdim=True)
    return ((values - mean) / deviation.clamp_min(1) * TILE_STD + TILE_MEAN).clamp(0, 255)


def gray_at_random(photos: UInt8[Tensor, "n *k 3 h w"], share: float) -> UInt8[Tensor, "n *k 3 h w"]:
    """Make each photo (or all its tiles) gray with the probability ``share``; gray photos have three equal channels."""
    chosen = (torch.rand(len(photos)) < share).to(photos.device)
    gray: Tensor = rgb_to_grayscale(photos, num_output_channels=3)
    return torch.where(chosen.view(-1, *[1] * (photos.ndim - 1)), gray, photos)
