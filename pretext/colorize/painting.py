"""From a gray photo to a photo in colour: predict at the network's size, decode, enlarge the colours, join, clip.

The photo's own lightness is kept at full resolution; only ab comes from the network. Full-resolution steps go through
bands of rows, so that their memory does not grow with the photo.
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor
from torch.nn import functional as F

from pretext.checks import check_at_least, check_choice
from pretext.color.decode import coherent_sample, mode, sample
from pretext.color.gamut import reduce_chroma
from pretext.color.lab import lab_to_rgb, rgb_to_lightness
from pretext.color.spaces import Classification
from pretext.colorize.colorizer import Colorizer, Colors
from pretext.colorize.header import find_colorizer
from pretext.colorize.settings import UPSAMPLINGS, Decoding
from pretext.errors import InputError

__all__ = [
    "Decoding",
    "check_decoding",
    "decode",
    "entropy",
    "find_colorizer",
    "lightness_of",
    "network_size",
    "own_size",
    "paint",
    "predict",
]

#: Length of a photo's shorter side for the network, of colorizers that do not say how they were trained.
DEFAULT_SIZE = 256
#: The longer side for the network is at most so many times the shorter one that was asked for.
MAX_ASPECT = 8
#: Pixels of a band of rows; a longer row is a band of its own.
BAND_PIXELS = 1 << 17
#: Difference in CIE L at which a cell of the colour map counts exp(-1/2) as much for a pixel.
LIGHTNESS_SIGMA = 10.0
#: Share of a cell's weight that does not depend on lightness, for pixels that are unlike all cells around.
UNLIKE = 1e-3

AbMap = Float[Tensor, "2 h w"]
Lightness = Float[Tensor, "1 height width"]


def own_size(colorizer: Colorizer) -> int:
    """Return the shorter side of the photos that a colorizer was trained on, in pixels.

    That is the run's ``view.resize``, before cropping, so that things are as large as in training; `DEFAULT_SIZE` if
    the file does not say it.
    """
    config = colorizer.provenance.config if colorizer.provenance else {}
    view = config.get("view")
    size = view.get("resize") if isinstance(view, dict) else None
    return size if isinstance(size, int) and size > 0 else DEFAULT_SIZE


def lightness_of(photo: UInt8[Tensor, "3 height width"]) -> Lightness:
    """Return the CIE lightness of an RGB photo, 0..100, band by band."""
    bands = [rgb_to_lightness(photo[None, :, rows])[0] for rows in _bands(*photo.shape[1:])]
    return torch.cat(bands, 1)


@torch.no_grad()
def predict(
    colorizer: Colorizer, photo: Shaped[Tensor, "channels height width"], size: int | None = None
) -> Colors:
    """Predict a photo's colours at the network's size.

    The photo is resized, its sides rounded to multiples of the layers' strides, and mirrored at its borders, so that
    the positions of the map lie evenly in the photo: position j of h covers the rows from j/h to (j+1)/h of it.

    Args:
        colorizer: Any colorizer, in eval mode.
        photo: uint8 RGB (3, H, W), or its CIE lightness (1, H, W), 0..100; on any device.
        size: Length of the shorter side for the network, in pixels; None takes `own_size`. The longer side follows the
            photo's shape, up to `MAX_ASPECT` times ``size``; of a longer photo the shorter side is smaller.

    Returns:
        ab (1, 2, h, w) in CIE units and the distribution (1, Q, h, w) or None, on the colorizer's device.

    Raises:
        InputError: ``size`` is below 1.
    """
    size = own_size(colorizer) if size is None else size
    check_at_least("size", size, 1)
    lightness = lightness_of(photo) if photo.dtype == torch.uint8 else photo
    stride, offset = colorizer.grid.stride, colorizer.grid.offset
    height, width = network_size(lightness.shape[1], lightness.shape[2], size, colorizer.grid.multiple)
    device = next(colorizer.parameters()).device
    small = F.interpolate(lightness[None], size=(height, width), mode="bilinear", antialias=True).to(device)
    # Without padding, position j is centred on offset + j * stride instead of on (stride - 1) / 2 + j * stride.
    shift = offset - (stride - 1) / 2
    skipped = max(0, -int(shift // stride))
    before = round(shift + skipped * stride)
    after = skipped * stride - before
    mirrored = F.pad(small, (before, after, before, after), mode="reflect")
    colors = colorizer(mirrored)
    rows, columns = (slice(skipped, skipped + side // stride) for side in (height, width))
    distribution = colors.distribution
    return Colors(
        colors.ab[..., rows, columns],
        None if distribution is None else distribution[..., rows, columns],
    )


def network_size(height: int, width: int, size: int, multiple: int) -> tuple[int, int]:
    """Return the height and width at which the network sees a photo: multiples of ``multiple``, see `predict`."""
    scale = min(size / min(height, width), MAX_ASPECT * size / max(height, width))
    # Two strides at least, so that borders can be mirrored.
    rounded = [max(2, round(side * scale / multiple)) * multiple for side in (height, width)]
    return rounded[0], rounded[1]


def check_decoding(colorizer: Colorizer, decoding: Decoding) -> None:
    """Raise InputError if a colorizer that predicts values, and no distribution, is to be decoded by a rule."""
    if isinstance(colorizer.space, Classification):
        return
    if decoding.rule != "annealed" or decoding.temperature is not None:
        raise InputError(
            f"{colorizer.space.name} predicts one colour and no distribution to choose from",
            received=decoding.rule if decoding.temperature is None else f"temperature {decoding.temperature}",
            allowed="leave out rule and temperature, or use a colorizer that predicts a distribution",
        )


def decode(colorizer: Colorizer, colors: Colors, decoding: Decoding) -> Float[Tensor, "n 2 h w"]:
    """Choose one colour per position.

    Args:
        colorizer: What predicted them.
        colors: What `predict` or the colorizer returned.
        decoding: How to choose.

    Returns:
        ab in CIE units, (N, 2, h, w).

    Raises:
        InputError: The colorizer predicts values and no distribution, and ``decoding`` is not the default.
    """
    check_decoding(colorizer, decoding)
    space = colorizer.space
    own = decoding.rule == "annealed" and decoding.temperature is None
    if own or colors.distribution is None or not isinstance(space, Classification):
        return colors.ab
    if decoding.rule in ("annealed", "mean"):
        return colorizer.decode(colors.distribution, decoding.temperature or 1.0)
    # Drawn on the CPU: the same seed gives the same colours on any device.
    scores = colors.distribution.cpu().log() / (decoding.temperature or 1.0)
    bins, generator = space.bins.cpu(), torch.Generator().manual_seed(decoding.seed)
    if decoding.rule == "mode":
        ab = mode(scores, bins)
    else:
        draw = sample if decoding.rule == "sample" else coherent_sample
        ab = draw(scores, bins, generator)
    return ab.to(colors.distribution.device)


def entropy(distribution: Float[Tensor, "n q h w"]) -> Float[Tensor, "n h w"]:
    """Return the entropy of each position's distribution in bits: 0 where one class is certain, log2 Q at the most."""
    nats: Tensor = -torch.special.xlogy(distribution, distribution).sum(1)
    return nats / math.log(2)


@torch.no_grad()
def paint(lightness: Lightness, ab: AbMap, upsampling: str = "bilinear") -> UInt8[Tensor, "3 height width"]:
    """Join a photo's lightness with a small map of colours.

    Colours that sRGB cannot show at their lightness lose chroma and keep lightness and hue.

    Args:
        lightness: CIE L of every pixel, 0..100, (1, H, W).
        ab: Colours in CIE units, (2, h, w), whose positions lie evenly in the photo, as `predict` returns them.
        upsampling: ``bilinear``; or ``bilateral``, in which the cells of the map count more for a pixel the more their
            lightness is like its own (joint bilateral upsampling; Kopf et al., SIGGRAPH 2007), so that colours
            end at the photo's edges.

    Returns:
        sRGB, (3, H, W).

    Raises:
        InputError: ``upsampling`` is unknown.
    """
    check_choice("upsampling", upsampling, UPSAMPLINGS)
    height, width = lightness.shape[1:]
    lightness, ab = lightness.cpu(), ab.float().cpu()
    enlarge = _bilinear if upsampling == "bilinear" else _bilateral
    cells = (
        F.adaptive_avg_pool2d(lightness, (ab.shape[1], ab.shape[2]))
        if upsampling == "bilateral"
        else lightness
    )
    painted = torch.empty(3, height, width, dtype=torch.uint8)
    for rows in _bands(height, width):
        band = lightness[:, rows]
        lab = torch.cat([band, enlarge(ab, cells, band, rows, height)])
        rgb = lab_to_rgb(reduce_chroma(lab[None]))[0]
        painted[:, rows] = rgb.mul_(255).round_().to(torch.uint8)
    return painted


def _bands(height: int, width: int) -> Iterator[slice]:
    """Yield slices of rows that cover the photo, each of about `BAND_PIXELS` pixels."""
    rows = max(1, BAND_PIXELS // width)
    for first in range(0, height, rows):
        yield slice(first, min(first + rows, height))


def _places(pixels: Tensor, length: int, cells: int) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """Return for pixels of a side of ``length`` the cell before each one's centre, -1 up, and the way on from it."""
    at = (pixels + 0.5) * (cells / length) - 0.5
    before = at.floor()
    return before.long(), (at - before).float()


def _bilinear(ab: Tensor, cells: Tensor, band: Tensor, rows: slice, height: int) -> Tensor:
    """Return the colours of a band of rows, as `F.interpolate` without aligned corners gives them for the photo."""
    across, down = ab.shape[2], ab.shape[1]
    before, way = _places(torch.arange(band.shape[2], dtype=torch.float64), band.shape[2], across)
    wide = _mixed(ab, before, way, 2)
    before, way = _places(torch.arange(rows.start, rows.stop, dtype=torch.float64), height, down)
    return _mixed(wide, before, way[:, None], 1)


def _mixed(values: Tensor, before: Tensor, way: Tensor, dimension: int) -> Tensor:
    last = values.shape[dimension] - 1
    first = values.index_select(dimension, before.clamp(0, last))
    second = values.index_select(dimension, (before + 1).clamp(0, last))
    return torch.lerp(first, second, way.expand_as(first))


def _bilateral(ab: Tensor, cells: Tensor, band: Tensor, rows: slice, height: int) -> Tensor:
    """Return the colours of a band of rows: weighted means of the 4 x 4 cells around each pixel.

    A cell's weight falls linearly to 0 at a distance of two cells, across and down, and by a Gaussian with its
    difference in lightness.
    """
    down, across = ab.shape[1:]
    before_y, way_y = _places(torch.arange(rows.start, rows.stop, dtype=torch.float64), height, down)
    before_x, way_x = _places(torch.arange(band.shape[2], dtype=torch.float64), band.shape[2], across)
    values = torch.cat([cells, ab])
    total = torch.zeros(3, *band.shape[1:])
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
