"""Colours that are steered: led to those of a reference photo, and around the circle of hues.

Larsson, Maire, Shakhnarovich, "Learning Representations for Automatic Colorization", ECCV 2016, on histogram transfer
and biased sampling. What was predicted is changed by `steer`, before colours are chosen from it; what was painted by
`recolor`. `pretext.color.energy`, `quantiles` and `histograms` say how, docs/histograms.md how well.

Differences from the paper: one histogram over bins of both a and b is brought near the reference's by the same equation
5, with a bias of each of its bins, so that all rules of choosing stay as they are. Photos keep their CIE lightness, not
the mean of red, green and blue.
"""

import math

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pretext.color.bicone import bicone_ab, rgb_to_bicone
from pretext.color.gamut import reduce_chroma
from pretext.color.histograms import rotate
from pretext.color.lab import lab_to_rgb, rgb_to_lab, rgb_to_lightness
from pretext.color.quantiles import PhotoMatch
from pretext.colorize.colorizer import Colorizer, Colors
from pretext.colorize.painting import bands, joined
from pretext.colorize.reference import MAX_LOOKED_AT, Reference
from pretext.colorize.settings import Steering
from pretext.errors import InputError

#: Most positions of a map of which a bias is found, evenly chosen; it is then applied to all.
MAX_POSITIONS = 1 << 12

#: A bias of each of a space's histograms.
Biases = tuple[Float[Tensor, "1 _"], ...]


def check_steering(colorizer: Colorizer, steering: Steering) -> None:
    """Raise InputError unless a colorizer's colours can be steered so."""
    space = colorizer.space
    if steering.transfer == "energy" and not space.histograms:
        raise InputError(
            f"{space.name} predicts one colour and no distribution whose energy could be lowered",
            received="transfer energy",
            allowed="use the transfer quantile, or a colorizer that predicts a distribution",
        )
    if steering.bias and steering.transfer != "quantile" and space.hue is None:
        raise InputError(
            f"{space.name} predicts no hues that could be turned",
            received=f"bias {steering.bias:g}",
            allowed="use a colorizer of hue_chroma, or a reference with the transfer quantile",
        )


@torch.no_grad()
def steer(colorizer: Colorizer, colors: Colors, steering: Steering, biases: Biases | None = None) -> Colors:
    """Change what was predicted of a photo.

    Args:
        colorizer: What predicted it.
        colors: What `pretext.colorize.painting.predict` returned.
        steering: Where to. The transfer ``quantile`` changes nothing here: see `recolor`.
        biases: What `find_biases` returned of the photo and the reference; None finds them anew.

    Returns:
        The changed distribution and the ab decoded from it; ``colors`` itself if nothing is to be changed.

    Raises:
        InputError: The colorizer's colours cannot be steered so.
    """
    check_steering(colorizer, steering)
    by_energy = steering.reference is not None and steering.transfer == "energy"
    turns = steering.bias != 0 and steering.transfer != "quantile"
    if colors.distribution is None or not (by_energy or turns):
        return colors
    space = colorizer.space
    parts = list(space.parts(colors.distribution))
    if steering.reference is not None:
        found = biases or find_biases(colorizer, colors, steering.reference)
        for place, (part, bias) in enumerate(zip(parts, found, strict=True)):
            leaning = rotate(bias, steering.bias) if place == space.hue else bias
            parts[place] = (part.log() + leaning.to(part)[:, :, None, None]).softmax(1)
    elif space.hue is not None:
        parts[space.hue] = rotate(parts[space.hue], steering.bias)
    distribution = torch.cat(parts, 1)
    return Colors(
        space.decode(distribution.log(), lightness=colors.lightness), distribution, colors.lightness
    )


@torch.no_grad()
def find_biases(colorizer: Colorizer, colors: Colors, reference: Reference) -> Biases:
    """Find what brings a photo's predicted distributions near a reference's histograms: the slow part of `steer`.

    Args:
        colorizer: What predicted them.
        colors: What `pretext.colorize.painting.predict` returned.
        reference: A photo in colour.

    Raises:
        InputError: The colorizer predicts no distribution.
    """
    check_steering(colorizer, Steering(reference, "energy"))
    assert colors.distribution is not None
    chosen = _some(colors.distribution, MAX_POSITIONS)
    targets = colorizer.space.histograms_of(rgb_to_lab(_pixels(reference).to(chosen.device)))
    return colorizer.space.biases(chosen.log(), targets)


@torch.no_grad()
def recolor(
    painted: UInt8[Tensor, "3 height width"],
    lightness: Float[Tensor, "1 height width"],
    steering: Steering,
) -> UInt8[Tensor, "3 height width"]:
    """Give a painted photo the reference's colours by quantiles, if that is how they are transferred.

    Args:
        painted: The photo in colour, sRGB.
        lightness: CIE L of every pixel, 0..100, which the result keeps.
        steering: The reference, and by how much its hues are turned.

    Returns:
        sRGB; ``painted`` itself if the transfer is another one.
    """
    if steering.reference is None or steering.transfer != "quantile":
        return painted
    wanted = turned(_pixels(steering.reference), steering.bias)
    match = PhotoMatch(_some(painted[None], MAX_LOOKED_AT) / 255, wanted)
    recolored = torch.empty_like(painted)
    for rows in bands(*painted.shape[1:]):
        matched = match(painted[None, :, rows] / 255).clamp(0, 1)
        recolored[:, rows] = joined(lightness[:, rows].cpu(), rgb_to_lab(matched)[0, 1:])
    return recolored


def turned(rgb: Float[Tensor, "n 3 h w"], degrees: float) -> Float[Tensor, "n 3 h w"]:
    """Turn the hues of sRGB in [0, 1]; chroma and CIE lightness stay, but for colours that sRGB does not have."""
    if degrees == 0:
        return rgb
    hue, chroma, _ = torch.split(rgb_to_bicone(rgb), 1, 1)
    lightness = rgb_to_lightness(rgb)
    ab = bicone_ab((hue + degrees / 360).remainder(1), chroma, lightness)
    return lab_to_rgb(reduce_chroma(torch.cat([lightness, ab], 1)))


def _pixels(reference: Reference) -> Float[Tensor, "1 3 1 pixels"]:
    """Return a reference's pixels in [0, 1]."""
    rgb = torch.frombuffer(bytearray(reference.rgb), dtype=torch.uint8)
    return rgb.view(1, 1, -1, 3).permute(0, 3, 1, 2) / 255


def _some(pixels: Tensor, most: int) -> Tensor:
    """Return rows and columns of (N, C, H, W) at even distances, about ``most`` pixels at the most."""
    height, width = pixels.shape[2:]
    step = math.ceil(math.sqrt(height * width / most))
    return pixels[:, :, min(step, height) // 2 :: step, min(step, width) // 2 :: step]
