"""Colour histograms of photos, and predictions steered to one: Larsson, Maire, Shakhnarovich, ECCV 2016.

A colorizer of marginal distributions predicts K bins of one number of the colour: hue, chroma, a or b. Its scores are
(N, K, H, W): logits, or logarithms of probabilities, which may be -inf. Each marginal is steered by itself. A histogram
is (N, K) and sums to 1. Every function works on a batch of photos and on any device.

`minimize_energy` brings the colours of a photo near a given histogram; `pretext.color.quantiles` does so with colours
that are chosen already. No public code does either. What the paper leaves open, and what is done here:

- lambda of equation 5, and whether its chi-squared distance has the factor 1/2. Ours has it; `STRENGTH` was chosen on
  photos (docs/histograms.md).
- How a gray pixel counts whose hue means nothing. Histograms, and the energy, take a weight of each pixel; hue needs
  its chroma as the weight.
- How equation 5 is minimised, beyond "gradient descent". See `minimize_energy`.
- Which bias of hue is rotated to draw samples. `hue_bias` is one; that of a `Match` is another.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pretext.checks import check_at_least
from pretext.errors import InputError

#: lambda of equation 5.
STRENGTH = 10.0
#: A step is halved until it lowers the energy by this share of what its slope promises (Armijo's rule).
_ENOUGH = 1e-4
_HALVINGS = 40
#: Energies below this count as this for the tolerance: less is rounding.
_ALMOST_NONE = 1e-9
#: Bins in which both histograms together hold less count as if they held this.
_LEAST = 1e-12

Scores = Float[Tensor, "n k h w"]
Weights = Float[Tensor, "n h w"]
Histograms = Float[Tensor, "n k"]


class Match(NamedTuple):
    """A minimum of equation 5.

    Attributes:
        bias: b, (N, K), with mean 0; for other scores of the same photo see `apply_bias`.
        probabilities: The distributions y*, (N, K, H, W), in the precision of the scores.
        energies: E of each photo before the first step and after each, (N, steps + 1). It never rises.
        converged: Whether the last step lowered E by less than the tolerance.
    """

    bias: Histograms
    probabilities: Scores
    energies: Float[Tensor, "n steps"]
    converged: Bool[Tensor, " n"]


def histogram(values: Weights, edges: Float[Tensor, " edges"], weights: Weights | None = None) -> Histograms:
    """Return the share of each bin among a photo's pixels.

    Args:
        values: One number a pixel, (N, H, W).
        edges: The K + 1 edges of the bins, ascending: `torch.linspace(0, 1, 33)` for hue and chroma in [0, 1]. A value
            on an edge belongs to the bin above it; values beyond the outer edges belong to the outer bins.
        weights: Weight of each pixel, (N, H, W), not negative.

    Returns:
        (N, K); 1 / K everywhere for a photo whose weights are all 0.
    """
    bins = torch.bucketize(values, edges[1:-1].contiguous(), right=True).flatten(1)
    each = torch.ones_like(values) if weights is None else weights
    counts = torch.zeros(len(values), len(edges) - 1, dtype=torch.float64, device=values.device)
    counts.scatter_add_(1, bins, each.flatten(1).double())
    total = counts.sum(1, keepdim=True)
    shares = torch.where(total > 0, counts / total, 1 / counts.shape[1])
    return shares.to(torch.promote_types(values.dtype, torch.float32))


def mean_histogram(scores: Scores, weights: Weights | None = None) -> Histograms:
    """Return the histogram that is expected of a photo: the mean of its pixels' distributions, <y> of equation 5.

    Args:
        scores: Scores of the bins.
        weights: Weight of each pixel, not negative; if all of a photo are 0, its pixels count alike.
    """
    probabilities = _log_softmax(scores).exp().flatten(2)
    mean = _mean_over_pixels(probabilities, _pixel_shares(scores, weights))
    return mean.to(torch.promote_types(scores.dtype, torch.float32))


def chi_squared(first: Histograms, second: Histograms) -> Float[Tensor, " n"]:
    """Return the symmetric chi-squared distance, half the sum of (p - q)^2 / (p + q): 0 for equal, 1 for disjoint."""
    total = (first + second).clamp_min(_LEAST)
    distance: Tensor = ((first - second).square() / total).sum(1) / 2
    return distance


def energy(
    scores: Scores,
    bias: Histograms,
    target: Histograms,
    strength: float = STRENGTH,
    weights: Weights | None = None,
) -> tuple[Float[Tensor, " n"], Histograms]:
    """Return equation 5 of Larsson et al. and its gradient in the bias.

    E(b) = mean over n of KL(y*_n || y_n) + strength * chi_squared(<y*>, target), with y*_n = softmax(log y_n + b).

    The KL divergence is b . y*_n - log sum y_n exp(b), so that no logarithm of a probability is taken. With m = <y*>
    and J the mean of diag(y*_n) - y*_n y*_n^T, which is dm/db, the gradient is J (b + strength * chi_squared'(m)).

    Args:
        scores: Scores of the bins, which give y.
        bias: b, (N, K).
        target: t, (N, K).
        strength: lambda.
        weights: Weight of each pixel in both means, not negative; if all of a photo are 0, its pixels count alike.

    Returns:
        E, (N,), and its gradient, (N, K), in double precision.
    """
    problem = _Problem(scores, target, strength, weights)
    point = problem.at(bias.double())
    return point.energy, problem.direction(point)[1]


def minimize_energy(
    scores: Scores,
    target: Float[Tensor, "m bins"],
    strength: float = STRENGTH,
    weights: Weights | None = None,
    tolerance: float = 1e-4,
    max_steps: int = 100,
) -> Match:
    """Find the bias of each photo that minimises equation 5 of Larsson et al.: see `energy`.

    The energy of distributions y* that are free of each other is convex, and where its gradient is 0 they have the form
    softmax(log y + b) with b = -strength * chi_squared'(<y*>), up to a constant. So the bias loses nothing against free
    distributions, the minimum is global wherever the gradient in b is 0, and two bins' biases differ there by at most
    2 * strength.

    The steps are Newton's for that equation of b. Their direction is -(I + strength * J D)^-1 (b + strength *
    chi_squared'), with D the diagonal of chi_squared'', and always leads downhill, since J (I + strength * J D)^-1 is
    symmetric and not negative. A step is halved until it lowers the energy. A few are enough.

    Differences from the paper: Newton steps in place of gradient descent, to the same minimum; the weights.

    Args:
        scores: Scores of the bins.
        target: Histogram of each photo, or one for all.
        strength: lambda, 0 or more: 0 leaves the prediction as it is; the larger, the nearer the histogram.
        weights: Weight of each pixel in both means, not negative; if all of a photo are 0, its pixels count alike.
        tolerance: Stop when a step lowers the energy by less than this share of it.
        max_steps: Stop after so many steps at the latest.

    Returns:
        The minimum. It is computed in double precision.

    Raises:
        InputError: An argument is out of its range, ``target`` is no histogram, or there is not one for each photo.
    """
    check_at_least("strength", strength, 0.0)
    check_at_least("tolerance", tolerance, 0.0)
    check_at_least("max_steps", max_steps, 0)
    problem = _Problem(scores, _checked(target, scores), strength, weights)
    point = problem.at(torch.zeros(scores.shape[:2], dtype=torch.float64, device=scores.device))
    energies = [point.energy]
    going = torch.ones_like(point.energy, dtype=torch.bool)
    while going.any() and len(energies) <= max_steps:
        direction, gradient = problem.direction(point)
        point = _descend(problem, point, torch.where(going[:, None], direction, 0.0), gradient)
        energies.append(point.energy)
        going = going & (energies[-2] - energies[-1] > tolerance * energies[-2].clamp_min(_ALMOST_NONE))
    return Match(
        point.bias - point.bias.mean(1, keepdim=True),
        point.probabilities.to(torch.promote_types(scores.dtype, torch.float32)).view(scores.shape),
        torch.stack(energies, 1),
        ~going & point.energy.isfinite(),
    )


def apply_bias(scores: Scores, bias: Float[Tensor, "m k"]) -> Scores:
    """Return log softmax(log y + b), which the decoders take.

    Args:
        scores: Scores of the bins, which give y.
        bias: b of each photo, or one for all.
    """
    return (_log_softmax(scores) + bias[:, :, None, None].double()).log_softmax(1).to(scores.dtype)


def rotate(hues: Float[Tensor, "n k *rest"], degrees: float) -> Float[Tensor, "n k *rest"]:
    """Turn histograms, distributions or biases over the circle of hues, interpolating linearly between bins.

    Turn a `Match`'s bias to sample colourings whose hues lean to others than the reference's; turn a histogram to ask
    `minimize_energy` for the reference's colours with other hues. A histogram turned by part of a bin is a little
    broader. A bias is the logarithm of a factor, and is interpolated as it is.

    Args:
        hues: (N, K) or (N, K, ...), of bins of equal width that cover the circle.
        degrees: Angle; a positive one leads from red to yellow.
    """
    by = degrees / 360 * hues.shape[1]
    whole = math.floor(by)
    near, far = hues.roll(whole, 1), hues.roll(whole + 1, 1)
    return near + (far - near) * (by - whole)


def hue_bias(num_bins: int, degrees: float, strength: float = 1.0) -> Float[Tensor, "1 k"]:
    """Return a bias that leans all hues to one: strength * cos(hue - degrees).

    It multiplies every distribution by the density of von Mises, the normal distribution of the circle, with the
    concentration ``strength``. Rotate it to sample colourings one after the other.

    Args:
        num_bins: K bins of equal width that cover the circle, the first from 0 to 360 / K degrees.
        degrees: The hue: 0 is red, 120 green, 240 blue.
        strength: Concentration; where two hues are equally probable, e^(2 * strength) is the most that one is
            preferred to the other.
    """
    hues = 2 * math.pi * (torch.arange(num_bins) + 0.5) / num_bins
    return (strength * torch.cos(hues - math.radians(degrees))).unsqueeze(0)


def uncertainty(
    hue_scores: Float[Tensor, "n hues h w"],
    chroma_scores: Float[Tensor, "n chromas h w"],
    chromas: Float[Tensor, " chromas"],
) -> Weights:
    """Return how uncertain the hue is where there is one: the entropy of hue times the expected chroma.

    Larsson et al. show that product. The entropy is the share of its greatest value, log K, here: the map lies between
    0 and the expected chroma.

    Args:
        hue_scores: Scores of the bins of hue.
        chroma_scores: Scores of the bins of chroma.
        chromas: Centres of the bins of chroma.
    """
    hues = _log_softmax(hue_scores).exp()
    entropy = -torch.special.xlogy(hues, hues).sum(1) / math.log(hues.shape[1])
    expected = torch.einsum("nkhw,k->nhw", _log_softmax(chroma_scores).exp(), chromas.double())
    return (entropy * expected).to(torch.promote_types(hue_scores.dtype, torch.float32))


class _Point(NamedTuple):
    """A bias (N, K), and what follows from it: y* (N, K, pixels), <y*> (N, K) and E (N,)."""

    bias: Tensor
    probabilities: Tensor
    mean: Tensor
    energy: Tensor


class _Problem:
    """Equation 5 of a batch of photos, in double precision: single precision is too coarse for the decrease of E."""

    def __init__(self, scores: Tensor, target: Tensor, strength: float, weights: Tensor | None):
        self.logarithms = _log_softmax(scores).flatten(2)
        self.shares = _pixel_shares(scores, weights)
        self.target = target.double()
        self.strength = strength

    def at(self, bias: Tensor) -> _Point:
        """Return the point of a bias."""
        shifted = self.logarithms + bias.unsqueeze(2)
        normalizers = shifted.logsumexp(1, keepdim=True)
        probabilities = shifted.sub_(normalizers).exp_()
        mean = _mean_over_pixels(probabilities, self.shares)
        divergence = (mean * bias).sum(1) - (normalizers.squeeze(1) * self.shares).sum(1)
        return _Point(bias, probabilities, mean, divergence + self.strength * chi_squared(mean, self.target))

    def direction(self, point: _Point) -> tuple[Tensor, Tensor]:
        """Return the Newton step from a point and the gradient there, both (N, K)."""
        weighted = point.probabilities * self.shares.unsqueeze(1)
        jacobian = torch.diag_embed(point.mean) - weighted @ point.probabilities.mT
        difference, total = point.mean - self.target, (point.mean + self.target).clamp_min(_LEAST)
        slope = difference * (point.mean + 3 * self.target) / total.square() / 2
        residual = point.bias + self.strength * slope
        gradient = (jacobian @ residual.unsqueeze(2)).squeeze(2)
        # With R the root of strength * chi_squared'', the inverse of I + R^2 J is I - R (I + R J R)^-1 R J: the matrix
        # in the middle is symmetric, and its eigenvalues are 1 and more.
        root = (self.strength * 4 * (self.target / total).square() / total).sqrt()
        inner = torch.eye(root.shape[1], dtype=root.dtype, device=root.device)
        inner = inner + root.unsqueeze(2) * jacobian * root.unsqueeze(1)
        return root * torch.linalg.solve(inner, root * gradient) - residual, gradient


def _descend(problem: _Problem, point: _Point, direction: Tensor, gradient: Tensor) -> _Point:
    """Go from a point along a direction, each photo as far as its energy is enough lower; not at all if it never is."""
    promised = (gradient * direction).sum(1)
    length = torch.ones_like(promised)
    for _ in range(_HALVINGS):
        there = problem.at(point.bias + length.unsqueeze(1) * direction)
        lower = there.energy <= point.energy + _ENOUGH * length * promised
        if lower.all():
            return there
        length = torch.where(lower, length, length / 2)
    return problem.at(point.bias + torch.where(lower, length, 0.0).unsqueeze(1) * direction)


def _log_softmax(scores: Tensor) -> Tensor:
    return scores.double().log_softmax(1)


def _pixel_shares(scores: Tensor, weights: Tensor | None) -> Tensor:
    """Return the share of each pixel in a photo's means, (N, pixels)."""
    count, _, height, width = scores.shape
    even = torch.full(
        (count, height * width), 1 / (height * width), dtype=torch.float64, device=scores.device
    )
    if weights is None:
        return even
    flat = weights.double().flatten(1)
    total = flat.sum(1, keepdim=True)
    return torch.where(total > 0, flat / total, even)


def _mean_over_pixels(probabilities: Tensor, shares: Tensor) -> Tensor:
    mean: Tensor = (probabilities @ shares.unsqueeze(2)).squeeze(2)
    return mean


def _checked(target: Tensor, scores: Tensor) -> Tensor:
    """Return the target of each photo, or raise InputError."""
    count, num_bins = scores.shape[:2]
    if target.shape[1] != num_bins or target.shape[0] not in (1, count):
        raise InputError(
            "histograms do not fit the predictions",
            received=tuple(target.shape),
            allowed=[(1, num_bins), (count, num_bins)],
        )
    sums = target.double().sum(1)
    if not (bool((target >= 0).all()) and bool(((sums - 1).abs() < 1e-3).all())):
        raise InputError(
            "a histogram is out of range",
            received=f"shares from {target.min().item()} up, sums {sums.tolist()}",
            allowed="shares of 0 and more that sum to 1",
        )
    return (target.double() / sums.unsqueeze(1)).expand(count, num_bins)
