"""Hue, chroma and lightness: sRGB as a bicone, of which black and white are the tips and pure colours the rim.

Source: Larsson, Maire, Shakhnarovich, "Learning Representations for Automatic Colorization", ECCV 2016, section 3.2,
and their code (github.com/gustavla/autocolorize). Hue is that of HSV, in turns, 0..1; chroma is the largest of red,
green and blue less the smallest, 0..1; lightness is their mean, 0..1.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from pretext.color.lab import (
    LUMINANCE,
    lab_to_rgb,
    lightness_to_luminance,
    rgb_to_lab,
    rgb_to_linear_rgb,
)

#: Steps of Newton's method in `bicone_ab`; four give ab of every colour of sRGB to 1e-3.
STEPS = 6

Channel = Float[Tensor, "n 1 h w"]


def rgb_to_bicone(rgb: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Convert sRGB in [0, 1] to hue, chroma and lightness, each 0..1; the hue of grays, which have none, is 0."""
    red, green, blue = rgb.unbind(1)
    largest = rgb.amax(1)
    chroma = largest - rgb.amin(1)
    divisor = torch.where(chroma > 0, chroma, 1)
    sixths = torch.where(
        red == largest,
        (green - blue) / divisor,
        torch.where(green == largest, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    # The second remainder takes what the first one rounded to 6.
    hue = (sixths.remainder(6) / 6).remainder(1)
    return torch.stack([hue, chroma, rgb.mean(1)], 1)


def bicone_to_rgb(bicone: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Convert hue, chroma and lightness to sRGB whose mean is the lightness.

    What sRGB does not have leaves [0, 1]. Within it the colours are those of the authors' code, which takes L + C / 2
    for the value of HSV and then shifts the mean to L; it clips before and after, which loses chroma.
    """
    hue, chroma, lightness = (channel.unsqueeze(1) for channel in bicone.unbind(1))
    color = chroma * _pure(hue)
    return color + lightness - color.mean(1, keepdim=True)


def bicone_ab(hue: Channel, chroma: Channel, lightness: Channel) -> Float[Tensor, "n 2 h w"]:
    """Return ab of the colour of a hue and a chroma at a CIE lightness.

    Shifting red, green and blue alike keeps hue and chroma, and there is one shift at which the luminance is that of
    the CIE lightness: the colour of a photo follows exactly from its hue, its chroma and its CIE lightness.

    Args:
        hue: In turns.
        chroma: 0..1.
        lightness: CIE L, 0..100.

    Returns:
        ab in CIE units. A colour that sRGB does not have is clipped, channel by channel; joining its ab with the
        lightness may then need `pretext.color.gamut.reduce_chroma`.

    Differences from the paper: its network sees the mean of red, green and blue, and its result keeps that mean;
    photos here keep their CIE lightness. The two are the same for grays.
    """
    dtype = torch.promote_types(chroma.dtype, torch.float32)
    color = (chroma * _pure(hue)).to(dtype)
    shares = color.new_tensor(LUMINANCE).view(1, 3, 1, 1)
    luminance = lightness_to_luminance(lightness.to(dtype))
    # Luminance is convex in the shift, so that Newton's method goes down to the root from above: from the gray.
    shift = lab_to_rgb(torch.nn.functional.pad(lightness.to(dtype), (0, 0, 0, 0, 0, 2)))[:, :1]
    for _ in range(STEPS):
        rgb = color + shift
        linear = rgb_to_linear_rgb(rgb)
        slope = torch.where(rgb > 0.04045, 2.4 * linear / (rgb.clamp_min(0.04045) + 0.055), 1 / 12.92)
        excess = (linear * shares).sum(1, keepdim=True) - luminance
        shift = shift - excess / (slope * shares).sum(1, keepdim=True)
    return rgb_to_lab((color + shift).clamp(0, 1))[:, 1:]


def _pure(hue: Channel) -> Float[Tensor, "n 3 h w"]:
    """Return the colour of chroma 1 whose smallest channel is 0."""
    first_of_channels = hue.new_tensor([0.0, 4.0, 2.0]).view(1, 3, 1, 1)
    return ((6 * hue + first_of_channels).remainder(6) - 3).abs().sub(1).clamp(0, 1)
