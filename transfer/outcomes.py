"""What a run found on each test image, kept so that two methods can be compared image by image.

A score is one number; whether two of them differ by more than the choice of test images is told by a paired bootstrap
(Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 8): images are drawn with replacement, the same
for both, and the difference is computed anew.
"""

import io
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from pretext.errors import InputError
from pretext.files import write_whole
from transfer.data.voc import VOID
from transfer.metrics import class_means, eleven_point_area, envelope_area, step_area

#: Definitions of classification's average precision, as `transfer.metrics.APS` has them.
CLASSIFICATION_AREAS = {"sklearn": step_area, "voc07": eleven_point_area, "voc10": envelope_area}
#: Definitions of detection's average precision: VOC 2007's, and that of 2010 and later.
DETECTION_AREAS = {"voc07_11point": eleven_point_area, "area": envelope_area}

#: Choices of images whose metrics are computed at once.
DRAWS_AT_ONCE = 50
#: File in a run's folder with the outcomes of its test images.
OUTCOMES_NAME = "outcomes.npz"


class Outcomes(ABC):
    """Arrays with one entry a test image, from which a metric can be computed for any choice of images."""

    kind: ClassVar[str]

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))  # type: ignore[arg-type]

    @abstractmethod
    def metrics(self, times: Int[np.ndarray, "draws n"]) -> Float[np.ndarray, " draws"]:
        """The metric in percent, where each image counts so many times, draw by draw; NaN where it has none."""

    def metric(self, chosen: Int[np.ndarray, " k"] | None = None) -> float:
        """The metric in percent over all images, or over some, which may be chosen more than once; or NaN."""
        every = np.arange(len(self)) if chosen is None else chosen
        return float(self.metrics(np.bincount(every, minlength=len(self))[None])[0])


@dataclass(frozen=True)
class Accuracy(Outcomes):
    """Share of right answers.

    Attributes:
        correct: (N,) whether each image was classified right.
    """

    kind: ClassVar[str] = "accuracy"
    correct: Bool[np.ndarray, " n"]

    def metrics(self, times: Int[np.ndarray, "draws n"]) -> Float[np.ndarray, " draws"]:
        """See `Outcomes.metrics`."""
        return np.asarray(100 * ((times @ self.correct) / times.sum(axis=1)))


@dataclass(frozen=True)
class AveragePrecision(Outcomes):
    """Mean average precision of multi-label classification.

    Attributes:
        scores: (N, C) of each image and class.
        labels: (N, C) in {0, 1, 255}.
        definition: (1,) name of one of `transfer.metrics.APS`.
    """

    kind: ClassVar[str] = "average_precision"
    scores: Float[np.ndarray, "n c"]
    labels: Integer[np.ndarray, "n c"]
    definition: np.ndarray

    @cached_property
    def _sorted(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """For each class its judged images by falling score, which are positive, and where equal scores end."""
        classes = []
        for scores, labels in zip(self.scores.T, self.labels.T, strict=True):
            order = np.argsort(-scores, kind="stable")
            order = order[labels[order] != VOID]
            ends = np.append(np.diff(scores[order]) != 0, True) if len(order) else np.zeros(0, dtype=bool)
            classes.append((order, labels[order] == 1, ends))
        return classes

    def metrics(self, times: Int[np.ndarray, "draws n"]) -> Float[np.ndarray, " draws"]:
        """See `Outcomes.metrics`."""
        area = CLASSIFICATION_AREAS[str(self.definition[0])]
        precisions = [
            _area(
                area, *(np.cumsum(times[:, order] * kind, axis=1)[:, ends] for kind in (positive, ~positive))
            )
            for order, positive, ends in self._sorted
        ]
        return 100 * _mean_over_classes(precisions, len(times))


@dataclass(frozen=True)
class Iou(Outcomes):
    """Mean intersection over union of segmentation.

    Attributes:
        intersection: (N, C) pixels of each image that are of a class and predicted to be.
        union: (N, C) pixels that are of the class or predicted to be.
    """

    kind: ClassVar[str] = "iou"
    intersection: Int[np.ndarray, "n c"]
    union: Int[np.ndarray, "n c"]

    def metrics(self, times: Int[np.ndarray, "draws n"]) -> Float[np.ndarray, " draws"]:
        """See `Outcomes.metrics`."""
        intersection, union = times @ self.intersection, times @ self.union
        shares = np.where(union > 0, intersection / np.maximum(union, 1), np.nan)
        return 100 * _mean_over_classes(list(shares.T), len(times))


@dataclass(frozen=True)
class DetectionPrecision(Outcomes):
    """Mean average precision of detection.

    Attributes:
        positives: (N, C) objects of each image and class that are to be found.
        image: (M,) index of the image of each detection; detections are in the order of falling score.
        label: (M,) its class, 1..C.
        hit: (M,) 1 for a true positive, 0 for a false one, -1 for one that counts neither way.
        definition: (1,) ``voc07_11point`` or ``area``.
    """

    kind: ClassVar[str] = "detection_precision"
    positives: Int[np.ndarray, "n c"]
    image: Int[np.ndarray, " m"]
    label: Int[np.ndarray, " m"]
    hit: Int[np.ndarray, " m"]
    definition: np.ndarray

    def metrics(self, times: Int[np.ndarray, "draws n"]) -> Float[np.ndarray, " draws"]:
        """See `Outcomes.metrics`."""
        return 100 * _mean_over_classes(self._per_class(times), len(times))

    def per_class(self) -> Float[np.ndarray, " c"]:
        """Average precision of each class in [0, 1] over all images; NaN for one with nothing to be found."""
        return np.array([each[0] for each in self._per_class(np.ones((1, len(self)), dtype=np.int64))])

    def _per_class(self, times: Int[np.ndarray, "draws n"]) -> list[Float[np.ndarray, " draws"]]:
        positives = times @ self.positives
        area = DETECTION_AREAS[str(self.definition[0])]
        precisions = []
        for label in range(1, self.positives.shape[1] + 1):
            of_class = self.label == label
            weight, hit = times[:, self.image[of_class]], self.hit[of_class]
            true, false = np.cumsum(weight * (hit == 1), axis=1), np.cumsum(weight * (hit == 0), axis=1)
            precisions.append(_area(area, true, false, positives[:, label - 1]))
        return precisions


def _area(
    area: Callable[[np.ndarray, np.ndarray], np.ndarray],
    true: Int[np.ndarray, "draws k"],
    false: Int[np.ndarray, "draws k"],
    positives: Int[np.ndarray, " draws"] | None = None,
) -> Float[np.ndarray, " draws"]:
    """Area under precision and recall from what was found so far, right and wrong; NaN with nothing to be found.

    An image that was not drawn repeats the point before it, or stands at the origin, which adds nothing to any area.
    ``positives`` are all that were to be found; by default those that were.
    """
    if positives is None:
        positives = true[:, -1] if true.shape[1] else np.zeros(len(true), dtype=np.int64)
    precision, recall = true / np.maximum(true + false, 1), true / np.maximum(positives, 1)[:, None]
    return np.where(positives > 0, area(precision, recall), np.nan)


def _mean_over_classes(
    per_class: Sequence[Float[np.ndarray, " draws"]], draws: int
) -> Float[np.ndarray, " draws"]:
    """For each draw the mean over the classes that have a number; NaN if none has."""
    return np.array([class_means(np.array([each[draw] for each in per_class])).mean for draw in range(draws)])


KINDS: Mapping[str, type[Outcomes]] = {
    kind.kind: kind for kind in (Accuracy, AveragePrecision, Iou, DetectionPrecision)
}


def save_outcomes(path: Path, outcomes: Mapping[tuple[str, str], Outcomes]) -> None:
    """Write the outcomes of a run, by setting and metric, as one ``.npz``, whole or not at all.

    Raises:
        InputError: The file cannot be written.
    """
    arrays: dict[str, np.ndarray] = {}
    for (setting, metric), each in outcomes.items():
        entries = {"kind": np.array(each.kind)} | {f.name: getattr(each, f.name) for f in fields(each)}  # type: ignore[arg-type]
        arrays |= {f"{setting} {metric} {name}": array for name, array in entries.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # none is called allow_pickle
    write_whole(path, buffer.getvalue())


def load_outcomes(path: Path, setting: str, metric: str) -> Outcomes:
    """Read one of those that `save_outcomes` wrote.

    Raises:
        InputError: The file is missing or holds something else.
    """
    prefix = f"{setting} {metric} "
    try:
        with np.load(path, allow_pickle=False) as file:
            names = [name for name in file.files if name.startswith(prefix)]
            arrays: dict[str, Any] = {name.removeprefix(prefix): file[name] for name in names}
        kind = KINDS[str(arrays.pop("kind"))]
        return kind(**arrays)
    except (OSError, ValueError, KeyError, TypeError, BadZipFile, EOFError, zlib.error) as error:
        raise InputError(
            f"{path} holds no outcomes of {setting} {metric} ({type(error).__name__}: {error})"
        ) from error


@dataclass(frozen=True)
class Difference:
    """How far one method is ahead of another.

    Attributes:
        points: Difference of the means over the runs of each, in percentage points.
        low: Where the 95 % interval over test images begins.
        high: Where it ends.
    """

    points: float
    low: float
    high: float


def resampled(outcomes: Outcomes, draws: int = 1000, seed: int = 0) -> Float[np.ndarray, " draws"]:
    """The metric over each of ``draws`` choices of images; the same choices for the same number of images and seed."""
    rng = np.random.default_rng(seed)
    count = len(outcomes)
    parts = []
    for start in range(0, draws, DRAWS_AT_ONCE):
        chosen = (rng.integers(count, size=count) for _ in range(min(DRAWS_AT_ONCE, draws - start)))
        parts.append(outcomes.metrics(np.stack([np.bincount(each, minlength=count) for each in chosen])))
    return np.concatenate(parts)


def paired_bootstrap(
    first: Sequence[Outcomes], second: Sequence[Outcomes], draws: int = 1000, seed: int = 0
) -> Difference:
    """Compare two methods over test images.

    Args:
        first: Of each run (seed) of one method; all on the same images in the same order.
        second: Likewise of the other.
        draws: How often the images are drawn.
        seed: Of the draws.

    Returns:
        The difference first - second with the 2.5th and 97.5th percentile over the draws. It is over the choice of
        images alone; that over seeds is the deviation in the tables.

    Raises:
        InputError: There is no run of one, or the runs have different numbers of images.
    """
    sizes = {len(run) for run in (*first, *second)}
    if not first or not second or len(sizes) != 1:
        raise InputError(
            "a paired bootstrap needs a run or more of each method on the same images: received"
            f" {len(first)} and {len(second)} runs with {', '.join(map(str, sorted(sizes)))} images"
        )
    means = [np.mean([run.metric() for run in runs]) for runs in (first, second)]
    drawn = [np.mean([resampled(run, draws, seed) for run in runs], axis=0) for runs in (first, second)]
    return difference_of(float(means[0] - means[1]), drawn[0], drawn[1])


def difference_of(
    points: float, first: Float[np.ndarray, " draws"], second: Float[np.ndarray, " draws"]
) -> Difference:
    """A difference with its interval, from what two methods reach in the same draws."""
    low, high = np.nanpercentile(first - second, (2.5, 97.5))
    return Difference(points, float(low), float(high))
