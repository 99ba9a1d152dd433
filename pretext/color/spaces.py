"""Output spaces: what a network predicts of a photo's colours, how that is compared with the photo, and decoded.

A space has a number of channels, the loss of a prediction against Lab values, and a decoding back to them. Methods
combine any space with any backbone and head; a colorizer file holds its space's name in `SPACES` and its arguments.

Predictions are (N, C, H, W). Targets are CIE Lab (N, 3, H, W) at the same positions: L 0..100, ab in CIE units.

The contract stands in `pretext.color.output_space`; the spaces of Larsson et al. (ECCV 2016) in
`pretext.color.marginals` and `pretext.color.hue_chroma`.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pretext.checks import check_at_least
from pretext.color.bins import SoftEncoder
from pretext.color.hue_chroma import HueChroma
from pretext.color.losses import l2_loss
from pretext.color.marginals import LabJoint, LabMarginals
from pretext.color.output_space import (
    AB,
    LIGHTNESS,
    Classification,
    Lab,
    LabChannels,
    Lightness,
    OutputSpace,
    PhotoWeights,
    Prediction,
)
from pretext.color.rebalance import rebalance_weights
from pretext.errors import InputError

__all__ = [
    "AB",
    "AB_STD",
    "LIGHTNESS",
    "SPACES",
    "AbBins",
    "Classification",
    "HueChroma",
    "LabJoint",
    "LabMarginals",
    "LightnessBins",
    "OutputSpace",
    "RebalancedAbBins",
    "Regression",
    "SigmoidRegression",
    "ab_regression",
]

#: `ab_regression` predicts ab divided by this, in CIE units: about the deviation of colours, as of the input space lab.
AB_STD = 20.0

#: Bin centres of ab, as a tensor or as lists.
Centers = Float[Tensor, "q 2"] | Sequence[Sequence[float]]


class Regression(OutputSpace):
    """Values of channels of Lab, by half the squared distance (Zhang et al., ECCV 2016, equation 1).

    Args:
        lab_channels: The first channel of Lab that is predicted, and the one behind the last: (1, 3) for ab.
        mean: Mean of each predicted channel, in CIE units.
        std: Deviation of each predicted channel: (value - mean) / std is predicted.

    Raises:
        InputError: The numbers of channels, means and deviations differ.
    """

    name = "regression"
    mean: Tensor
    std: Tensor

    def __init__(self, lab_channels: Sequence[int], mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.lab_channels = slice(*lab_channels)
        self.channels = lab_channels[1] - lab_channels[0]
        if not self.channels == len(mean) == len(std):
            raise InputError(
                f"a regression of {self.channels} channels needs as many means and deviations",
                received=(len(mean), len(std)),
            )
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def loss(
        self, prediction: Prediction, target: Lab, photo_weights: PhotoWeights | None = None
    ) -> Float[Tensor, ""]:
        """See `OutputSpace.loss`."""
        return l2_loss(prediction, (target[:, self.lab_channels] - self.mean) / self.std, photo_weights)

    def decode(
        self,
        prediction: Prediction,
        temperature: float | None = None,
        *,
        rule: str = "annealed",
        lightness: Lightness | None = None,
        generator: torch.Generator | None = None,
    ) -> LabChannels:
        """See `OutputSpace.decode`."""
        _check_own(self, rule, temperature)
        decoded: Tensor = prediction * self.std + self.mean
        return decoded

    def arguments(self) -> dict[str, Any]:
        """See `OutputSpace.arguments`."""
        return {
            "lab_channels": [self.lab_channels.start, self.lab_channels.stop],
            "mean": self.mean.flatten().tolist(),
            "std": self.std.flatten().tolist(),
        }


class SigmoidRegression(OutputSpace):
    """Values of ab through a sigmoid, by the squared distance.

    The regression of a study of CIFAR-10 (Stanford CS230, 2018; github.com/1ipeng/CS230_Project): (ab + 128) / 255 is
    predicted, so that no colour lies outside of [-128, 127].

    Differences from the study: the loss is a mean over pixels in place of a sum, which Adam's steps hardly notice.
    """

    name = "sigmoid_regression"
    channels = 2
    lab_channels = AB

    def loss(
        self, prediction: Prediction, target: Lab, photo_weights: PhotoWeights | None = None
    ) -> Float[Tensor, ""]:
        """See `OutputSpace.loss`."""
        # `l2_loss` halves the squared distance.
        return 2 * l2_loss(prediction.sigmoid(), (target[:, AB] + 128) / 255, photo_weights)

    def decode(
        self,
        prediction: Prediction,
        temperature: float | None = None,
        *,
        rule: str = "annealed",
        lightness: Lightness | None = None,
        generator: torch.Generator | None = None,
    ) -> LabChannels:
        """See `OutputSpace.decode`."""
        _check_own(self, rule, temperature)
        return 255 * prediction.sigmoid() - 128

    def arguments(self) -> dict[str, Any]:
        """See `OutputSpace.arguments`."""
        return {}


def _check_own(space: OutputSpace, rule: str, temperature: float | None) -> None:
    """Raise InputError unless values are decoded by the space's own decoding, the only one they have."""
    if temperature is not None:
        raise InputError("a regression has no temperature", received=temperature, allowed=(None,))
    if rule != "annealed":
        space.check_rule(rule)


class AbBins(Classification):
    """A distribution over bins of ab, against softly encoded colours (Zhang et al., ECCV 2016, equation 2).

    Args:
        bins: Bin centres in CIE units, (Q, 2).
        neighbors: Number of bins that a colour is encoded to; 1 for one-hot.
        sigma: Width of the encoding's Gaussian in CIE units.
        temperature: T of the annealed mean.

    Raises:
        InputError: An argument is out of its range.
    """

    name = "ab_bins"
    lab_channels = AB

    def __init__(self, bins: Centers, neighbors: int = 5, sigma: float = 5.0, temperature: float = 0.38):
        super().__init__()
        self.encoder = SoftEncoder(torch.as_tensor(bins, dtype=torch.float32), neighbors, sigma)
        self.channels = len(self.encoder.bins)
        self.temperature = temperature

    @property
    def bins(self) -> Float[Tensor, "q 2"]:  # type: ignore[override]  # the encoder holds them
        """Centres of the bins in CIE units."""
        return self.encoder.bins

    def encode(
        self, values: Float[Tensor, "n 2 h w"]
    ) -> tuple[Int[Tensor, "n k h w"], Float[Tensor, "n k h w"]]:
        """See `Classification.encode`."""
        return self.encoder.encode(values)

    def arguments(self) -> dict[str, Any]:
        """See `OutputSpace.arguments`."""
        return {
            "bins": self.bins.tolist(),
            "neighbors": self.encoder.neighbors,
            "sigma": self.encoder.sigma,
            "temperature": self.temperature,
        }


class RebalancedAbBins(AbBins):
    """As `AbBins`, each pixel weighted by the rarity of its colour (Zhang et al., ECCV 2016, equations 3 and 4).

    The weights are 1 until `balance` is given a colour prior. They are part of the state dict, not of `arguments`.
    """

    name = "rebalanced_ab_bins"
    bin_weights: Tensor

    def __init__(self, bins: Centers, neighbors: int = 5, sigma: float = 5.0, temperature: float = 0.38):
        super().__init__(bins, neighbors, sigma, temperature)
        self.register_buffer("bin_weights", torch.ones(self.channels))

    def balance(self, prior: Float[Tensor, " q"], mix: float) -> None:
        """Give rare colours more weight.

        Args:
            prior: Probability of each bin.
            mix: The paper's lambda; see :func:`pretext.color.rebalance.rebalance_weights`.
        """
        self.bin_weights.copy_(rebalance_weights(prior, mix=mix))

    def pixel_weights(
        self, nearest: Int[Tensor, "n h w"], photo_weights: PhotoWeights | None
    ) -> Float[Tensor, "n h w"]:
        """See `Classification.pixel_weights`."""
        rarity = self.bin_weights[nearest]
        weights = super().pixel_weights(nearest, photo_weights)
        return rarity if weights is None else weights * rarity


class LightnessBins(Classification):
    """A distribution over bins of equal width of lightness, one-hot (Zhang et al., CVPR 2017).

    It is decoded by its mean.

    Args:
        count: Number of bins.

    Raises:
        InputError: ``count`` is less than 2.
    """

    name = "lightness_bins"
    lab_channels = LIGHTNESS
    temperature = 1.0

    def __init__(self, count: int = 50):
        super().__init__()
        check_at_least("lightness_bins", count, 2)
        self.channels = count
        centers = (torch.arange(count) + 0.5) * 100 / count
        self.register_buffer("bins", centers.unsqueeze(1), persistent=False)

    def encode(
        self, values: Float[Tensor, "n 1 h w"]
    ) -> tuple[Int[Tensor, "n 1 h w"], Float[Tensor, "n 1 h w"]]:
        """Return the bin of each CIE L, 0..100, and the weight 1; 100 itself is in the last bin."""
        indices = (values * (self.channels / 100)).long().clamp(0, self.channels - 1)
        return indices, torch.ones_like(values)

    def arguments(self) -> dict[str, Any]:
        """See `OutputSpace.arguments`."""
        return {"count": self.channels}


#: Every output space by its name in colorizer files.
SPACES: Mapping[str, type[OutputSpace]] = MappingProxyType(
    {
        "regression": Regression,
        "sigmoid_regression": SigmoidRegression,
        "ab_bins": AbBins,
        "rebalanced_ab_bins": RebalancedAbBins,
        "lightness_bins": LightnessBins,
        "lab_marginals": LabMarginals,
        "lab_joint": LabJoint,
        "hue_chroma": HueChroma,
    }
)


def ab_regression() -> Regression:
    """Return the regression of ab, as multiples of `AB_STD`.

    The network's first predictions then are about as large as the colours. Zhang et al. (ECCV 2016) do not say what
    theirs predicts for equation 1.
    """
    return Regression((AB.start, AB.stop), (0.0, 0.0), (AB_STD, AB_STD))
