"""Colour histograms of photos and of predictions, and biases that steer predictions.

A colorizer of marginal distributions (Larsson, Maire, Shakhnarovich, ECCV 2016) predicts K bins of one number of the
colour: hue, chroma, a or b. Its scores are (N, K, H, W): logits, or logarithms of probabilities, which may be -inf. A
histogram is (N, K) and sums to 1; a bias, (N, K), is added to the scores of all pixels of a photo.

`pretext.color.energy` finds the bias that brings a photo near a histogram. Sampling by a bias, and the map of
uncertainty, are the paper's, too. It does not say which bias it rotates: `hue_bias` is one, and that of a reference's
energy another.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

#: Bins in which both histograms together hold less count as if they held this.
LEAST = 1e-12

Scores = Float[Tensor, "n k h w"]
Weights = Float[Tensor, "n h w"]
Histograms = Float[Tensor, "n k"]


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
    bins = torch.bucketize(values.contiguous(), edges[1:-1].contiguous(), right=True).flatten(1)
    each = torch.ones_like(values) if weights is None else weights
    counts = torch.zeros(len(values), len(edges) - 1, dtype=torch.float64, device=values.device)
    counts.scatter_add_(1, bins, each.flatten(1).double())
    total = counts.sum(1, keepdim=True)
    shares = torch.where(total > 0, counts / total, 1 / counts.shape[1])
    return shares.to(torch.promote_types(values.dtype, torch.float32))


def hue_and_chroma_histograms(
    hues: Weights, chromas: Weights, num_bins: int = 32
) -> tuple[Histograms, Histograms]:
    """Return the histogram of a photo's hues, each pixel weighted by its chroma, and that of its chroma.

    Args:
        hues: In turns, [0, 1), (N, H, W). The hue of gray means nothing, and must not count.
        chromas: 0..1, (N, H, W).
        num_bins: Bins of equal width of each.
    """
    edges = torch.linspace(0, 1, num_bins + 1, dtype=hues.dtype, device=hues.device)
    return histogram(hues, edges, chromas), histogram(chromas, edges)


def mean_histogram(scores: Scores, weights: Weights | None = None) -> Histograms:
    """Return the histogram that is expected of a photo: the mean of its pixels' distributions, <y> of equation 5.

    Args:
        scores: Scores of the bins.
        weights: Weight of each pixel, not negative; if all of a photo are 0, its pixels count alike.
    """
    probabilities = log_probabilities(scores).exp().flatten(2)
    mean = mean_over_pixels(probabilities, pixel_shares(scores, weights))
    return mean.to(torch.promote_types(scores.dtype, torch.float32))


def chi_squared(first: Histograms, second: Histograms) -> Float[Tensor, " n"]:
    """Return the symmetric chi-squared distance, half the sum of (p - q)^2 / (p + q): 0 for equal, 1 for disjoint."""
    total = (first + second).clamp_min(LEAST)
    distance: Tensor = ((first - second).square() / total).sum(1) / 2
    return distance


def apply_bias(scores: Scores, bias: Float[Tensor, "m k"]) -> Scores:
    """Return log softmax(log y + b), which the decoders take.

    Args:
        scores: Scores of the bins, which give y.
        bias: b of each photo, or one for all.
    """
    return (log_probabilities(scores) + bias[:, :, None, None].double()).log_softmax(1).to(scores.dtype)


def rotate(hues: Float[Tensor, "n k *rest"], degrees: float) -> Float[Tensor, "n k *rest"]:
    """Turn histograms, distributions or biases over the circle of hues, interpolating linearly between bins.

    Turn the bias of a reference's energy to sample colourings whose hues lean to others than the reference's; turn a
    histogram to ask for the reference's colours with other hues. A histogram turned by part of a bin is a little
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
    hues = log_probabilities(hue_scores).exp()
    entropy: Tensor = -torch.special.xlogy(hues, hues).sum(1) / math.log(hues.shape[1])
    expected = expectation(log_probabilities(chroma_scores).exp(), chromas)
    return (entropy * expected).to(torch.promote_types(hue_scores.dtype, torch.float32))


def expectation(probabilities: Scores, centers: Float[Tensor, " k"]) -> Weights:
    """Return the expected value of each pixel, given the centres of its bins."""
    expected: Tensor = torch.einsum("nkhw,k->nhw", probabilities, centers.to(probabilities.dtype))
    return expected


def log_probabilities(scores: Scores) -> Scores:
    """Return the logarithms of the probabilities that scores stand for, in double precision."""
    return scores.double().log_softmax(1)


def pixel_shares(scores: Scores, weights: Weights | None) -> Float[Tensor, "n pixels"]:
    """Return the share of each pixel in a photo's means, in double precision: equal shares where all weights are 0."""
    count, _, height, width = scores.shape
    even = torch.full(
        (count, height * width), 1 / (height * width), dtype=torch.float64, device=scores.device
    )
    if weights is None:
        return even
    flat = weights.double().flatten(1)
    total = flat.sum(1, keepdim=True)
    return torch.where(total > 0, flat / total, even)


def mean_over_pixels(
    probabilities: Float[Tensor, "n k pixels"], shares: Float[Tensor, "n pixels"]
) -> Histograms:
    """Return the mean of a photo's distributions, given the share of each pixel."""
    mean: Tensor = (probabilities @ shares.unsqueeze(2)).squeeze(2)
    return mean
