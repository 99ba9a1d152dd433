"""Colours that sRGB cannot show: brought back into it with their lightness and hue kept."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pretext.color.lab import lab_to_linear_rgb

#: Linear sRGB may leave [0, 1] by this much, less than half a step of 8 bits.
TOLERANCE = 1e-4
#: Halvings of the interval in which the chroma is searched: the found one is at most 1/4096 of the given one too small.
HALVINGS = 12


def in_gamut(lab: Float[Tensor, "n 3 h w"]) -> Bool[Tensor, "n h w"]:
    """Return which colours sRGB can show, by `TOLERANCE`."""
    linear = lab_to_linear_rgb(lab)
    return (linear.amin(1) >= -TOLERANCE) & (linear.amax(1) <= 1 + TOLERANCE)


def reduce_chroma(lab: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Move colours outside sRGB straight towards gray until they are inside; lightness and hue stay as they are.

    Args:
        lab: CIE Lab with L in [0, 100], (N, 3, H, W), in single or double precision.

    Returns:
        Lab whose ab is that of ``lab`` times a factor from 0 to 1, found by bisection; ``lab`` itself if all colours
        are inside.
    """
    outside = ~in_gamut(lab)
    if not outside.any():
        return lab
    colors = lab.movedim(1, -1)[outside][:, :, None, None]
    lightness, ab = colors[:, :1], colors[:, 1:]
    low, high = torch.zeros_like(lightness), torch.ones_like(lightness)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        inside = in_gamut(torch.cat([lightness, ab * middle], 1)).unsqueeze(1)
        low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
    reduced = lab.movedim(1, -1).clone()
    reduced[outside] = torch.cat([lightness, ab * low], 1).flatten(1)
    return reduced.movedim(-1, 1)
