"""The energy of Larsson, Maire, Shakhnarovich (ECCV 2016), which brings a photo's colours near a given histogram.

A colorizer of marginal distributions predicts K bins of one number of the colour: hue, chroma, a or b. Equation 5
weighs how far its distributions are changed against how far their mean is from the histogram; the change is one bias
of the K bins that all pixels of a photo share. Each marginal has an energy of its own. No public code does this. What
the paper leaves open, and what is done here:

- lambda, and whether the chi-squared distance has the factor 1/2. Ours has it; `STRENGTH` was chosen on photos
  (docs/histograms.md).
- How a gray pixel counts, whose hue means nothing. The energy takes a weight of each pixel; that of hue needs the
  chroma as the weight.
- How it is minimised, beyond "gradient descent": see `minimize_energy`.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pretext.checks import check_at_least
from pretext.color.histograms import (
    LEAST,
    Histograms,
    Scores,
    Weights,
    chi_squared,
    expectation,
    log_probabilities,
    mean_over_pixels,
    pixel_shares,
)
from pretext.errors import InputError

#: lambda of equation 5.
STRENGTH = 10.0
#: A step is halved until it lowers the energy by this share of what its slope promises (Armijo's rule).
_ENOUGH = 1e-4
_HALVINGS = 40
#: Energies below this count as this for the tolerance: less is rounding.
_ALMOST_NONE = 1e-9


class Match(NamedTuple):
    """A minimum of equation 5.

    Attributes:
        bias: b, (N, K), with mean 0; see `pretext.color.histograms.apply_bias`.
        probabilities: The distributions y*, (N, K, H, W), in the precision of the scores.
        energies: E of each photo before the first step and after each, (N, steps + 1). It never rises.
        converged: Whether the last step lowered E by less than the tolerance.
    """

    bias: Histograms
    probabilities: Scores
    energies: Float[Tensor, "n steps"]
    converged: Bool[Tensor, " n"]


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
        InputError: An argument is out of its range, ``target`` is not a histogram, or there is not one for each photo.
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


def match_hue_and_chroma(
    hue_scores: Float[Tensor, "n hues h w"],
    chroma_scores: Float[Tensor, "n chromas h w"],
    hue_target: Float[Tensor, "m hues"],
    chroma_target: Float[Tensor, "m chromas"],
    strength: float = STRENGTH,
) -> tuple[Match, Match]:
    """Bring hue and chroma near a photo's histograms, where a pixel's hue counts by the chroma then expected of it.

    Args:
        hue_scores: Scores of the bins of hue.
        chroma_scores: Scores of the bins of chroma, of equal width from 0 to 1.
        hue_target: Histogram of hue weighted by chroma: see `pretext.color.histograms.hue_and_chroma_histograms`.
        chroma_target: Histogram of chroma.
        strength: lambda.

    Returns:
        The minima of hue and of chroma.

    Raises:
        InputError: As `minimize_energy`.
    """
    chroma = minimize_energy(chroma_scores, chroma_target, strength)
    count = chroma_scores.shape[1]
    centers = (torch.arange(count, device=chroma_scores.device) + 0.5) / count
    weights = expectation(chroma.probabilities, centers)
    return minimize_energy(hue_scores, hue_target, strength, weights), chroma


class _Point(NamedTuple):
    """A bias (N, K), and what follows from it: y* (N, K, pixels), <y*> (N, K) and E (N,)."""

    bias: Tensor
    probabilities: Tensor
    mean: Tensor
    energy: Tensor


class _Problem:
    """Equation 5 of a batch of photos, in double precision: single precision is too coarse for the decrease of E."""

    def __init__(self, scores: Tensor, target: Tensor, strength: float, weights: Tensor | None):
        self.logarithms = log_probabilities(scores).flatten(2)
        self.shares = pixel_shares(scores, weights)
        self.target = target.double()
        self.strength = strength

    def at(self, bias: Tensor) -> _Point:
        """Return the point of a bias."""
        shifted = self.logarithms + bias.unsqueeze(2)
        normalizers = shifted.logsumexp(1, keepdim=True)
        probabilities = shifted.sub_(normalizers).exp_()
        mean = mean_over_pixels(probabilities, self.shares)
        divergence = (mean * bias).sum(1) - (normalizers.squeeze(1) * self.shares).sum(1)
        return _Point(bias, probabilities, mean, divergence + self.strength * chi_squared(mean, self.target))

    def direction(self, point: _Point) -> tuple[Tensor, Tensor]:
        """Return the Newton step from a point and the gradient there, both (N, K)."""
        weighted = point.probabilities * self.shares.unsqueeze(1)
        jacobian = torch.diag_embed(point.mean) - weighted @ point.probabilities.mT
        difference, total = point.mean - self.target, (point.mean + self.target).clamp_min(LEAST)
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
