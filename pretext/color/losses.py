"""The losses of colorization: L2, and cross-entropy against sparse soft targets.

Sources: Zhang et al., ECCV 2016; of local histograms Larsson et al., ECCV 2016.
"""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

# On a CPU the loss goes through the batch in pieces that stay in the cache. A piece is the fewest photos whose target
# has more entries than this (below it, PyTorch's gather and scatter use one thread) and that divide equally among the
# threads. Some operations would split a photo shared by two threads along its pixels, others along its bins; each
# thread would then write into the other's cache, which is 3 times as slow where cores share no cache.
_TARGETS_AT_ONCE = 2**15


def soft_cross_entropy(
    logits: Float[Tensor, "n q h w"],
    indices: Int64[Tensor, "n k h w"],
    weights: Float[Tensor, "n k h w"],
    pixel_weights: Float[Tensor, "n h w"] | None = None,
    inplace: bool = False,
) -> Float[Tensor, ""]:
    """Rebalanced cross-entropy against soft targets, in nats (Zhang et al., equation 2).

    It never makes a dense target. The forward pass already computes the gradient, while the logits are in the cache,
    and the backward pass only scales it if it must. Backward therefore runs once: a second run over the same graph
    (`retain_graph=True`) raises an error. The loss is stable for logits of 1e4 and more; half precision is computed in
    float32.

    Args:
        logits: Scores of the Q bins, (N, Q, H, W).
        indices: Bins of the target, (N, K, H, W), from `SoftEncoder.encode`. The targets get no gradient.
        weights: Their weights, (N, K, H, W), which sum to 1 over K.
        pixel_weights: Weight of each pixel, (N, H, W): the rebalancing weight of its nearest bin times the gray mask.
            None weighs every pixel 1. It gets no gradient.
        inplace: Overwrite the logits with their gradient, which halves the memory and saves time. The logits are
            lost, so read them before if you need them. As for every in-place operation, they must not be a leaf, nor
            the output of an operation that needs it for its own gradient (a convolution or an interpolation does
            not); PyTorch raises an error if they are. Half precision, or logits without a gradient, are never
            overwritten.

    Returns:
        Mean of weight * cross-entropy over all N * H * W pixels. The divisor is the number of pixels, whatever their
        weights, so the losses and gradients of two processes average to those of one with both batches.

    Raises:
        RuntimeError: In the backward pass, if it ran before, or if overwritten logits were used elsewhere.

    Differences from the paper: a mean instead of a sum over pixels. The released Caffe code logs the loss without the
    weights and multiplies the gradient by them, which gives the same gradient.
    """
    if not (torch.is_grad_enabled() and logits.requires_grad):
        logits, inplace = logits.detach(), False
    if pixel_weights is None:
        pixel_weights = weights.new_ones(()).expand_as(weights[:, 0])
    loss: Tensor = _SoftCrossEntropy.apply(logits, indices, weights, pixel_weights, inplace)[0]
    return loss


def histogram_cross_entropy(
    logits: Float[Tensor, "n k h w"],
    bins: Int64[Tensor, "n *window h w"],
    pixel_weights: Float[Tensor, "n h w"] | None = None,
) -> Float[Tensor, ""]:
    """Return the cross-entropy against the histogram of the pixels around each position, in nats.

    Larsson et al. (ECCV 2016), equation 1: the Kullback-Leibler divergence is smaller by the entropy of the histogram,
    which has no gradient.

    Args:
        logits: Scores of the K bins, (N, K, H, W).
        bins: The bin of each pixel of a window, (N, R * R, H, W); or one at each position, (N, H, W).
        pixel_weights: Weight of each position, (N, H, W); None weighs every one 1.

    Returns:
        Mean over all N * H * W positions, as of `soft_cross_entropy`.
    """
    indices = bins.unsqueeze(1) if bins.ndim == 3 else bins
    weights = logits.new_full(indices.shape, 1 / indices.shape[1])
    return soft_cross_entropy(logits, indices, weights, pixel_weights)


def l2_loss(
    prediction: Float[Tensor, "n c h w"],
    target: Float[Tensor, "n c h w"],
    mask: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, ""]:
    """Return half the squared distance of two colours, averaged over all N * H * W pixels (Zhang et al., equation 1).

    Args:
        prediction: Predicted colours, (N, C, H, W): ab, or any other channels.
        target: True colours in the same units, (N, C, H, W).
        mask: Weight of each photo, (N,), for instance `gray_mask(ab)`. The divisor includes masked pixels.

    Differences from the paper: a mean instead of a sum over pixels.
    """
    squared = (prediction - target).square().sum(dim=1) / 2
    return (squared if mask is None else squared * mask[:, None, None]).mean()


class _SoftCrossEntropy(torch.autograd.Function):
    """Cross-entropy against sparse soft targets; see `soft_cross_entropy`.

    The gradient is a second output, because autograd requires an input that was written to as an output.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, indices: Tensor, weights: Tensor, pixel_weights: Tensor, inplace: bool
    ) -> tuple[Tensor, Tensor | None]:
        dtype = torch.promote_types(logits.dtype, torch.float32)
        gradient = None
        if ctx.needs_input_grad[0]:
            gradient = logits if inplace and logits.dtype == dtype else torch.empty_like(logits, dtype=dtype)
        shares = pixel_weights.to(dtype).unsqueeze(1) / pixel_weights.numel()
        losses = []
        photos = len(logits)
        if logits.device.type == "cpu":
            threads = torch.get_num_threads()
            photos = threads * (_TARGETS_AT_ONCE // (threads * indices[0].numel()) + 1)
        for start in range(0, len(logits), photos):
            part = slice(start, start + photos)
            scores, target, share = logits[part].to(dtype), indices[part], shares[part]
            negative_weights = weights[part].to(dtype) * -share
            largest = scores.amax(dim=1, keepdim=True)
            # log p = (score - largest) - log(sum of exp(score - largest)), in which no term overflows.
            log_p = scores.gather(1, target).sub_(largest)
            exponentials = torch.sub(scores, largest, out=None if gradient is None else gradient[part]).exp_()
            partition = exponentials.sum(dim=1, keepdim=True)
            log_p -= partition.log()
            losses.append(torch.sum(log_p.mul_(negative_weights)))
            if gradient is not None:
                exponentials.mul_(share / partition).scatter_add_(1, target, negative_weights)
        if gradient is logits:
            ctx.mark_dirty(logits)
        elif gradient is not None:
            ctx.mark_non_differentiable(gradient)
        ctx.save_for_backward(gradient)
        ctx.set_materialize_grads(False)
        ctx.spent = False
        return torch.stack(losses).sum(), gradient

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Tensor | None, overwritten_grad: Tensor | None
    ) -> tuple[Tensor | None, None, None, None, None]:
        if overwritten_grad is not None:
            raise RuntimeError(
                "logits were used after soft_cross_entropy overwrote them: received a gradient for them; "
                "compute the cross-entropy last, or pass inplace=False"
            )
        if ctx.spent:
            raise RuntimeError(
                "a second backward pass through soft_cross_entropy, which keeps one gradient: received "
                "retain_graph=True; compute the loss anew"
            )
        ctx.spent = True
        (gradient,) = ctx.saved_tensors
        if grad is None:
            return None, None, None, None, None
        # On a CPU this check is free; on a GPU it would wait for the device.
        if grad.device.type != "cpu" or grad.item() != 1:
            gradient.mul_(grad)
        return gradient, None, None, None, None
