"""Output spaces: what a network predicts of a photo's colours, how that is compared with the photo, and decoded.

A space has a number of channels, the loss of a prediction against Lab values, and a decoding back to them. Methods
combine any space with any backbone and head; a colorizer file names its space in `SPACES` and holds its arguments.

Predictions are (N, C, H, W). Targets are CIE Lab (N, 3, H, W) at the same positions: L 0..100, ab in CIE units.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pretext.checks import check_at_least
from pretext.color.bins import SoftEncoder
from pretext.color.decode import annealed_mean
from pretext.color.losses import l2_loss, soft_cross_entropy
from pretext.color.rebalance import rebalance_weights
from pretext.errors import InputError

#: ab regression predicts ab divided by this, in CIE units, as the code of Zhang et al. (ECCV 2016) does.
AB_SCALE = 110.0


class OutputSpace(nn.Module):
    """What is predicted at each position.

    Attributes:
        name: Its name in `SPACES`.
        channels: C of a prediction.
        lab_channels: Which channels of Lab it predicts.
    """

    name: ClassVar[str]
    channels: int
    lab_channels: slice

    def loss(
        self,
        prediction: Float[Tensor, "n c h w"],
        target: Float[Tensor, "n 3 h w"],
        photo_weights: Float[Tensor, " n"] | None = None,
    ) -> Float[Tensor, ""]:
        """Return the loss of a prediction, averaged over all positions.

        Args:
            prediction: In single precision. It may be overwritten.
            target: CIE Lab at the same positions.
            photo_weights: Weight of each photo, for instance `pretext.color.rebalance.gray_mask`; the divisor counts
                photos of weight 0, too.
        """
        raise NotImplementedError

    def decode(self, prediction: Float[Tensor, "n c h w"]) -> Float[Tensor, "n channels h w"]:
        """Return the predicted channels of Lab."""
        raise NotImplementedError

    def distribution(self, prediction: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"] | None:
        """Return the probabilities of the space's classes; None if it predicts values."""
        return None

    def arguments(self) -> dict[str, Any]:
        """Return what makes an equal space, as JSON can hold it, beside what stands in the state dict."""
        raise NotImplementedError


class Regression(OutputSpace):
    """Values of channels of Lab, by half the squared distance (Zhang et al., ECCV 2016, equation 1).

    Args:
        lab_channels: First channel of Lab that is predicted, and the one behind the last: (1, 3) for ab.
        mean: Mean of each predicted channel, in CIE units.
        std: Deviation of each predicted channel: (value - mean) / std is predicted.
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
                received=f"{len(mean)} and {len(std)}",
            )
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def loss(
        self,
        prediction: Float[Tensor, "n c h w"],
        target: Float[Tensor, "n 3 h w"],
        photo_weights: Float[Tensor, " n"] | None = None,
    ) -> Float[Tensor, ""]:
        """See `OutputSpace.loss`."""
        return l2_loss(prediction, (target[:, self.lab_channels] - self.mean) / self.std, photo_weights)

    def decode(self, prediction: Float[Tensor, "n c h w"]) -> Float[Tensor, "n channels h w"]:
        """See `OutputSpace.decode`."""
        decoded: Tensor = prediction * self.std + self.mean
        return decoded

    def arguments(self) -> dict[str, Any]:
        """See `OutputSpace.arguments`."""
        bounds = [self.lab_channels.start, self.lab_channels.stop]
        return {
            "lab_channels": bounds,
            "mean": self.mean.flatten().tolist(),
            "std": self.std.flatten().tolist(),
        }


class AbBins(OutputSpace):
    """A distribution over bins of ab, by cross-entropy against softly encoded colours (Zhang et al., equation 2).

    Args:
        bins: Bin centres in CIE units, (Q, 2).
        neighbors: Number of bins that a colour is encoded to; 1 for one-hot.
        sigma: Width of the encoding's Gaussian in CIE units.
        temperature: T of the annealed mean by which it is decoded (equation 5).
    """

    name = "ab_bins"
    lab_channels = slice(1, 3)

    def __init__(
        self,
        bins: Float[Tensor, "q 2"] | Sequence[Sequence[float]],
        neighbors: int = 5,
        sigma: float = 5.0,
        temperature: float = 0.38,
    ):
        super().__init__()
        self.encoder = SoftEncoder(torch.as_tensor(bins), neighbors=neighbors, sigma=sigma)
        self.channels = len(self.encoder.bins)
        self.temperature = temperature

    @property
    def bins(self) -> Float[Tensor, "q 2"]:
        """Bin centres in CIE units."""
        return self.encoder.bins

    def pixel_weights(
        self, nearest: Int[Tensor, "n h w"], photo_weights: Float[Tensor, " n"] | None
    ) -> Float[Tensor, "n h w"] | None:
        """Return the weight of each pixel, given the bin that is nearest to its colour."""
        if photo_weights is None:
            return None
        return photo_weights[:, None, None].expand(-1, *nearest.shape[1:])

    def loss(
        self,
        prediction: Float[Tensor, "n c h w"],
        target: Float[Tensor, "n 3 h w"],
        photo_weights: Float[Tensor, " n"] | None = None,
    ) -> Float[Tensor, ""]:
        """See `OutputSpace.loss`."""
        indices, weights = self.encoder.encode(target[:, self.lab_channels])
        pixel_weights = self.pixel_weights(indices[:, 0], photo_weights)
        # Logits that were cut to size share memory with what was cut off, and must stay.
        inplace = not prediction._is_view()
        return soft_cross_entropy(prediction, indices, weights, pixel_weights, inplace)

    def decode(self, prediction: Float[Tensor, "n c h w"]) -> Float[Tensor, "n channels h w"]:
        """See `OutputSpace.decode`."""
        return annealed_mean(prediction, self.bins, self.temperature)

    def distribution(self, prediction: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """See `OutputSpace.distribution`."""
        return prediction.softmax(1)

    def arguments(self) -> dict[str, Any]:
        """See `OutputSpace.arguments`."""
        return {
            "bins": self.bins.tolist(),
            "neighbors": self.encoder.neighbors,
            "sigma": self.encoder.sigma,
            "temperature": self.temperature,
        }


class RebalancedAbBins(AbBins):
    """As `AbBins`, each pixel weighted by the rarity of its colour (Zhang et al., equations 3 and 4).

    The weights are 1 until `balance` is given a colour prior.
    """

    name = "rebalanced_ab_bins"
    bin_weights: Tensor

    def __init__(
        self,
        bins: Float[Tensor, "q 2"] | Sequence[Sequence[float]],
        neighbors: int = 5,
        sigma: float = 5.0,
        temperature: float = 0.38,
    ):
        super().__init__(bins, neighbors, sigma, temperature)
        self.register_buffer("bin_weights", torch.ones(self.channels))

    def balance(self, prior: Float[Tensor, " q"], mix: float) -> None:
        """Weigh rare colours up.

        Args:
            prior: Probability of each bin.
            mix: The paper's lambda, see :func:`pretext.color.rebalance.rebalance_weights`.
        """
        self.bin_weights.copy_(rebalance_weights(prior, mix=mix))

    def pixel_weights(
        self, nearest: Int[Tensor, "n h w"], photo_weights: Float[Tensor, " n"] | None
    ) -> Float[Tensor, "n h w"] | None:
        """See `AbBins.pixel_weights`."""
        rarity = self.bin_weights[nearest]
        pixels = super().pixel_weights(nearest, photo_weights)
        return rarity if pixels is None else pixels * rarity


class LightnessBins(OutputSpace):
    """A distribution over bins of equal width of lightness, by cross-entropy (Zhang et al., CVPR 2017).

    Args:
        bins: Number of bins.
    """

    name = "lightness_bins"
    lab_channels = slice(0, 1)

    def __init__(self, bins: int = 50):
        super().__init__()
        check_at_least("lightness_bins", bins, 2)
        self.channels = bins

    def indices(self, lightness: Float[Tensor, "n h w"]) -> Int[Tensor, "n h w"]:
        """Return the bin of CIE L, 0..100; 100 itself is in the last one."""
        return (lightness * (self.channels / 100)).long().clamp(0, self.channels - 1)

    def loss(
        self,
        prediction: Float[Tensor, "n c h w"],
        target: Float[Tensor, "n 3 h w"],
        photo_weights: Float[Tensor, " n"] | None = None,
    ) -> Float[Tensor, ""]:
        """See `OutputSpace.loss`."""
        labels = self.indices(target[:, 0])
        if photo_weights is None:
            return F.cross_entropy(prediction, labels)
        losses = F.cross_entropy(prediction, labels, reduction="none")
        return (losses * photo_weights[:, None, None]).mean()

    def decode(self, prediction: Float[Tensor, "n c h w"]) -> Float[Tensor, "n channels h w"]:
        """Return the expected lightness."""
        centers = (torch.arange(self.channels, device=prediction.device) + 0.5).view(1, -1, 1, 1)
        return (prediction.softmax(1) * (centers * 100 / self.channels)).sum(1, keepdim=True)

    def distribution(self, prediction: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """See `OutputSpace.distribution`."""
        return prediction.softmax(1)

    def arguments(self) -> dict[str, Any]:
        """See `OutputSpace.arguments`."""
        return {"bins": self.channels}


#: Every output space by the name that colorizer files have.
SPACES: Mapping[str, type[OutputSpace]] = MappingProxyType(
    {space.name: space for space in (Regression, AbBins, RebalancedAbBins, LightnessBins)}
)


def ab_regression() -> Regression:
    """Return the regression of ab as Zhang et al.'s code has it: ab / 110."""
    return Regression((1, 3), (0.0, 0.0), (AB_SCALE, AB_SCALE))
