"""What scores are computed from: hits in the top k, areas under precision and recall, means over classes.

All in fractions of [0, 1]; the stages turn them into percent. Detection's matching is in `transfer.scores.detection`.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pretext.errors import TrainingDivergedError

#: Precision or recall at falling thresholds, for one curve or for several of the same length.
Curve = Float[np.ndarray, "*draws k"]
#: One number per curve.
Areas = Float[np.ndarray, "*draws"]


def mean_over_classes(per_class: Float[np.ndarray, " c"]) -> float:
    """Return the mean over the classes whose number is not NaN; NaN if there is none."""
    judged = per_class[~np.isnan(per_class)]
    return float(judged.mean()) if judged.size else float("nan")


def check_scores(title: str, scores: Iterable[Tensor]) -> None:
    """Raise TrainingDivergedError unless all scores that a network gives are finite numbers.

    Sorting, argmax and thresholds all make something plausible of NaN.

    Args:
        title: What was trained, for instance "linear probe of conv5".
        scores: Tensors of any shape, on any device.
    """
    if not all(bool(torch.isfinite(each).all()) for each in scores):
        raise TrainingDivergedError(
            f"the trained {title} gives scores that are NaN or infinite; none is written. Lower optimizer.lr"
        )


def topk_hits(
    logits: Float[Tensor, "n c"], labels: Int[Tensor, " n"], ks: tuple[int, ...] = (1, 5)
) -> Bool[Tensor, "n k"]:
    """Return whether each image's label is among the k highest logits (torch, any device).

    Equal logits rank by class index, and NaN never counts as correct: a broken classifier cannot look good.

    Args:
        logits: (N, C), any scale.
        labels: (N,) int64 in [0, C).
        ks: The values of k; one above C acts as C.

    Returns:
        (N, len(ks)), one column per k.
    """
    label_logit = logits.gather(1, labels[:, None])
    above = ~(logits <= label_logit)
    tied_before = (logits == label_logit) & (
        torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    )
    rank = (above | tied_before).sum(dim=1)
    limits = torch.tensor([min(k, logits.shape[1]) for k in ks], device=logits.device)
    return rank[:, None] < limits


def step_area(precision: Curve, recall: Curve) -> Areas:
    """Return the sum over thresholds of the step in recall times the precision there.

    Scikit-learn's ``average_precision_score``, which the published VOC 2007 classification code computes
    (Kraehenbuehl, DeepCluster, Larsson).
    """
    return np.asarray(np.sum(np.diff(recall, prepend=0.0) * precision, axis=-1))


def eleven_point_area(precision: Curve, recall: Curve) -> Areas:
    """Return the mean over t = 0, 0.1, ..., 1 of the highest precision at recall >= t, 0 if there is none.

    VOC 2007 (Everingham et al. 2010, equations 1 and 2). Recall never falls along the last axis.
    """
    # arange / 10, not linspace: 3 / 10 must equal the recall of 3 out of 10.
    thresholds = np.arange(11) / 10
    *draws, count = precision.shape
    # The highest precision from each point on, and 0 behind the last one.
    highest = np.zeros((*draws, count + 1))
    highest[..., :count] = _highest_from_here(precision)
    first = [np.searchsorted(each, thresholds) for each in recall.reshape(math.prod(draws), count)]
    reached = np.array(first, dtype=np.intp).reshape(*draws, len(thresholds))
    return np.asarray(np.take_along_axis(highest, reached, axis=-1).mean(axis=-1))


def envelope_area(precision: Curve, recall: Curve) -> Areas:
    """Return the area under the precision made non-increasing in recall.

    VOC 2010 and later (``VOCap.m`` of the devkit).
    """
    return step_area(_highest_from_here(precision), recall)


def _highest_from_here(precision: Curve) -> Curve:
    return np.asarray(np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1])


#: Definitions of average precision; a score line calls them mean_ap_sklearn, mean_ap_voc07 and mean_ap_voc10.
#: Differences from the devkit: in classification, images of equal score enter together, not in the file's order.
AVERAGE_PRECISIONS: dict[str, Callable[[Curve, Curve], Areas]] = {
    "sklearn": step_area,
    "voc07": eleven_point_area,
    "voc10": envelope_area,
}
