"""From a gray photo to a photo in colour: predict at the network's size, decode, enlarge the colours, join, clip.

Or the predicted distribution is enlarged, and decoded at each pixel. The photo's own lightness is kept at full
resolution; only ab comes from the network. Full-resolution steps go through bands of rows, so that their memory does
not grow with the photo.
"""

import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor
from torch.nn import functional as F

from pretext.checks import check_at_least, check_choice
from pretext.color.gamut import reduce_chroma
from pretext.color.lab import lab_to_rgb, rgb_to_lightness
from pretext.colorize.colorizer import Colorizer, Colors
from pretext.colorize.header import find_colorizer
from pretext.colorize.settings import DECODE_AT, DRAWN, UPSAMPLINGS, Decoding
from pretext.colorize.upsampling import bilateral, bilinear
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
    "paint_decoded",
    "predict",
]

#: Length of a photo's shorter side for the network, of colorizers that do not say how they were trained.
DEFAULT_SIZE = 256
#: The longer side for the network is at most so many times the shorter one that was asked for.
MAX_ASPECT = 8
#: Pixels of a band of rows; a longer row is a band of its own.
BAND_PIXELS = 1 << 17
#: Probabilities of a band of rows of an enlarged distribution, about 4 MB; a longer row is a band of its own.
BAND_PROBABILITIES = 1 << 20

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
    height, width = photo.shape[1:]
    parts = [rgb_to_lightness(photo[None, :, rows])[0] for rows in bands(height, width)]
    return torch.cat(parts, 1)


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
        ab (1, 2, h, w) in CIE units, the distribution (1, Q, h, w) or None, and the lightness (1, 1, h, w) at the
        positions, on the colorizer's device.

    Raises:
        InputError: ``size`` is below 1, or the colorizer gives colours that are not finite numbers.
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
    _check_finite(colors.ab)
    rows, columns = (slice(skipped, skipped + side // stride) for side in (height, width))
    distribution, seen = (
        None if each is None else each[..., rows, columns] for each in (colors.distribution, colors.lightness)
    )
    return Colors(colors.ab[..., rows, columns], distribution, seen)


def network_size(height: int, width: int, size: int, multiple: int) -> tuple[int, int]:
    """Return the height and width at which the network sees a photo: multiples of ``multiple``, see `predict`."""
    scale = min(size / min(height, width), MAX_ASPECT * size / max(height, width))
    # Two strides at least, so that borders can be mirrored.
    rounded = [max(2, round(side * scale / multiple)) * multiple for side in (height, width)]
    return rounded[0], rounded[1]


def check_decoding(colorizer: Colorizer, decoding: Decoding, decode_at: str = "map") -> None:
    """Raise InputError unless a colorizer's output space can be decoded so.

    Args:
        colorizer: Any colorizer. One that predicts values has its own decoding alone, at the positions of the map.
        decoding: How a colour is chosen.
        decode_at: One of `DECODE_AT`.
    """
    space = colorizer.space
    if space.rules:
        space.check_rule(decoding.rule)
        return
    if decoding.rule != "annealed" or decoding.temperature is not None:
        raise InputError(
            f"{space.name} predicts one colour and no distribution to choose from",
            received=decoding.rule if decoding.temperature is None else f"temperature {decoding.temperature}",
            allowed="leave out rule and temperature, or use a colorizer that predicts a distribution",
        )
    if decode_at != "map":
        raise InputError(
            f"{space.name} predicts one colour and no distribution to enlarge",
            received=f"decode_at {decode_at}",
            allowed="decode at the map, or use a colorizer that predicts a distribution",
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
        InputError: The colorizer's output space cannot be decoded so.
    """
    check_decoding(colorizer, decoding)
    own = decoding.rule == "annealed" and decoding.temperature is None
    if own or colors.distribution is None:
        return colors.ab
    distribution, lightness = colors.distribution, colors.lightness
    if decoding.rule in DRAWN:
        # Drawn on the CPU: the same seed gives the same colours on any device.
        distribution, lightness = distribution.cpu(), None if lightness is None else lightness.cpu()
    generator = torch.Generator(distribution.device).manual_seed(decoding.seed)
    ab = colorizer.decode(
        distribution, decoding.temperature, rule=decoding.rule, lightness=lightness, generator=generator
    )
    return ab.to(colors.distribution.device)


def entropy(distribution: Float[Tensor, "n q h w"]) -> Float[Tensor, "n h w"]:
    """Return the entropy of each position's distribution in bits: 0 where one class is certain, log2 Q at the most.

    Of marginal histograms, which follow each other in the distribution, it is the sum of their entropies.
    """
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
    return _painted(lightness, ab, upsampling, lambda colors, band, rows: colors)


@torch.no_grad()
def paint_decoded(
    colorizer: Colorizer,
    lightness: Lightness,
    colors: Colors,
    decoding: Decoding,
    upsampling: str = "bilinear",
    decode_at: str = "map",
) -> UInt8[Tensor, "3 height width"]:
    """Choose a photo's colours and join them with its lightness.

    Args:
        colorizer: What predicted them.
        lightness: CIE L of every pixel, 0..100, (1, H, W).
        colors: What `predict` returned for the photo.
        decoding: How a colour is chosen.
        upsampling: How what is small is enlarged, see `paint`.
        decode_at: ``map``: a colour is chosen at each position of the map, and the colours are enlarged (Zhang et al.,
            ECCV 2016). ``photo``: the distribution is enlarged, and a colour chosen at each pixel, whose own lightness
            is then known (Larsson et al., ECCV 2016); only bands of rows of the large distribution are kept.

    Returns:
        sRGB, (3, H, W).

    Raises:
        InputError: The colorizer's output space cannot be decoded so, or a choice is unknown.
    """
    check_choice("decode_at", decode_at, DECODE_AT)
    check_decoding(colorizer, decoding, decode_at)
    if decode_at == "map" or colors.distribution is None:
        return paint(lightness, decode(colorizer, colors, decoding)[0], upsampling)
    generator = torch.Generator()

    def decode_band(distribution: Tensor, band: Tensor, rows: slice) -> Tensor:
        # Coherent draws have the same random numbers in all bands, and those of single pixels go on.
        if rows.start == 0 or decoding.rule == "coherent":
            generator.manual_seed(decoding.seed)
        return colorizer.decode(
            distribution[None],
            decoding.temperature,
            rule=decoding.rule,
            lightness=band[None],
            generator=generator,
        )[0]

    return _painted(lightness, colors.distribution[0], upsampling, decode_band)


def _painted(
    lightness: Tensor, small: Tensor, upsampling: str, decode_band: Callable[[Tensor, Tensor, slice], Tensor]
) -> Tensor:
    """Enlarge a map, and join its colours with the lightness, band by band.

    Args:
        lightness: CIE L of every pixel, (1, H, W).
        small: Colours or a distribution, (C, h, w).
        upsampling: One of `UPSAMPLINGS`.
        decode_band: Takes a band of the enlarged map, its lightness and which rows it is; returns its ab.
    """
    check_choice("upsampling", upsampling, UPSAMPLINGS)
    height, width = lightness.shape[1:]
    lightness, small = lightness.cpu(), small.float().cpu()
    enlarge = bilinear if upsampling == "bilinear" else bilateral
    cells = (
        F.adaptive_avg_pool2d(lightness, (small.shape[1], small.shape[2]))
        if upsampling == "bilateral"
        else lightness
    )
    painted = torch.empty(3, height, width, dtype=torch.uint8)
    pixels = None if len(small) == 2 else max(1, BAND_PROBABILITIES // len(small))
    for rows in bands(height, width, pixels):
        band = lightness[:, rows]
        ab = decode_band(enlarge(small, cells, band, rows, height), band, rows)
        painted[:, rows] = joined(band, ab)
    return painted


def joined(lightness: Lightness, ab: Float[Tensor, "2 height width"]) -> UInt8[Tensor, "3 height width"]:
    """Return the sRGB of pixels of a lightness and a colour; colours that sRGB does not have lose chroma.

    Raises:
        InputError: A colour is NaN or infinite, which would become black.
    """
    _check_finite(ab)
    rgb = lab_to_rgb(reduce_chroma(torch.cat([lightness, ab])[None]))[0]
    return rgb.mul_(255).round_().to(torch.uint8)


def _check_finite(ab: Tensor) -> None:
    if not bool(torch.isfinite(ab).all()):
        raise InputError(
            "the colorizer gives colours that are not finite numbers",
            allowed="use another colorizer, or a higher temperature if a very low one is given",
        )


def bands(height: int, width: int, pixels: int | None = None) -> Iterator[slice]:
    """Yield slices of rows that cover a photo, each of about so many pixels, `BAND_PIXELS` for None."""
    rows = max(1, (BAND_PIXELS if pixels is None else pixels) // width)
    for first in range(0, height, rows):
        yield slice(first, min(first + rows, height))
