"""Decoding: from a distribution over ab bins to one ab colour per pixel.

Sources: Zhang, Isola, Efros, "Colorful Image Colorization", ECCV 2016, section 2.3 and equation 5; Larsson, Maire,
Shakhnarovich, "Learning Representations for Automatic Colorization", ECCV 2016, section 3.4, of histograms of one
channel; beside them the mode, the mean and samples. Most functions take logits, (N, Q, H, W), and bin centres, (Q, 2),
and return ab in CIE units, (N, 2, H, W); or (Q, C) and (N, C, H, W) of any other channels. All are finite for logits of
1e4 and more, and compute half precision in float32.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pretext.errors import InputError

#: Takes logits (N, Q, H, W) and bins (Q, 2); returns ab (N, 2, H, W).
Decoder = Callable[[Tensor, Tensor], Tensor]


def annealed_mean(
    logits: Float[Tensor, "n q h w"], bins: Float[Tensor, "q c"], temperature: float = 0.38
) -> Float[Tensor, "n c h w"]:
    """Return the mean colour of the normalised distribution p^(1/T), between the mode (T -> 0) and the mean (T = 1).

    Zhang et al., equation 5. The temperature divides log p after its largest value is shifted to 0, so no temperature
    overflows.

    Args:
        logits: Scores of the bins, (N, Q, H, W).
        bins: Bin centres in CIE units, (Q, 2); or (Q, C) of any other channels.
        temperature: T, above 0. The paper's is 0.38; the released Caffe model multiplies by 2.606, so T =
            0.3837.

    Raises:
        InputError: `temperature` is not above 0.
    """
    _check_temperature(temperature)
    scores = _at_least_float32(logits)
    probabilities = torch.softmax((scores - scores.amax(dim=1, keepdim=True)) / temperature, dim=1)
    # Autocast would round the colours to bfloat16, up to 0.25 CIE units off.
    with torch.autocast(logits.device.type, enabled=False):
        return torch.einsum("nqhw,qc->nchw", probabilities, bins.to(probabilities.dtype))


def tempered(logits: Float[Tensor, "n q h w"], temperature: float | None) -> Float[Tensor, "n q h w"]:
    """Return scores of the normalised distribution p^(1/T), or of p for T = None, in single precision at least.

    Raises:
        InputError: `temperature` is not above 0.
    """
    scores = _at_least_float32(logits)
    if temperature is None:
        return scores
    _check_temperature(temperature)
    return scores / temperature


def mean(logits: Float[Tensor, "n q h w"], bins: Float[Tensor, "q 2"]) -> Float[Tensor, "n 2 h w"]:
    """Return the mean colour, the annealed mean at T = 1; it is muted where there are several modes."""
    return annealed_mean(logits, bins, temperature=1.0)


def mode(logits: Float[Tensor, "n q h w"], bins: Float[Tensor, "q c"]) -> Float[Tensor, "n c h w"]:
    """Return the most probable bin of each pixel, the first among equals; it is vivid but patchy."""
    return _look_up(logits.argmax(dim=1), bins)


def sample(
    logits: Float[Tensor, "n q h w"], bins: Float[Tensor, "q c"], generator: torch.Generator | None = None
) -> Float[Tensor, "n c h w"]:
    """Draw a bin for each pixel independently, by inverting the cumulative distribution.

    Args:
        logits: Scores of the bins, (N, Q, H, W).
        bins: Bin centres in CIE units, (Q, 2).
        generator: Source of random numbers, on the logits' device; None takes the global one.
    """
    scores = _at_least_float32(logits)
    shape = (len(scores), 1, *scores.shape[2:])
    uniform = torch.rand(shape, generator=generator, dtype=scores.dtype, device=scores.device)
    return _inverted(scores, uniform, bins)


def coherent_sample(
    logits: Float[Tensor, "n q h w"], bins: Float[Tensor, "q c"], generator: torch.Generator | None = None
) -> Float[Tensor, "n c h w"]:
    """Draw a bin for each pixel, with the same random numbers for all pixels, so that like pixels get like colours.

    The Gumbel-max trick: argmax(log p + g), where each bin's g follows a Gumbel distribution, is an exact sample of p.
    One vector g serves all pixels, so that a pixel's own distribution is kept and the samples of neighbours agree. The
    photos of a batch share it, too.

    Args:
        logits: Scores of the bins, (N, Q, H, W).
        bins: Bin centres in CIE units, (Q, 2).
        generator: Source of random numbers, on the logits' device; None takes the global one.
    """
    scores = _at_least_float32(logits)
    # In double precision no uniform number is 0 or rounds to 1 in the logarithms below.
    uniform = torch.rand(len(bins), generator=generator, dtype=torch.float64, device=scores.device)
    gumbel = -(-uniform.clamp_min(torch.finfo(torch.float64).tiny).log()).log()
    # Equal shifts of all scores change no argmax, but huge scores would swallow g.
    shifted = scores - scores.amax(dim=1, keepdim=True)
    return mode(shifted + gumbel.to(scores.dtype).view(1, -1, 1, 1), bins)


def quantile_sample(
    logits: Float[Tensor, "n k h w"], bins: Float[Tensor, "k c"], generator: torch.Generator | None = None
) -> Float[Tensor, "n c h w"]:
    """Draw a bin for each pixel of a histogram of one channel, with one random number for all pixels.

    The cumulative distribution of every pixel is inverted at the same number, so that bins of neighbours, which are in
    order, change little where their histograms do. Larsson et al. describe a coherent sample of this kind; it is
    ``once`` in their code. The photos of a batch share the number.

    Args:
        logits: Scores of the bins in their order, (N, K, H, W).
        bins: Bin centres, (K, C).
        generator: Source of the random number, on the logits' device; None takes the global one.
    """
    scores = _at_least_float32(logits)
    uniform = torch.rand((1, 1, 1, 1), generator=generator, dtype=scores.dtype, device=scores.device)
    return _inverted(scores, uniform, bins)


def choose(
    rule: str,
    logits: Float[Tensor, "n q h w"],
    bins: Float[Tensor, "q c"],
    generator: torch.Generator | None,
    coherent: Callable[[Tensor, Tensor, torch.Generator | None], Tensor],
) -> Float[Tensor, "n c h w"]:
    """Choose one of the bins for each pixel.

    Args:
        rule: ``mode``, ``sample`` or ``coherent``.
        logits: Scores of the bins, (N, Q, H, W).
        bins: Bin centres, (Q, C).
        generator: Source of random numbers, on the logits' device; None takes the global one.
        coherent: What draws coherently: `coherent_sample` or `quantile_sample`.
    """
    if rule == "mode":
        return mode(logits, bins)
    draw = sample if rule == "sample" else coherent
    return draw(logits, bins, generator)


def median_position(logits: Float[Tensor, "n k h w"]) -> Float[Tensor, "n 1 h w"]:
    """Return where half of a histogram of one channel lies to either side, by linear interpolation within the bin.

    Larsson et al., section 3.4; their code takes the centre of the bin instead. Where a half ends with a bin and empty
    bins follow, that end is taken.

    Args:
        logits: Scores of the bins in their order, (N, K, H, W).

    Returns:
        Position in bins from the lower end of the first, 0..K: k + 1/2 is the middle of bin k.
    """
    probabilities = torch.softmax(_at_least_float32(logits), dim=1)
    cumulative = probabilities.cumsum(dim=1)
    half = cumulative[:, -1:] / 2
    index = (cumulative < half).sum(dim=1, keepdim=True)
    here = probabilities.gather(1, index)
    missing = half - (cumulative.gather(1, index) - here)
    return index + (missing / here).clamp(0, 1)


def circular_mean(
    logits: Float[Tensor, "n k h w"],
) -> tuple[Float[Tensor, "n 1 h w"], Float[Tensor, "n 1 h w"]]:
    """Return the mean direction of a histogram of equal sectors of a circle, and how concentrated it is.

    Larsson et al., section 3.4: the complex expectation of e^(i theta), theta_k = 2 pi (k + 1/2) / K.

    Args:
        logits: Scores of the sectors, (N, K, H, W).

    Returns:
        The direction in turns, 0..1; and the length of the expectation, 0 (uniform) to 1 (one direction).
    """
    probabilities = torch.softmax(_at_least_float32(logits), dim=1)
    count = logits.shape[1]
    angles = torch.arange(0.5, count, device=logits.device, dtype=probabilities.dtype) * (2 * math.pi / count)
    angles = angles.view(1, -1, 1, 1)
    x = (probabilities * angles.cos()).sum(dim=1, keepdim=True)
    y = (probabilities * angles.sin()).sum(dim=1, keepdim=True)
    return (torch.atan2(y, x) / (2 * math.pi)).remainder(1.0), (x.square() + y.square()).sqrt()


def decode_then_upsample(
    logits: Float[Tensor, "n q h w"],
    bins: Float[Tensor, "q 2"],
    size: tuple[int, int],
    decode: Decoder = annealed_mean,
) -> Float[Tensor, "n 2 height width"]:
    """Decode at the network's resolution, then enlarge the colours bilinearly, as Zhang et al. do.

    Args:
        logits: Scores of the bins, (N, Q, H, W).
        bins: Bin centres in CIE units, (Q, 2).
        size: Height and width of the result in pixels.
        decode: One of this module's decoders, or any other.
    """
    return F.interpolate(decode(logits, bins), size=size, mode="bilinear", align_corners=False)


def upsample_then_decode(
    logits: Float[Tensor, "n q h w"],
    bins: Float[Tensor, "q 2"],
    size: tuple[int, int],
    decode: Decoder = annealed_mean,
) -> Float[Tensor, "n 2 height width"]:
    """Enlarge the probabilities bilinearly, then decode each pixel, as Larsson et al. (ECCV 2016) do.

    This keeps edges that decoding first would blur, but needs (height * width) / (H * W) times the memory of the
    logits. The arguments are those of `decode_then_upsample`.
    """
    probabilities = torch.softmax(_at_least_float32(logits), dim=1)
    large = F.interpolate(probabilities, size=size, mode="bilinear", align_corners=False)
    # Probabilities that underflowed to 0 would have infinite logarithms.
    return decode(large.clamp_min(torch.finfo(large.dtype).tiny).log(), bins)


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise InputError(
            "temperature of the annealed mean is out of range",
            received=temperature,
            allowed="allowed are numbers above 0; the limit at 0 is `mode`",
        )


def _inverted(scores: Tensor, uniform: Tensor, bins: Tensor) -> Tensor:
    """Return the centres of the bins at which the cumulative distributions pass numbers of 0..1."""
    cumulative = torch.softmax(scores, dim=1).cumsum(dim=1)
    # Scale by the last entry, which rounding leaves a little off 1, so that the draw stays within the bins.
    indices = (cumulative <= uniform * cumulative[:, -1:]).sum(dim=1).clamp_(max=len(bins) - 1)
    return _look_up(indices, bins)


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _look_up(indices: Tensor, bins: Tensor) -> Tensor:
    """Map bin indices (N, H, W) to their colours (N, C, H, W)."""
    return bins[indices].permute(0, 3, 1, 2).contiguous()
