"""Compare the time of soft encoding plus rebalanced loss with dense implementations.

One step on 40 x 44 x 44 pixels and 313 bins (the batch of Zhang et al., ECCV 2016), forward and backward:

caffe    as in the released Caffe layers: a ball tree over the bins (float64, scikit-learn); a dense float64 target
         over all bins, whose memory is kept between steps; its float32 copy in channel order; the weight looked up at
         the arg max of that; and PyTorch's cross-entropy against it.
brute    distances to every bin and `topk` in PyTorch, a dense float32 target, the same cross-entropy.
ours     `SoftEncoder` and `soft_cross_entropy`.
inplace  the same, with the gradient written over the logits, as training does it.

All must give the same loss and gradient. Exits with 1 if `inplace` is less than 10 times as fast as `caffe`.

    python benchmarks/soft_encoding.py
"""

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from pretext.color import (
    SoftEncoder,
    ab_bins,
    gray_mask,
    imagenet_prior,
    rebalance_weights,
    rgb_to_lab,
    soft_cross_entropy,
)

BATCH, SIDE, SIGMA = 40, 44, 5.0
RUNS = 9
TARGET = 10.0
TOLERANCE = 1e-4  # of the largest gradient; cdist in float32 is off by 2e-5

BINS = ab_bins("official313")
BIN_WEIGHTS = rebalance_weights(imagenet_prior().probabilities).float()

Step = Callable[[Tensor, Tensor], Tensor]


def caffe_step(neighbors: int) -> Step:
    """Return a step that works like the released Caffe layers."""
    tree = NearestNeighbors(n_neighbors=neighbors, algorithm="ball_tree").fit(BINS.double().numpy())
    dense = np.zeros((BATCH * SIDE * SIDE, len(BINS)))
    target = np.empty((BATCH, len(BINS), SIDE, SIDE), dtype=np.float32)
    rows = np.arange(len(dense))[:, None]
    bin_weights = BIN_WEIGHTS.numpy()

    def step(ab: Tensor, logits: Tensor) -> Tensor:
        distances, indices = tree.kneighbors(ab.permute(0, 2, 3, 1).reshape(-1, 2).numpy())
        weights = np.exp(-(distances**2) / (2 * SIGMA**2))
        weights /= weights.sum(axis=1, keepdims=True)
        dense[...] = 0
        dense[rows, indices] = weights
        target[...] = dense.reshape(BATCH, SIDE, SIDE, -1).transpose(0, 3, 1, 2)
        pixel_weights = (
            torch.from_numpy(bin_weights[np.argmax(target, axis=1)]) * gray_mask(ab)[:, None, None]
        )
        return (F.cross_entropy(logits, torch.from_numpy(target), reduction="none") * pixel_weights).mean()

    return step


def brute_step(neighbors: int) -> Step:
    """Return a step that computes distances to every bin and a dense target in PyTorch."""

    def step(ab: Tensor, logits: Tensor) -> Tensor:
        points = ab.permute(0, 2, 3, 1).reshape(-1, 2)
        distances, indices = torch.cdist(points, BINS).topk(neighbors, dim=1, largest=False)
        weights = torch.softmax(-distances.square() / (2 * SIGMA**2), dim=1)
        dense = torch.zeros(len(points), len(BINS)).scatter_(1, indices, weights)
        target = dense.view(BATCH, SIDE, SIDE, -1).permute(0, 3, 1, 2).contiguous()
        pixel_weights = BIN_WEIGHTS[indices[:, 0]].view(BATCH, SIDE, SIDE) * gray_mask(ab)[:, None, None]
        return (F.cross_entropy(logits, target, reduction="none") * pixel_weights).mean()

    return step


def our_step(neighbors: int, inplace: bool) -> Step:
    """Return a step as in training."""
    encoder = SoftEncoder(BINS, neighbors, SIGMA)

    def step(ab: Tensor, logits: Tensor) -> Tensor:
        indices, weights = encoder.encode(ab)
        pixel_weights = BIN_WEIGHTS[indices[:, 0]] * gray_mask(ab)[:, None, None]
        return soft_cross_entropy(logits, indices, weights, pixel_weights, inplace)

    return step


def run(step: Step, ab: Tensor, logits: Tensor) -> tuple[float, float, Tensor]:
    """Take one step and return its seconds, its loss and its gradient."""
    leaf = logits.requires_grad_()
    output = leaf.clone()  # stands for the network's output, which may be overwritten
    start = time.perf_counter()
    loss = step(ab, output)
    (gradient,) = torch.autograd.grad(loss, leaf)
    seconds = time.perf_counter() - start
    return seconds, loss.item(), gradient


def measure(neighbors: int, ab: Tensor, logits: Tensor) -> float:
    """Time all steps, print a line per step, and return the speed of `inplace` relative to `caffe`."""
    steps = {
        "caffe": caffe_step(neighbors),
        "brute": brute_step(neighbors),
        "ours": our_step(neighbors, inplace=False),
        "inplace": our_step(neighbors, inplace=True),
    }
    checks = {name: run(step, ab, logits) for name, step in steps.items()}  # also the warm-up
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(RUNS):
        # In turn, so that other load on the machine affects all alike.
        for name, step in steps.items():
            seconds[name].append(run(step, ab, logits)[0])
    median = {name: statistics.median(times) for name, times in seconds.items()}
    reference = checks["caffe"][2]
    for name, (_, loss, gradient) in checks.items():
        error = ((gradient - reference).abs().max() / reference.abs().max()).item()
        if error > TOLERANCE:
            raise SystemExit(
                f"{name} computes another gradient than caffe: off by {error:.1e} of its maximum"
            )
        print(
            f"K={neighbors:2d}  {name:7s}  {median[name] * 1e3:7.1f} ms  (fastest {min(seconds[name]) * 1e3:6.1f})"
            f"  {median['caffe'] / median[name]:5.1f} x caffe   loss {loss:.5f}   gradient off by {error:.0e}"
        )
    return median["caffe"] / median["inplace"]


def main() -> int:
    """Print one table per K; return 1 if the target ratio is missed."""
    torch.manual_seed(0)
    ab = rgb_to_lab(torch.rand(BATCH, 3, SIDE, SIDE))[:, 1:]
    logits = torch.randn(BATCH, len(BINS), SIDE, SIDE)
    print(
        f"soft encoding + loss, forward and backward: {BATCH} x {SIDE} x {SIDE} pixels, {len(BINS)} bins,\n"
        f"{torch.get_num_threads()} threads, median of {RUNS} runs, torch {torch.__version__}"
    )
    ratios = [measure(neighbors, ab, logits) for neighbors in (10, 5)]
    verdict = "reached" if min(ratios) >= TARGET else "MISSED"
    print(f"target: {TARGET:.0f} times as fast as caffe: {verdict} ({min(ratios):.1f})")
    return 0 if min(ratios) >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
