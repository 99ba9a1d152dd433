"""Colours matched to those of a reference by quantiles: Larsson, Maire, Shakhnarovich, ECCV 2016.

The counterpart of `pretext.color.energy.minimize_energy` for colours that are chosen already: the value at each
quantile of a photo becomes the reference's value there, so that the photo has the reference's histogram. It does not
see the distributions that were predicted.

`match_photo` does what the paper describes: the three channels of RGB, each divided by the pixel's lightness, are
matched one by one and multiplied by lightness again. Where only a histogram of marginals is known, or for comparison,
`match_quantiles` and `match_histogram` match chroma, a or b, `match_hues` and `match_hue_histogram` hue.

What the paper leaves open, and what is done here: pixels are weighted by lightness; equal values of a photo stay equal,
at the middle of their ranks, and the reference is interpolated linearly between its values (Hazen's quantiles); a pixel
of lightness 0 counts as gray; the lightness that matching shifted is restored by adding the same to all three channels,
as the paper's code does.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from pretext.errors import InputError

#: Places on the circle at which the distributions of hue are compared, a degree apart.
_PLACES = 360

Values = Float[Tensor, "n h w"]
Reference = Float[Tensor, "m height width"]
Photos = Float[Tensor, "n 3 h w"]


def match_photo(
    photos: Photos, references: Float[Tensor, "m 3 height width"], by_lightness: bool = True
) -> Photos:
    """Give photos the colours of references by lightness-normalised quantile matching.

    Args:
        photos: Coloured photos, sRGB in [0, 1].
        references: A reference of each, or one for all, of any size.
        by_lightness: Weigh each pixel by its lightness. Dark pixels, whose quotients are large and mean little, spoil
            the colours of all others if they count as much (docs/histograms.md).

    Returns:
        sRGB with the mean of R, G and B, the paper's lightness, of ``photos``. Values may lie outside [0, 1].

    Raises:
        InputError: There is neither one reference nor one for each photo.

    Differences from the paper: it mentions no weights; ``by_lightness=False`` has none.
    """
    return PhotoMatch(photos, references, by_lightness)(photos)


class PhotoMatch:
    """What `match_photo` does with some photos, to be done with others: with parts of large ones, one by one.

    Args:
        photos: Coloured photos, sRGB in [0, 1], that tell which value is at which quantile.
        references: A reference of each, or one for all, of any size.
        by_lightness: Weigh each pixel by its lightness, see `match_photo`.

    Raises:
        InputError: There is neither one reference nor one for each photo.
    """

    def __init__(
        self, photos: Photos, references: Float[Tensor, "m 3 height width"], by_lightness: bool = True
    ):
        _check_count(len(references), len(photos))
        lightness, relative = _relative(photos)
        reference_lightness, wanted = (
            each.to(photos.dtype).expand(len(photos), -1, -1, -1) for each in _relative(references)
        )
        weights = [
            each.expand(-1, 3, -1, -1).flatten(0, 1) if by_lightness else None
            for each in (lightness, reference_lightness)
        ]
        self._source = _Ranked(relative.flatten(0, 1), weights[0])
        self._points = _Ranked(wanted.flatten(0, 1), weights[1]).points()

    def __call__(self, photos: Photos) -> Photos:
        """Give photos, or parts of them, the colours of the references; see `match_photo`."""
        lightness, relative = _relative(photos)
        levels = self._source.levels(relative.flatten(2).flatten(0, 1))
        matched = _interpolated(levels, *self._points).view(photos.shape) * lightness
        return matched + (lightness - matched.mean(1, keepdim=True))


def match_quantiles(
    values: Values,
    references: Reference,
    weights: Values | None = None,
    reference_weights: Reference | None = None,
) -> Values:
    """Give the values of photos the distribution of references.

    Args:
        values: One number a pixel, (N, H, W): chroma, a, b or any other that is not circular.
        references: Those of a reference for each photo, or of one for all.
        weights: Weight of each pixel, not negative; if all of a photo are 0, its pixels count alike.
        reference_weights: The same of the references.

    Raises:
        InputError: There is neither one reference nor one for each photo.
    """
    _check_count(len(references), len(values))
    source = _Ranked(values, weights)
    reference = _Ranked(references.to(values.dtype), reference_weights)
    return _interpolated(source.levels(values.flatten(1)), *reference.points()).view(values.shape)


def match_histogram(
    values: Values,
    histograms: Float[Tensor, "m k"],
    edges: Float[Tensor, " edges"],
    weights: Values | None = None,
) -> Values:
    """Give the values of photos a histogram, within whose bins all values are equally frequent.

    Args:
        values: One number a pixel, (N, H, W), that is not circular.
        histograms: That of each photo, or one for all, (N, K).
        edges: The K + 1 edges of the bins, ascending and finite.
        weights: Weight of each pixel, not negative; if all of a photo are 0, its pixels count alike.

    Raises:
        InputError: An edge is infinite, or there is neither one histogram nor one for each photo.
    """
    _check_count(len(histograms), len(values))
    if not bool(edges.isfinite().all()):
        raise InputError(
            "edges of a histogram are infinite",
            received=edges.tolist(),
            allowed="give the outer bins an end",
        )
    levels = _Ranked(values, weights).levels(values.flatten(1))
    return _interpolated(
        levels, _cumulative(histograms), edges.to(values.dtype).expand(len(histograms), -1)
    ).view(values.shape)


def match_hues(
    hues: Values,
    references: Reference,
    weights: Values | None = None,
    reference_weights: Reference | None = None,
) -> Values:
    """Give the hues of photos the distribution of references' hues.

    A circle has no first value from which quantiles could be counted. Of the ways to match in order around the circle
    the one is taken that turns hues the least in the mean: the level s of the photo becomes the reference's level
    s - median(F - G), with F and G the cumulative distributions of both (Rabin, Delon, Gousseau, "Transportation
    distances on the circle", JMIV 2011). The median is over every degree of the circle. Turning photo and reference by
    whole degrees turns the result.

    Args:
        hues: (N, H, W), in turns, [0, 1).
        references: Those of a reference for each photo, or of one for all.
        weights: Weight of each pixel, not negative: chroma, since the hue of gray means nothing. If all of a photo
            are 0, its pixels count alike.
        reference_weights: The same of the references.

    Returns:
        Hues in turns, [0, 1).

    Raises:
        InputError: There is neither one reference nor one for each photo.
    """
    _check_count(len(references), len(hues))
    source, reference = _Ranked(hues, weights), _Ranked(references.to(hues.dtype), reference_weights)
    places = _places(hues)
    levels = _turned(source, hues, reference.levels(places.expand(len(references), -1)))
    positions, points = reference.points()
    positions = torch.cat([positions[:, -1:] - 1, positions, positions[:, :1] + 1], 1)
    points = torch.cat([points[:, -1:] - 1, points, points[:, :1] + 1], 1)
    return _in_circle(_interpolated(levels, positions, points)).view(hues.shape)


def match_hue_histogram(
    hues: Values, histograms: Float[Tensor, "m k"], weights: Values | None = None
) -> Values:
    """Give the hues of photos a histogram, within whose bins all hues are equally frequent: see `match_hues`.

    Args:
        hues: (N, H, W), in turns, [0, 1).
        histograms: That of each photo, or one for all, (N, K), over bins of equal width from 0 to 1.
        weights: Weight of each pixel, not negative; if all of a photo are 0, its pixels count alike.

    Returns:
        Hues in turns, [0, 1).

    Raises:
        InputError: There is neither one histogram nor one for each photo.
    """
    _check_count(len(histograms), len(hues))
    cumulative = _cumulative(histograms)
    edges = torch.linspace(0, 1, cumulative.shape[1], dtype=torch.float64, device=hues.device)
    edges = edges.expand(len(histograms), -1)
    there = _interpolated(_places(hues).double().expand(len(histograms), -1), edges, cumulative)
    levels = _turned(_Ranked(hues, weights), hues, there)
    return _in_circle(_interpolated(levels, cumulative, edges.to(hues.dtype))).view(hues.shape)


class _Ranked:
    """Values in ascending order, (N, P), and the share of the weight that lies before each, (N, P + 1)."""

    def __init__(self, values: Tensor, weights: Tensor | None):
        flat = values.flatten(1)
        each = torch.ones_like(flat) if weights is None else weights.flatten(1).to(flat.dtype)
        each = torch.where(each.sum(1, keepdim=True) > 0, each, torch.ones_like(each))
        # Values without weight go last, and take the largest value, so that none lies between others or before them.
        largest = torch.where(each > 0, flat, -torch.inf).amax(1, keepdim=True)
        self.values, order = torch.where(each > 0, flat, largest).sort(dim=1, stable=True)
        before = torch.nn.functional.pad(each.double().gather(1, order).cumsum(1), (1, 0))
        self.before = before / before[:, -1:]

    def levels(self, values: Tensor) -> Tensor:
        """Return the share of the weight below each value and half of that at it, in [0, 1]."""
        values = values.contiguous()
        below = self.before.gather(1, torch.searchsorted(self.values, values))
        return (below + self.before.gather(1, torch.searchsorted(self.values, values, right=True))) / 2

    def points(self) -> tuple[Tensor, Tensor]:
        """Return the levels of the values themselves, each at the middle of its weight, and the values."""
        return (self.before[:, 1:] + self.before[:, :-1]) / 2, self.values


def _interpolated(levels: Tensor, positions: Tensor, points: Tensor) -> Tensor:
    """Return at each level the value between those at the positions beside it; the outer ones beyond them."""
    positions = torch.cat([positions[:, :1], positions], 1).expand(len(levels), -1).contiguous()
    points = torch.cat([points[:, :1], points], 1).expand(len(levels), -1)
    after = torch.searchsorted(positions, levels.contiguous(), right=True).clamp(1, positions.shape[1] - 1)
    start, end = positions.gather(1, after - 1), positions.gather(1, after)
    share = ((levels - start) / (end - start).clamp_min(1e-300)).clamp(0, 1).to(points.dtype)
    return torch.lerp(points.gather(1, after - 1), points.gather(1, after), share)


def _cumulative(histograms: Tensor) -> Tensor:
    """Return the share of a histogram below each of its K + 1 edges."""
    cumulative = torch.nn.functional.pad(histograms.double().cumsum(1), (1, 0))
    return cumulative / cumulative[:, -1:]


def _places(hues: Tensor) -> Tensor:
    """Return the hues at which distributions are compared, in the precision of the hues."""
    return (torch.arange(_PLACES, dtype=hues.dtype, device=hues.device) + 0.5) / _PLACES


def _turned(source: _Ranked, hues: Tensor, there: Tensor) -> Tensor:
    """Return the level of the reference at which each hue finds its match, given the reference's at `_places`."""
    ahead = source.levels(_places(hues).expand(len(hues), -1)) - there
    levels = source.levels(hues.flatten(1)) - ahead.median(1, keepdim=True).values
    return levels - levels.floor()


def _in_circle(hues: Tensor) -> Tensor:
    """Return hues in [0, 1), where those just below 0 would be rounded to 1."""
    turned = hues - hues.floor()
    return torch.where(turned < 1, turned, torch.zeros_like(turned))


def _relative(photos: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of R, G and B, (N, 1, H, W), and the channels divided by it; 1 where it is 0."""
    lightness = photos.mean(1, keepdim=True)
    relative = torch.where(lightness > 0, photos / lightness, torch.ones_like(photos))
    return lightness, relative


def _check_count(references: int, photos: int) -> None:
    """Raise InputError unless there is one reference, or one for each photo."""
    if references not in (1, photos):
        raise InputError("references do not fit the photos", received=references, allowed=(1, photos))
