"""Class rebalancing and the losses of colorization.

Source: Zhang, Isola, Efros, "Colorful Image Colorization", ECCV 2016: equation 1 (L2), equation 2
(cross-entropy), equations 3 and 4 (rebalancing). Targets are the sparse ones of
`pretext.color.bins.SoftEncoder`.

A training step combines them like this:

    indices, weights = encoder.encode(ab)
    pixel_weights = bin_weights[indices[:, 0]] * gray_mask(ab)[:, None, None]
    loss = soft_cross_entropy(logits, indices, weights, pixel_weights)
"""

import torch
from jaxtyping import Float
from torch import Tensor

from pretext.checks import check_at_least, check_share


def rebalance_weights(
    prior: Float[Tensor, " q"], mix: float = 0.5, alpha: float = 1.0, skip_empty: bool = False
) -> Float[Tensor, " q"]:
    """Give rare colours more weight: w = ((1 - mix) * p + mix * uniform) ^ -alpha, scaled so that sum p * w = 1.

    Zhang et al., equation 4, with `mix` for lambda. On the official prior at the defaults the weights run
    from 0.0965 (gray) to 6.175.

    Args:
        prior: Probability p of each bin, (Q,), not negative; it is scaled to sum to 1.
        mix: Share of the uniform distribution, in [0, 1]; 0 is inverse frequency, 1 no rebalancing.
        alpha: Exponent, 0 or more; the paper's is 1.
        skip_empty: Spread the uniform distribution over the bins with p != 0 only, as the released Caffe code
            does, instead of over all Q. The two agree on a prior without empty bins.

    Returns:
        Weight of each bin, (Q,), always finite: a bin whose mixture is 0 (an empty one, with `skip_empty` or
        with mix = 0) gets the largest weight of the others, where the Caffe code divides by zero.

    Raises:
        InputError: `mix` or `alpha` is out of its range.
        ValueError: `prior` is not finite, negative or all zero.
    """
    check_share("mix", mix)
    check_at_least("alpha", alpha, 0.0)
    total = prior.sum()
    if not (bool(torch.isfinite(total)) and total > 0 and bool((prior >= 0).all())):
        raise ValueError(
            f"a colour prior must be finite, not negative and not all zero: received values from "
            f"{prior.min().item()} to {prior.max().item()}"
        )
    probabilities = prior / total
    uniform = (prior > 0).to(prior.dtype) if skip_empty else torch.ones_like(prior)
    mixture = (1 - mix) * probabilities + mix * uniform / uniform.sum()
    mixture = torch.where(mixture > 0, mixture, mixture[mixture > 0].min())
    weights = mixture.pow(-alpha)
    return weights / (probabilities * weights).sum()


def gray_mask(ab: Float[Tensor, "n 2 h w"], threshold: float = 5.0) -> Float[Tensor, " n"]:
    """Mark the photos that have colour: 1 where some pixel has |a| or |b| above the threshold, else 0.

    This is the NonGrayMask layer of the released Caffe code. A masked photo contributes neither loss nor gradient.

    Args:
        ab: Colours in CIE units, (N, 2, H, W), at the resolution of the targets.
        threshold: Threshold in CIE units.

    Returns:
        The mask, (N,), of zeros and ones.
    """
    return (ab.abs() > threshold).flatten(1).any(dim=1).to(ab.dtype)
