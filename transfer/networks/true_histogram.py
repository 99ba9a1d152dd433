"""Colours matched to the true photo's own histograms: the rows of table 4 of Larsson et al. (ECCV 2016).

Such rows know of each photo which colours it has and how often, and only not where. docs/histograms.md says how photos
are matched and how well that does.
"""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pretext.color.bicone import rgb_to_bicone
from pretext.color.energy import match_hue_and_chroma, minimize_energy
from pretext.color.histograms import histogram, hue_and_chroma_histograms
from pretext.color.lab import rgb_to_lab
from pretext.color.output_space import Classification, OutputSpace
from pretext.color.quantiles import match_photo
from pretext.color.spaces import AB, HueChroma, LabMarginals
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
    space, truth = colorizer.space, truth.to(colors.distribution.device)
    distribution = _nearer(space, colors.distribution.log(), truth[None])
    return Colors(
        space.decode(distribution.log(), lightness=colors.lightness), distribution, colors.lightness
    )


def _nearer(
    space: OutputSpace, scores: Float[Tensor, "1 q h w"], truth: UInt8[Tensor, "1 3 height width"]
) -> Float[Tensor, "1 q h w"]:
    """Return the distributions that minimise the energy."""
    if isinstance(space, HueChroma):
        hue, chroma, _ = rgb_to_bicone(truth / 255).unbind(1)
        hue_scores, chroma_scores = space.parts(scores)
        wanted = hue_and_chroma_histograms(hue, chroma, space.count)
        matches = match_hue_and_chroma(hue_scores, chroma_scores, *wanted)
        return torch.cat([match.probabilities for match in matches], 1)
    ab = rgb_to_lab(truth)[:, AB]
    if isinstance(space, LabMarginals):
        edges = torch.nn.functional.pad(space.edges.to(ab), (1, 1), value=torch.inf)
        targets = [histogram(values, edges) for values in ab.unbind(1)]
    else:
        assert isinstance(space, Classification)
        indices, weights = (each.flatten(1) for each in space.encode(ab))
        shares = torch.zeros(1, space.channels, dtype=weights.dtype, device=weights.device)
        targets = [shares.scatter_add_(1, indices, weights / weights.sum())]
    pairs = zip(space.parts(scores), targets, strict=True)
    return torch.cat([minimize_energy(part, target).probabilities for part, target in pairs], 1)


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
