"""Colours matched to the true photo's own histograms: the rows of table 4 of Larsson et al. (ECCV 2016).

Such rows know of each photo which colours it has and how often, and only not where. docs/histograms.md says how photos
are matched and how well that does.
"""

import torch
from jaxtyping import UInt8
from torch import Tensor

from pretext.color.lab import rgb_to_lab
from pretext.color.quantiles import match_photo
from pretext.color.spaces import AB
from pretext.colorize.colorizer import Colorizer, Colors
from pretext.colorize.painting import lightness_of, paint
from pretext.errors import InputError

Photo = UInt8[Tensor, "3 height width"]


def check_energy(colorizer: Colorizer) -> None:
    """Raise InputError unless a colorizer predicts distributions, whose energy can be lowered."""
    if not colorizer.space.histograms:
        raise InputError(
            f"{colorizer.space.name} predicts one colour and no distribution, whose energy could be lowered",
            received="true_histogram=energy",
            allowed="true_histogram=quantile, or a colorizer that predicts a distribution",
        )


@torch.no_grad()
def led_by_energy(colorizer: Colorizer, colors: Colors, truth: Photo) -> Colors:
    """Bring predicted distributions near the histograms of the true photo: equation 5 of Larsson et al.

    Each of the output space's histograms has an energy of its own; a distribution over bins of both a and b has one of
    all its bins.

    Args:
        colorizer: What predicted them.
        colors: What :func:`pretext.colorize.painting.predict` returned of the photo.
        truth: The true photo.

    Raises:
        InputError: The colorizer predicts values.
    """
    check_energy(colorizer)
    assert colors.distribution is not None
    space, scores = colorizer.space, colors.distribution.log()
    targets = space.histograms_of(rgb_to_lab(truth[None].to(scores.device)))
    pairs = zip(space.parts(scores), space.biases(scores, targets), strict=True)
    parts = [(part + bias.to(part)[:, :, None, None]).softmax(1) for part, bias in pairs]
    distribution = torch.cat(parts, 1)
    return Colors(
        space.decode(distribution.log(), lightness=colors.lightness), distribution, colors.lightness
    )


@torch.no_grad()
def matched_by_quantiles(painted: Photo, truth: Photo) -> Photo:
    """Give a coloured photo the true one's distribution of colours, by quantiles of RGB divided by lightness.

    Args:
        painted: The photo in colour.
        truth: The true photo, of the same size.

    Returns:
        The photo, with the true one's CIE lightness.
    """
    matched = match_photo(painted[None] / 255, truth[None] / 255).clamp(0, 1)
    return paint(lightness_of(truth), rgb_to_lab(matched)[0, AB])
