"""Outcomes of a run on each test image, kept so that two methods can be compared image by image.

Two scores differ by more than the choice of test images if a paired bootstrap says so (Efron and Tibshirani, "An
Introduction to the Bootstrap", 1993, chapter 8): draw images with replacement, the same for both methods, and compute
the difference anew.
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

from pretext.checks import check_choice
from pretext.errors import InputError
from pretext.files import write_whole
from transfer.data.voc import VOID
from transfer.scores.metrics import AVERAGE_PRECISIONS, mean_over_classes

#: Names of definitions in the first files of detection's outcomes, and their names in `AVERAGE_PRECISIONS`.
EARLIER_DEFINITIONS = {"voc07_11point": "voc07", "area": "voc10"}
#: Number of draws whose metrics are computed at once.
DRAWS_AT_ONCE = 50
#: File in a run's folder that holds the outcomes of its test images.
OUTCOMES_NAME = "outcomes.npz"


class Outcomes(ABC):
    """Arrays with one entry per test image, from which a metric can be computed for any choice of images.

    The metric is in the unit of the stage's `transfer.stage.Metric`.
    """

    kind: ClassVar[str]

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))  # type: ignore[arg-type]

    @abstractmethod
    def metrics(self, times: Int[np.ndarray, "draws n"]) -> Float[np.ndarray, " draws"]:
        """Return the metric per draw, where image i counts ``times[draw, i]`` times; NaN if undefined."""

    def metric(self, chosen: Int[np.ndarray, " k"] | None = None) -> float:
        """Return the metric over all images, or over chosen ones (repeats count); NaN if undefined."""
        every = np.arange(len(self)) if chosen is None else chosen
        return float(self.metrics(np.bincount(every, minlength=len(self))[None])[0])


@dataclass(frozen=True)
class Mean(Outcomes):
    """Mean of a number per image, in any unit.

    Attributes:
        values: (N,) the number of each image, in the metric's unit.
    """

    kind: ClassVar[str] = "mean"
    values: Float[np.ndarray, " n"]

    def metrics(self, times: Int[np.ndarray, "draws n"]) -> Float[np.ndarray, " draws"]:
        """See `Outcomes.metrics`."""
        return np.asarray((times @ self.values) / times.sum(axis=1))


@dataclass(frozen=True)
class RootMean(Outcomes):
    """Root of the mean over images of a mean square, in any unit.

    Attributes:
        squares: (N,) the mean square of each image.
    """

    kind: ClassVar[str] = "root_mean"
    squares: Float[np.ndarray, " n"]

    def metrics(self, times: Int[np.ndarray, "draws n"]) -> Float[np.ndarray, " draws"]:
        """See `Outcomes.metrics`."""
        return np.asarray(np.sqrt((times @ self.squares) / times.sum(axis=1)))


@dataclass(frozen=True)
class Share(Outcomes):
    """Quotient of two sums over images, in percent: a mean over their pixels, weighted or not.

    Attributes:
        parts: (N,) the numerator of each image.
        wholes: (N,) its denominator, not negative.
        curve: (N, T) how the numerator comes about, for figures; T may be 0.
    """

    kind: ClassVar[str] = "share"
    parts: Float[np.ndarray, " n"]
    wholes: Float[np.ndarray, " n"]
    curve: Float[np.ndarray, "n t"]

    def metrics(self, times: Int[np.ndarray, "draws n"]) -> Float[np.ndarray, " draws"]:
        """See `Outcomes.metrics`."""
        return np.asarray(100 * ((times @ self.parts) / (times @ self.wholes)))


@dataclass(frozen=True)
class Accuracy(Outcomes):
    """Share of correctly classified images, in percent.

    Attributes:
        correct: (N,) whether each image was classified correctly.
    """

    kind: ClassVar[str] = "accuracy"
    correct: Bool[np.ndarray, " n"]

    def metrics(self, times: Int[np.ndarray, "draws n"]) -> Float[np.ndarray, " draws"]:
        """See `Outcomes.metrics`."""
        return np.asarray(100 * ((times @ self.correct) / times.sum(axis=1)))


@dataclass(frozen=True)
class AveragePrecision(Outcomes):
    """Mean average precision of multi-label classification, in percent.

    Attributes:
        scores: (N, C) score of each image for each class.
        labels: (N, C) in {0, 1, 255}.
        definition: (1,) name of one of `AVERAGE_PRECISIONS`.

    Raises:
        InputError: An unknown definition, a label outside {0, 1, 255}, or a score that is not a finite number.
    """

    kind: ClassVar[str] = "average_precision"
    scores: Float[np.ndarray, "n c"]
    labels: Integer[np.ndarray, "n c"]
    definition: np.ndarray

    def __post_init__(self) -> None:
        check_choice("definition of average precision", str(self.definition[0]), AVERAGE_PRECISIONS)
        labels = np.unique(self.labels)
        if not np.isin(labels, (0, 1, VOID)).all():
            raise InputError(
                "unknown labels of photos",
                received=labels[:10].tolist(),
                allowed=f"allowed are 0 (negative), 1 (positive) and {VOID} (difficult, left out)",
            )
        if not np.isfinite(self.scores).all():
            # Sorted, they would give a plausible average precision.
            count = int((~np.isfinite(self.scores)).sum())
            raise InputError(
                "scores of photos are NaN or infinite",
                received=f"{count} of {self.scores.size}",
                allowed="every score must be a finite number",
            )

    @cached_property
    def _sorted(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """For each class: its judged images by falling score, which are positive, and ends of ties with a positive."""
        classes = []
        for scores, labels in zip(self.scores.T, self.labels.T, strict=True):
            order = np.argsort(-scores, kind="stable")
            order = order[labels[order] != VOID]
            positive = labels[order] == 1
            ends = np.flatnonzero(np.diff(scores[order], append=-np.inf))
            found = np.cumsum(positive)[ends]
            classes.append((order, positive, ends[np.diff(found, prepend=0) > 0]))
        return classes

    def metrics(self, times: Int[np.ndarray, "draws n"]) -> Float[np.ndarray, " draws"]:
        """See `Outcomes.metrics`."""
        area = AVERAGE_PRECISIONS[str(self.definition[0])]
        by_image = np.ascontiguousarray(times.T, dtype=np.int32)
        precisions = [
            _area(area, *(counts.T for counts in _counts_at(ends, by_image[order], positive)))
            for order, positive, ends in self._sorted
        ]
        return 100 * _mean_over_classes(precisions, len(times))


@dataclass(frozen=True)
class Iou(Outcomes):
    """Mean intersection over union of segmentation, in percent.

    Attributes:
        intersection: (N, C) number of pixels of each image that belong to a class and are predicted to.
        union: (N, C) number of pixels that belong to the class or are predicted to.
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
    """Mean average precision of detection, in percent.

    Attributes:
        positives: (N, C) number of objects to be found, by image and class.
        image: (M,) index of the image of each detection, in the order of falling score.
        label: (M,) class of each detection, 1..C.
        hit: (M,) 1 for a true positive, 0 for a false positive, -1 for a detection that counts neither way.
        definition: (1,) name of one of `AVERAGE_PRECISIONS` or `EARLIER_DEFINITIONS`.
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

    def _per_class(self, times: Int[np.ndarray, "draws n"]) -> list[Float[np.ndarray, " draws"]]:
        positives = times @ self.positives
        definition = str(self.definition[0])
        area = AVERAGE_PRECISIONS[EARLIER_DEFINITIONS.get(definition, definition)]
        by_image = np.ascontiguousarray(times.T, dtype=np.int32)
        precisions = []
        for label in range(1, self.positives.shape[1] + 1):
            counted = (self.label == label) & (self.hit >= 0)
            hit = self.hit[counted] == 1
            true, false = _counts_at(np.flatnonzero(hit), by_image[self.image[counted]], hit)
            precisions.append(_area(area, true.T, false.T, positives[:, label - 1]))
        return precisions


def _counts_at(
    points: Int[np.ndarray, " p"], times: Integer[np.ndarray, "k draws"], positive: Bool[np.ndarray, " k"]
) -> tuple[Integer[np.ndarray, "p draws"], Integer[np.ndarray, "p draws"]]:
    """Return how many that were drawn are true and how many are false, up to each of the points.

    An area needs only the points where recall rises. They come in rising order, with a true one among those behind the
    point before and up to it.
    """
    if not len(points):
        return times[:0], times[:0]
    found = np.flatnonzero(positive)
    true = np.cumsum(times[found], axis=0)[np.searchsorted(found, points, side="right") - 1]
    starts = np.append(0, points[:-1] + 1)
    return true, np.cumsum(np.add.reduceat(times[: points[-1] + 1], starts, axis=0), axis=0) - true


def _area(
    area: Callable[[np.ndarray, np.ndarray], np.ndarray],
    true: Int[np.ndarray, "draws k"],
    false: Int[np.ndarray, "draws k"],
    positives: Int[np.ndarray, " draws"] | None = None,
) -> Float[np.ndarray, " draws"]:
    """Return the area under precision and recall, from the running counts of true and false positives.

    An image that was not drawn repeats the point before it, or the origin, which adds nothing to any area.
    ``positives`` counts all that could be found (default: all that were found); without any the area is NaN.
    """
    if positives is None:
        positives = true[:, -1] if true.shape[1] else np.zeros(len(true), dtype=np.int64)
    precision, recall = true / np.maximum(true + false, 1), true / np.maximum(positives, 1)[:, None]
    return np.where(positives > 0, area(precision, recall), np.nan)


def _mean_over_classes(
    per_class: Sequence[Float[np.ndarray, " draws"]], draws: int
) -> Float[np.ndarray, " draws"]:
    """Return, for each draw, the mean over the classes that have a number; NaN if none has."""
    return np.array(
        [mean_over_classes(np.array([each[draw] for each in per_class])) for draw in range(draws)]
    )


KINDS: Mapping[str, type[Outcomes]] = {
    kind.kind: kind for kind in (Mean, RootMean, Share, Accuracy, AveragePrecision, Iou, DetectionPrecision)
}


def save_outcomes(path: Path, outcomes: Mapping[tuple[str, str], Outcomes]) -> None:
    """Write a run's outcomes, keyed by setting and metric, to one ``.npz`` file, whole or not at all.

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
    """Read the outcomes of one setting and metric from a file of `save_outcomes`.

    Raises:
        InputError: The file is missing or does not hold them.
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
            f"cannot read the outcomes of {setting} {metric} in {path}: {type(error).__name__}: {error}"
        ) from error


@dataclass(frozen=True)
class Difference:
    """Lead of one method over another.

    Attributes:
        value: Difference between the means over the runs of each method, in the metric's unit.
        low: Lower end of the 95 % interval over test images.
        high: Upper end of the interval.
    """

    value: float
    low: float
    high: float


def resampled(outcomes: Outcomes, draws: int = 1000, seed: int = 0) -> Float[np.ndarray, " draws"]:
    """Return the metric for each draw of images; the number of images and the seed determine the draws."""
    rng = np.random.default_rng(seed)
    count = len(outcomes)
    parts = []
    for start in range(0, draws, DRAWS_AT_ONCE):
        chosen = (rng.integers(count, size=count) for _ in range(min(DRAWS_AT_ONCE, draws - start)))
        parts.append(outcomes.metrics(np.stack([np.bincount(each, minlength=count) for each in chosen])))
    return np.concatenate(parts)


def difference_of(
    value: float, first: Float[np.ndarray, " draws"], second: Float[np.ndarray, " draws"]
) -> Difference:
    """Return the difference between two methods with its 95 % interval, from the metric of each in the same draws.

    The interval covers the choice of test images alone; the deviation in the tables covers that of seeds.
    """
    return Difference(value, *interval_of(first - second))


def interval_of(draws: Float[np.ndarray, " draws"]) -> tuple[float, float]:
    """Return the ends of the 95 % interval of a number, from the number in each draw."""
    low, high = np.nanpercentile(draws, (2.5, 97.5))
    return float(low), float(high)
