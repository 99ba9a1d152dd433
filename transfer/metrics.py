"""The numbers a backbone is judged by: accuracy, average precision, mean IoU.

Every function returns counts or fractions in [0, 1]; the stages turn them into the percent of a score line.
Detection has its own file, ``detection_metrics.py``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from pretext.errors import InputError
from transfer.data.voc import VOID

PrecisionRecall = tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]
"""Precision and recall, in the order of falling score threshold."""


@dataclass(frozen=True)
class ClassMeans:
    """One number a class, and their mean.

    Attributes:
        per_class: (C,) float64 in [0, 1]; NaN where the class cannot be judged.
        mean: mean over the classes that can be judged; NaN if there is none.
        left_out: indices of the classes with NaN, which are not in the mean.
    """

    per_class: Float[np.ndarray, " c"]
    mean: float
    left_out: tuple[int, ...]


def class_means(per_class: Float[np.ndarray, " c"]) -> ClassMeans:
    """The mean over the classes whose number is not NaN."""
    judged = per_class[~np.isnan(per_class)]
    left_out = tuple(int(i) for i in np.flatnonzero(np.isnan(per_class)))
    return ClassMeans(per_class, float(judged.mean()) if judged.size else float("nan"), left_out)


def topk_hits(
    logits: Float[Tensor, "n c"], labels: Int[Tensor, " n"], ks: tuple[int, ...] = (1, 5)
) -> Bool[Tensor, "n k"]:
    """Whether each image's label is among the k highest logits (torch, any device).

    Equal logits rank by class index and a NaN never counts as correct: a broken classifier cannot look good.

    Args:
        logits: (N, C), any scale.
        labels: (N,) int64 in [0, C).
        ks: the k's; a k above C acts as C.

    Returns:
        (N, len(ks)), one column a k.
    """
    label_logit = logits.gather(1, labels[:, None])
    above = ~(logits <= label_logit)
    tied_before = (logits == label_logit) & (
        torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    )
    rank = (above | tied_before).sum(dim=1)
    limits = torch.tensor([min(k, logits.shape[1]) for k in ks], device=logits.device)
    return rank[:, None] < limits


def _precision_recall(scores: Float[np.ndarray, " n"], labels: Integer[np.ndarray, " n"]) -> PrecisionRecall:
    """Precision and recall at each distinct score, so that the order of equal scores does not matter."""
    kept = labels != VOID
    scores, positive = scores[kept], labels[kept] == 1
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(positive[order])
    last_of_ties = np.flatnonzero(np.append(np.diff(scores) != 0, True)) if scores.size else np.arange(0)
    true_positives = hits[last_of_ties].astype(np.float64)
    return true_positives / (last_of_ties + 1), true_positives / max(int(positive.sum()), 1)


Curve = Float[np.ndarray, "*draws k"]
"""Precision or recall at falling thresholds; there may be several curves of one length."""

Areas = Float[np.ndarray, "*draws"]


def step_area(precision: Curve, recall: Curve) -> Areas:
    """Sum over thresholds of the step in recall times the precision there."""
    return np.asarray(np.sum(np.diff(recall, prepend=0.0) * precision, axis=-1))


def eleven_point_area(precision: Curve, recall: Curve) -> Areas:
    """Mean over t = 0, 0.1, ..., 1 of the highest precision at recall >= t, 0 if there is none."""
    # arange / 10, not linspace: 3 / 10 must equal the recall of 3 out of 10.
    highest = [np.where(recall >= t, precision, 0.0).max(axis=-1, initial=0.0) for t in np.arange(11) / 10]
    return np.asarray(np.mean(highest, axis=0))


def envelope_area(precision: Curve, recall: Curve) -> Areas:
    """Area under the precision that is made non-increasing in recall."""
    return step_area(np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1], recall)


def _check_labels(scores: Float[np.ndarray, " *shape"], labels: Integer[np.ndarray, " *shape"]) -> None:
    if not np.isin(labels, (0, 1, VOID)).all():
        raise InputError(
            f"a label is not usable for average precision: got the values {np.unique(labels)[:10].tolist()}; "
            f"allowed are 0 (negative), 1 (positive) and {VOID} (difficult, left out)"
        )
    if np.isnan(scores[labels != VOID]).any():
        raise InputError("a score is NaN: got it for an image that is judged; every score must be a number")


def _classification_ap(
    scores: Float[np.ndarray, " n"],
    labels: Integer[np.ndarray, " n"],
    area: Callable[[Curve, Curve], Areas],
) -> float:
    _check_labels(scores, labels)
    return float(area(*_precision_recall(scores, labels))) if (labels == 1).any() else float("nan")


def average_precision(scores: Float[np.ndarray, " n"], labels: Integer[np.ndarray, " n"]) -> float:
    """Non-interpolated average precision, as `sklearn.metrics.average_precision_score` (NumPy).

    AP = sum over distinct thresholds of (recall step) * precision; images of equal score enter together. It
    is what the published VOC07 classification code computes (Kraehenbuehl, DeepCluster, Larsson).

    Args:
        scores: (N,) any scale, higher is more likely.
        labels: (N,) 0 negative, 1 positive, 255 difficult: left out.

    Returns:
        AP in [0, 1]; NaN without a positive.

    Raises:
        InputError: a label outside {0, 1, 255}, or a NaN score.
    """
    return _classification_ap(scores, labels, step_area)


def voc07_average_precision(scores: Float[np.ndarray, " n"], labels: Integer[np.ndarray, " n"]) -> float:
    """11-point interpolated average precision of VOC 2007 (NumPy).

    Mean over t = 0, 0.1, ..., 1 of the highest precision at recall >= t (Everingham et al. 2010, eq. 1 and
    2). Arguments, result and errors as in `average_precision`.

    Differences from the devkit: images of equal score enter together instead of in the order of the file.
    """
    return _classification_ap(scores, labels, eleven_point_area)


def voc10_average_precision(scores: Float[np.ndarray, " n"], labels: Integer[np.ndarray, " n"]) -> float:
    """Area under the interpolated curve, VOC 2010 and later (NumPy).

    Precision is made non-increasing in recall, then integrated over recall (`VOCap.m` of the devkit).
    Arguments, result and errors as in `average_precision`; ties as in `voc07_average_precision`.
    """
    return _classification_ap(scores, labels, envelope_area)


APS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "sklearn": average_precision,
    "voc07": voc07_average_precision,
    "voc10": voc10_average_precision,
}
"""The three definitions; a score line calls them mean_ap_sklearn, mean_ap_voc07, mean_ap_voc10."""


def mean_average_precision(
    scores: Float[np.ndarray, "n c"], labels: Integer[np.ndarray, "n c"], definition: str
) -> ClassMeans:
    """Average precision of each class, and their mean (NumPy).

    Args:
        scores: (N, C) any scale.
        labels: (N, C) in {0, 1, 255}; 255 = difficult, left out.
        definition: "sklearn", "voc07" or "voc10".

    Returns:
        AP by class; a class without a positive is NaN, left out of the mean and listed.

    Raises:
        InputError: an unknown definition, a label outside {0, 1, 255}, or a NaN score.
    """
    if definition not in APS:
        raise InputError(
            f"unknown definition of average precision: got {definition!r}; allowed: {', '.join(APS)}"
        )
    return class_means(np.array([APS[definition](s, y) for s, y in zip(scores.T, labels.T, strict=True)]))


def confusion_matrix(
    prediction: Int[Tensor, "*shape"], target: Integer[Tensor, "*shape"], num_classes: int
) -> Int[Tensor, "c c"]:
    """Counts pixels by true class (row) and predicted class (column); torch, any device.

    Args:
        prediction: class indices in [0, C), any shape.
        target: class indices in [0, C), or 255 = void, whose pixels are dropped.
        num_classes: C, with the background.

    Returns:
        (C, C) int64, to be summed over images and processes.

    Raises:
        InputError: a class outside [0, C).
    """
    judged = target != VOID
    prediction, target = prediction[judged].long(), target[judged].long()
    for name, classes in (("prediction", prediction), ("target", target)):
        if classes.numel() and (int(classes.min()) < 0 or int(classes.max()) >= num_classes):
            raise InputError(
                f"the {name} holds an unknown class: got {int(classes.min())} to {int(classes.max())}; "
                f"allowed are 0 to {num_classes - 1}, and {VOID} = void in the target"
            )
    counts = torch.bincount(target * num_classes + prediction, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def mean_iou(confusion: Int[Tensor, "c c"]) -> ClassMeans:
    """VOC's intersection over union of each class, over all pixels of the set (torch in, NumPy out).

    IoU = diagonal / (row sum + column sum - diagonal). A class neither in the truth nor predicted is NaN.
    """
    counts = confusion.cpu().numpy().astype(np.float64)
    intersection = np.diag(counts)
    union = counts.sum(axis=0) + counts.sum(axis=1) - intersection
    return class_means(np.divide(intersection, union, out=np.full(len(counts), np.nan), where=union > 0))
