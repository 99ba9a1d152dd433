"""Histograms of hue and of chroma: the space of Larsson et al. that their best colorizer predicts.

Source: Larsson, Maire, Shakhnarovich, "Learning Representations for Automatic Colorization", ECCV 2016, sections 3.2 to
3.4 and table 1, and their code (github.com/gustavla/autocolorize).
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pretext.checks import check_at_least, check_choice
from pretext.color.bicone import bicone_ab, rgb_to_bicone
from pretext.color.decode import (
    annealed_mean,
    choose,
    circular_mean,
    median_position,
    quantile_sample,
    tempered,
)
from pretext.color.energy import match_hue_and_chroma
from pretext.color.histograms import Histograms, hue_and_chroma_histograms
from pretext.color.lab import lab_to_rgb
from pretext.color.losses import histogram_cross_entropy
from pretext.color.output_space import (
    AB,
    Lab,
    LabChannels,
    Lightness,
    OutputSpace,
    PhotoWeights,
    Prediction,
    Target,
)
from pretext.errors import InputError

#: Weights of the chroma loss of a position: none in the paper; by its lightness L in the authors' training file.
CHROMA_WEIGHTS = ("paper", "release")
#: What eta of chromatic fading is measured against: the mean over the K bins of f_k e^(i theta_k), as in the paper's
#: equation and the authors' code, at most 1 / K; or its sum over the bins, at most 1.
FADINGS = ("mean", "sum")
#: Hues this much of a bin below an edge count as on it. Lab in single precision keeps the hue of an 8-bit colour about
#: ten times as well, and many are on an edge: all whose green equals their blue.
_HUE_SLACK = 2e-3


class HueChroma(OutputSpace):
    """A histogram of hue and one of chroma, of bins of equal width ("Hue/chroma, K = 32" of table 1).

    The loss is the cross-entropy of chroma, plus that of hue times 5 * chroma: the hue of a gray pixel means nothing.
    A prediction holds the scores of the hue's bins, then those of the chroma's.

    Its own decoding is the paper's best: the median of chroma and the circular expectation of hue, and where hues do
    not agree, chroma fades (see `fading`). The rules ``median`` and ``mean`` take the same expectation of hue, and
    chroma's median or expectation, which do not fade; the others choose one bin of each histogram. Colours follow
    from hue, chroma and the CIE lightness (`pretext.color.bicone.bicone_ab`).

    Args:
        count: Number of bins of each; 32 in the paper.
        hue_weight: The paper's lambda_H.
        chroma_weight: ``paper`` for 1, or ``release`` for 3 * min(L, 1/3, 1 - L), where L is the mean of red, green and
            blue, 0..1.
        eta: Of the fading, above 0.
        fading: What ``eta`` is measured against, one of `FADINGS`.

    Attributes:
        centers: Centres of the bins of hue and of chroma, 0..1, (K).

    Raises:
        InputError: An argument is out of its range.

    Differences from the paper: it prints the factor of fading as max(|z| / eta, 1), which never fades; its code takes
    the minimum, and so does this. Differences from the code: the mode of chroma is the centre of its bin in place of
    its lower end, and the median is interpolated, as the paper says.
    """

    name = "hue_chroma"
    rules = ("annealed", "mean", "median", "mode", "sample", "coherent")
    lab_channels = AB
    hue = 0
    centers: Tensor

    def __init__(
        self,
        count: int = 32,
        hue_weight: float = 5.0,
        chroma_weight: str = "paper",
        eta: float = 0.03,
        fading: str = "mean",
    ):
        super().__init__()
        check_at_least(f"count of {self.name}", count, 2)
        check_at_least("hue_weight", hue_weight, 0.0)
        check_choice("chroma_weight", chroma_weight, CHROMA_WEIGHTS)
        check_choice("fading", fading, FADINGS)
        if not eta > 0:
            raise InputError(
                "eta of fading is out of range",
                received=eta,
                allowed="allowed are numbers above 0; the rule median does not fade",
            )
        self.channels = 2 * count
        self.count, self.hue_weight, self.chroma_weight = count, hue_weight, chroma_weight
        self.eta, self.fading = eta, fading
        self.register_buffer("centers", torch.arange(0.5, count) / count, persistent=False)

    @property
    def histograms(self) -> tuple[int, ...]:
        """See `OutputSpace.histograms`."""
        return (self.count, self.count)

    def loss(
        self, prediction: Prediction, target: Target, photo_weights: PhotoWeights | None = None
    ) -> Float[Tensor, ""]:
        """See `OutputSpace.loss`. The weights of a position are those of the pixel in the middle of its window."""
        hue, chroma, lightness = _bicone_of(target)
        chroma_here, lightness_here = _middle(chroma), _middle(lightness)
        hue_weights, chroma_weights = self.hue_weight * chroma_here, torch.ones_like(chroma_here)
        if self.chroma_weight == "release":
            chroma_weights = 3 * torch.minimum(lightness_here, 1 - lightness_here).clamp_max(1 / 3)
        if photo_weights is not None:
            hue_weights = hue_weights * photo_weights[:, None, None]
            chroma_weights = chroma_weights * photo_weights[:, None, None]
        hue_scores, chroma_scores = self.parts(prediction)
        hue_bins = (hue * self.count + _HUE_SLACK).long() % self.count
        chroma_bins = (chroma * self.count).long().clamp_max(self.count - 1)
        of_hue = histogram_cross_entropy(hue_scores, hue_bins, hue_weights)
        return of_hue + histogram_cross_entropy(chroma_scores, chroma_bins, chroma_weights)

    def histograms_of(self, photos: Lab) -> tuple[Histograms, ...]:
        """See `OutputSpace.histograms_of`. Hue is weighted by chroma: that of a gray pixel means nothing."""
        hue, chroma, _ = _bicone_of(photos)
        return hue_and_chroma_histograms((hue + _HUE_SLACK / self.count).remainder(1), chroma, self.count)

    def biases(
        self, prediction: Prediction, targets: tuple[Float[Tensor, "m _"], ...]
    ) -> tuple[Histograms, ...]:
        """See `OutputSpace.biases`. A position's hue counts by the chroma that is then expected of it."""
        hue_scores, chroma_scores = self.parts(prediction)
        hue_target, chroma_target = targets
        matches = match_hue_and_chroma(hue_scores, chroma_scores, hue_target, chroma_target)
        return tuple(match.bias for match in matches)

    def decode(
        self,
        prediction: Prediction,
        temperature: float | None = None,
        *,
        rule: str = "annealed",
        lightness: Lightness | None = None,
        generator: torch.Generator | None = None,
    ) -> LabChannels:
        """See `OutputSpace.decode`. Coherent draws take one random number for hue and one for chroma."""
        self.check_rule(rule)
        if lightness is None:
            raise InputError("hue and chroma give no colour without a lightness", received=None)
        hue_scores, chroma_scores = (tempered(scores, temperature) for scores in self.parts(prediction))
        if rule in ("mode", "sample", "coherent"):
            centers = self.centers.to(hue_scores)[:, None]
            hue = choose(rule, hue_scores, centers, generator, quantile_sample)
            chroma = choose(rule, chroma_scores, centers, generator, quantile_sample)
            return bicone_ab(hue, chroma, lightness)
        fades = rule == "annealed" and temperature is None
        hue, length = circular_mean(hue_scores)
        if fades or rule == "median":
            chroma = median_position(chroma_scores) / self.count
        else:
            chroma = annealed_mean(chroma_scores, self.centers.to(chroma_scores.device)[:, None], 1.0)
        return bicone_ab(hue, chroma * self.fade(length) if fades else chroma, lightness)

    def fade(self, length: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
        """Return the factors of chroma, min(|z| / eta, 1).

        With the defaults |z| is at most 1/32 and eta 0.03: chroma stays whole only if the hue is certain to 96 %.

        Args:
            length: Length of the sum of f_k e^(i theta_k) over the bins of hue, 0..1.
        """
        z = length / self.count if self.fading == "mean" else length
        return (z / self.eta).clamp_max(1)

    def arguments(self) -> dict[str, Any]:
        """See `OutputSpace.arguments`."""
        return {
            "count": self.count,
            "hue_weight": self.hue_weight,
            "chroma_weight": self.chroma_weight,
            "eta": self.eta,
            "fading": self.fading,
        }


def _bicone_of(target: Tensor) -> tuple[Tensor, ...]:
    """Return hue, chroma and lightness of Lab, each (N, H, W) or (N, R * R, H, W)."""
    if target.ndim == 4:
        return rgb_to_bicone(lab_to_rgb(target)).unbind(1)
    pixels = rgb_to_bicone(lab_to_rgb(target.flatten(2, 3)))
    return pixels.view(target.shape).unbind(1)


def _middle(values: Tensor) -> Tensor:
    """Return the middle of each window of (N, R * R, H, W); (N, H, W) as it is."""
    return values if values.ndim == 3 else values[:, values.shape[1] // 2]
