"""Histograms of ab over quantiles of a Gaussian: one for a and one for b, or one of both.

Source: Larsson, Maire, Shakhnarovich, "Learning Representations for Automatic Colorization", ECCV 2016, sections 3.2 to
3.4 and table 1. Each channel is cut at the quantiles of a Gaussian of mean 0 and deviation 25 CIE units, so that bins
are narrow where colours are many; the centre of a bin is the quantile in its middle.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pretext.checks import check_at_least
from pretext.color.decode import annealed_mean, choose, median_position, quantile_sample, tempered
from pretext.color.histograms import Histograms, histogram
from pretext.color.losses import histogram_cross_entropy
from pretext.color.output_space import (
    AB,
    Classification,
    Lab,
    LabChannels,
    Lightness,
    OutputSpace,
    PhotoWeights,
    Prediction,
    Target,
)
from pretext.errors import InputError

#: The paper's deviation of a and b, in CIE units.
STD = 25.0


def quantile_edges(count: int, std: float = STD) -> Float[Tensor, " k_less_1"]:
    """Return the values between ``count`` bins of equal probability under a Gaussian of mean 0, in float64."""
    return gaussian_quantiles(torch.arange(1, count, dtype=torch.float64) / count, std)


def quantile_centers(count: int, std: float = STD) -> Float[Tensor, " k"]:
    """Return the quantiles in the middle of ``count`` bins of equal probability, in float64."""
    return gaussian_quantiles(torch.arange(0.5, count, dtype=torch.float64) / count, std)


def gaussian_quantiles(levels: Float[Tensor, "..."], std: float = STD) -> Float[Tensor, "..."]:
    """Return the quantiles of a Gaussian of mean 0 at levels between 0 and 1."""
    quantiles: Tensor = torch.special.ndtri(levels)
    return quantiles * std


def bins_of(values: Float[Tensor, "..."], edges: Float[Tensor, " k_less_1"]) -> Int[Tensor, "..."]:
    """Return the bin of each value; one on an edge is in the bin above."""
    return torch.bucketize(values.contiguous(), edges.to(values.dtype), right=True)


class LabMarginals(OutputSpace):
    """A histogram of a and one of b, by the sum of their cross-entropies ("Lab, K = 32" of table 1).

    A prediction holds the scores of a's bins, then those of b's.

    Args:
        count: Number of bins of each; 32 in the paper.
        std: Deviation of the Gaussian in CIE units.
        temperature: T of the annealed mean by which it is decoded; 1, the expectation, is best for Lab in the paper.

    Attributes:
        edges: Values between the bins, in CIE units, (K - 1).
        centers: Centres of the bins, (K).

    Raises:
        InputError: An argument is out of its range.
    """

    name = "lab_marginals"
    rules = ("annealed", "mean", "median", "mode", "sample", "coherent")
    lab_channels = AB
    edges: Tensor
    centers: Tensor
    temperature: float

    def __init__(self, count: int = 32, std: float = STD, temperature: float = 1.0):
        super().__init__()
        _check_quantiles(self.name, count, std)
        self.channels = 2 * count
        self.count, self.std, self.temperature = count, std, temperature
        self.register_buffer("edges", quantile_edges(count, std).float(), persistent=False)
        self.register_buffer("centers", quantile_centers(count, std).float(), persistent=False)

    @property
    def histograms(self) -> tuple[int, ...]:
        """See `OutputSpace.histograms`."""
        return (self.count, self.count)

    def loss(
        self, prediction: Prediction, target: Target, photo_weights: PhotoWeights | None = None
    ) -> Float[Tensor, ""]:
        """See `OutputSpace.loss`."""
        weights = None
        if photo_weights is not None:
            weights = photo_weights[:, None, None].expand(-1, *prediction.shape[2:])
        channels = bins_of(target[:, AB], self.edges).unbind(1)
        scores = self.parts(prediction)
        of_a, of_b = (histogram_cross_entropy(*pair, weights) for pair in zip(scores, channels, strict=True))
        return of_a + of_b

    def histograms_of(self, photos: Lab) -> tuple[Histograms, ...]:
        """See `OutputSpace.histograms_of`."""
        outer = torch.full_like(self.edges[:1], torch.inf)
        edges = torch.cat([-outer, self.edges, outer]).to(photos)
        return tuple(histogram(values, edges) for values in photos[:, AB].unbind(1))

    def decode(
        self,
        prediction: Prediction,
        temperature: float | None = None,
        *,
        rule: str = "annealed",
        lightness: Lightness | None = None,
        generator: torch.Generator | None = None,
    ) -> LabChannels:
        """See `OutputSpace.decode`. Coherent draws take one random number for a and one for b."""
        self.check_rule(rule)
        own = self.temperature if rule == "annealed" and temperature is None else temperature
        scores = self.parts(prediction)
        return torch.cat([self._decoded(tempered(each, own), rule, generator) for each in scores], 1)

    def _decoded(self, scores: Tensor, rule: str, generator: torch.Generator | None) -> Tensor:
        centers = self.centers.to(scores.device)[:, None]
        if rule in ("annealed", "mean"):
            return annealed_mean(scores, centers, 1.0)
        if rule == "median":
            # Within a bin the quantiles are interpolated, so that a certain bin gives its centre.
            levels = median_position(scores).clamp(0.5, self.count - 0.5) / self.count
            return gaussian_quantiles(levels, self.std)
        return choose(rule, scores, centers.to(scores.dtype), generator, quantile_sample)

    def arguments(self) -> dict[str, Any]:
        """See `OutputSpace.arguments`."""
        return {"count": self.count, "std": self.std, "temperature": self.temperature}


class LabJoint(Classification):
    """One histogram over pairs of bins of a and b ("Lab, K = 16 x 16" of table 1).

    Bin i * count + j has the i-th bin of a and the j-th of b.

    Args:
        count: Number of bins of each channel; 16 in the paper.
        std: Deviation of the Gaussian in CIE units.
        temperature: T of the annealed mean by which it is decoded; 1, the expectation, is best for Lab in the paper.

    Raises:
        InputError: An argument is out of its range.
    """

    name = "lab_joint"
    lab_channels = AB
    edges: Tensor

    def __init__(self, count: int = 16, std: float = STD, temperature: float = 1.0):
        super().__init__()
        _check_quantiles(self.name, count, std)
        self.channels = count**2
        self.count, self.std, self.temperature = count, std, temperature
        self.register_buffer("edges", quantile_edges(count, std).float(), persistent=False)
        centers = quantile_centers(count, std).float()
        self.register_buffer("bins", torch.cartesian_prod(centers, centers), persistent=False)

    def encode(
        self, values: Float[Tensor, "n 2 h w"]
    ) -> tuple[Int[Tensor, "n 1 h w"], Float[Tensor, "n 1 h w"]]:
        """Return the bin of each colour, and the weight 1."""
        of_a, of_b = bins_of(values, self.edges).unbind(1)
        return (of_a * self.count + of_b).unsqueeze(1), torch.ones_like(values[:, :1])

    def arguments(self) -> dict[str, Any]:
        """See `OutputSpace.arguments`."""
        return {"count": self.count, "std": self.std, "temperature": self.temperature}


def _check_quantiles(name: str, count: int, std: float) -> None:
    check_at_least(f"count of {name}", count, 2)
    if not std > 0:
        raise InputError(
            f"std of {name} is out of range", received=std, allowed="allowed are numbers above 0"
        )
