"""The contract of output spaces, and of those that predict one distribution over bins."""

from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pretext.checks import check_choice
from pretext.color.decode import annealed_mean, choose, coherent_sample, tempered
from pretext.color.energy import minimize_energy
from pretext.color.histograms import Histograms
from pretext.color.losses import soft_cross_entropy
from pretext.errors import InputError

#: Channels of Lab.
LIGHTNESS, AB = slice(0, 1), slice(1, 3)

Prediction = Float[Tensor, "n c h w"]
Lab = Float[Tensor, "n 3 h w"]
#: Lab at the positions, or of the pixels of a window around each, its centre in the middle.
Target = Float[Tensor, "n 3 *window h w"]
LabChannels = Float[Tensor, "n channels h w"]
Lightness = Float[Tensor, "n 1 h w"]
PhotoWeights = Float[Tensor, " n"]


class OutputSpace(nn.Module):
    """What is predicted at each position.

    Attributes:
        name: Its name in `pretext.color.spaces.SPACES`.
        channels: C of a prediction.
        lab_channels: The channels of Lab that it predicts.
        rules: The rules by which colours are chosen from its distribution; none if it predicts values.
        hue: Which of the `histograms` is of hue, in bins of equal width that cover the circle; None if none is.
        temperature: T of its own decoding, if that is an annealed mean, else None.
    """

    name: ClassVar[str]
    rules: ClassVar[tuple[str, ...]] = ()
    hue: ClassVar[int | None] = None
    channels: int
    lab_channels: slice
    temperature: float | None = None

    @property
    def histograms(self) -> tuple[int, ...]:
        """Numbers of classes of the distributions that follow each other in a prediction; none of values."""
        return ()

    def loss(
        self, prediction: Prediction, target: Target, photo_weights: PhotoWeights | None = None
    ) -> Float[Tensor, ""]:
        """Return the loss of a prediction, averaged over all positions.

        Args:
            prediction: In single or double precision. It may be overwritten.
            target: CIE Lab at the same positions, (N, 3, H, W). Spaces of distributions also take the R * R pixels
                around each, (N, 3, R * R, H, W), and compare the prediction with their histogram.
            photo_weights: Weight of each photo, for instance `pretext.color.rebalance.gray_mask`; the divisor counts
                photos of weight 0, too.
        """
        raise NotImplementedError

    def decode(
        self,
        prediction: Prediction,
        temperature: float | None = None,
        *,
        rule: str = "annealed",
        lightness: Lightness | None = None,
        generator: torch.Generator | None = None,
    ) -> LabChannels:
        """Return the predicted channels of Lab.

        Args:
            prediction: Values; or scores of classes, which the logarithms of `distribution` are, too.
            temperature: T; colours are chosen from p^(1/T). None leaves p as it is, but for ``annealed``.
            rule: One of `rules`. ``annealed`` is the mean of p^(1/T) (Zhang et al., equation 5), and without a
                temperature the space's own decoding, which spaces of values have, too.
            lightness: CIE L at the same positions, 0..100; needed by spaces of hue and chroma.
            generator: Source of random numbers, on the prediction's device; None takes the global one.

        Raises:
            InputError: ``temperature`` is not above 0, the space does not have the rule, it predicts values, or it
                needs a lightness and there is none.
        """
        raise NotImplementedError

    def distribution(self, prediction: Prediction) -> Prediction | None:
        """Return the probabilities of the classes, each of the `histograms` summing to 1; None of values."""
        if not self.histograms:
            return None
        return torch.cat([scores.softmax(1) for scores in self.parts(prediction)], 1)

    def parts(self, prediction: Prediction) -> tuple[Float[Tensor, "n _ h w"], ...]:
        """Return the scores of each of the `histograms`, as views."""
        return tuple(torch.split(prediction, list(self.histograms), 1))

    def histograms_of(self, photos: Lab) -> tuple[Histograms, ...]:
        """Return how the colours of photos are distributed over the classes, one for each of the `histograms`.

        Args:
            photos: CIE Lab, (N, 3, H, W).

        Raises:
            InputError: The space predicts values.
        """
        raise InputError(
            f"{self.name} predicts one colour and no distribution", allowed="use a space that has one"
        )

    def biases(
        self, prediction: Prediction, targets: tuple[Float[Tensor, "m _"], ...]
    ) -> tuple[Histograms, ...]:
        """Return the bias of each of the `histograms` that brings photos near targets.

        Equation 5 of Larsson et al. is minimised for each: see `pretext.color.energy`.

        Args:
            prediction: Scores of classes, as of `decode`.
            targets: What `histograms_of` returned, of one photo or of as many.
        """
        pairs = zip(self.parts(prediction), targets, strict=True)
        return tuple(minimize_energy(scores, target).bias for scores, target in pairs)

    def check_rule(self, rule: str) -> None:
        """Raise InputError unless colours can be chosen by a rule."""
        check_choice(f"rule of decoding {self.name}", rule, self.rules)

    def arguments(self) -> dict[str, Any]:
        """Return what the constructor needs to make this space again, as JSON can hold it."""
        raise NotImplementedError


class Classification(OutputSpace):
    """One distribution over bins of channels of Lab, by cross-entropy. Subclasses have bins and implement `encode`.

    Attributes:
        bins: Centres of the bins in CIE units, (Q, channels).
        temperature: T of the annealed mean by which it is decoded (Zhang et al., ECCV 2016, equation 5).
    """

    rules = ("annealed", "mean", "mode", "sample", "coherent")
    bins: Tensor
    temperature: float

    @property
    def histograms(self) -> tuple[int, ...]:
        """See `OutputSpace.histograms`."""
        return (self.channels,)

    def encode(self, values: LabChannels) -> tuple[Int[Tensor, "n k h w"], Float[Tensor, "n k h w"]]:
        """Return the K bins that stand for each value, the nearest first, and their weights, which sum to 1."""
        raise NotImplementedError

    def pixel_weights(
        self, nearest: Int[Tensor, "n h w"], photo_weights: PhotoWeights | None
    ) -> Float[Tensor, "n h w"] | None:
        """Return the weight of each pixel, given the bin that is nearest to it."""
        return None if photo_weights is None else photo_weights[:, None, None].expand(nearest.shape)

    def loss(
        self, prediction: Prediction, target: Target, photo_weights: PhotoWeights | None = None
    ) -> Float[Tensor, ""]:
        """See `OutputSpace.loss`. The weight of a position is that of the pixel in the middle of its window."""
        values = target[:, self.lab_channels]
        if values.ndim == 4:
            indices, weights = self.encode(values)
            nearest = indices[:, 0]
        else:
            size = values.shape[2]
            n, _, _, h, w = values.shape
            # From (N, K, R * R * H, W) to (N, K * R * R, H, W).
            indices, weights = (each.reshape(n, -1, h, w) for each in self.encode(values.flatten(2, 3)))
            nearest, weights = indices[:, size // 2], weights / size
        pixel_weights = self.pixel_weights(nearest, photo_weights)
        # Logits that were cut to size share memory with what was cut off, and must stay.
        inplace = not prediction._is_view()
        return soft_cross_entropy(prediction, indices, weights, pixel_weights, inplace)

    def histograms_of(self, photos: Lab) -> tuple[Histograms, ...]:
        """See `OutputSpace.histograms_of`. Colours count for the bins by which they are encoded."""
        indices, weights = (each.flatten(1) for each in self.encode(photos[:, self.lab_channels]))
        counts = torch.zeros(len(photos), self.channels, dtype=torch.float64, device=photos.device)
        counts.scatter_add_(1, indices, weights.double())
        return ((counts / counts.sum(1, keepdim=True)).to(photos.dtype),)

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
        self.check_rule(rule)
        bins = self.bins.to(prediction.device)
        if rule in ("annealed", "mean"):
            own = self.temperature if rule == "annealed" else 1.0
            return annealed_mean(prediction, bins, own if temperature is None else temperature)
        scores = tempered(prediction, temperature)
        return choose(rule, scores, bins.to(scores.dtype), generator, coherent_sample)

    def distribution(self, prediction: Prediction) -> Prediction:
        """See `OutputSpace.distribution`."""
        return prediction.softmax(1)
