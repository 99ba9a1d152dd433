"""Intervals of all methods, and differences between all pairs of them, by paired bootstraps over the test images."""

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, groupby
from pathlib import Path

import numpy as np

from pretext.errors import InputError
from transfer.report.tables import MISSING, Benchmark, Column, Results, Row
from transfer.scores.outcomes import (
    OUTCOMES_NAME,
    Difference,
    difference_of,
    interval_of,
    load_outcomes,
    resampled,
)
from transfer.scores.score import Score


@dataclass(frozen=True)
class Pair:
    """Two rows in one column."""

    column: Column
    first: Row
    second: Row
    difference: Difference

    def text(self) -> str:
        """Return the difference and its interval, with a mark if zero is outside."""
        found = self.difference
        numbers = map(self.column.measures.unit.difference_text, (found.value, found.low, found.high))
        mark = " *" if found.low > 0 or found.high < 0 else ""
        return "{} [{}, {}]".format(*numbers) + mark


@dataclass(frozen=True)
class DifferenceTable:
    """Differences in one metric of one benchmark, with a line per pair of methods and a column per setting."""

    benchmark: Benchmark
    headings: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Drawn:
    """Metric of one row in one column, over all images and over each draw of them; means over its runs."""

    images: int
    value: float
    draws: np.ndarray


def drawn_cells(
    results: Results, work_dirs: Sequence[Path], columns: Sequence[Column] | None = None
) -> dict[tuple[Row, Column], Drawn]:
    """Draw test images for each cell whose runs kept their outcomes, all on the same number of images.

    Args:
        results: All cells.
        work_dirs: Folders below which the runs left their outcomes. A run without outcomes is left out, and one whose
            outcomes cannot be read, with a warning.
        columns: Only cells of these; None for all.
    """
    paths = {
        path.parent.name: path
        for work_dir in work_dirs
        for path in sorted(work_dir.rglob(f"runs/*/{OUTCOMES_NAME}"))
    }
    scores: dict[tuple[Row, Column], list[Score]] = defaultdict(list)
    for row, column, score in results.placed:
        if column.measures.compared and (columns is None or column in columns):
            scores[row, column].append(score)
    drawn = {key: _draw(group, paths) for key, group in scores.items()}
    return {key: one for key, one in drawn.items() if one is not None}


def intervals(drawn: Mapping[tuple[Row, Column], Drawn]) -> dict[tuple[Row, Column], tuple[float, float]]:
    """Return the 95 % interval of each cell, over the choice of test images."""
    return {key: interval_of(one.draws) for key, one in drawn.items()}


def pairs(results: Results, drawn: Mapping[tuple[Row, Column], Drawn]) -> list[Pair]:
    """Compare all rows of a column that were scored on the same number of images, pair by pair.

    Args:
        results: All cells.
        drawn: As `drawn_cells` gives them.
    """
    found = []
    for column in (column for column in results.columns if column.swept is None):
        rows = [(row, drawn.get((row, column))) for row in reversed(results.rows)]
        there = [(row, one) for row, one in rows if one is not None]
        for (first, one), (second, other) in combinations(there, 2):
            if one.images == other.images:
                difference = difference_of(one.value - other.value, one.draws, other.draws)
                found.append(Pair(column, first, second, difference))
    return found


def difference_tables(compared: Sequence[Pair]) -> list[DifferenceTable]:
    """Set differences, in the order of `pairs`, as tables."""
    tables = []
    by_metric = groupby(compared, key=lambda pair: (pair.column.benchmark, pair.column.measures))
    for (benchmark, metric), group in by_metric:
        texts: dict[tuple[Row, Row], dict[str, str]] = defaultdict(dict)
        for pair in group:
            texts[pair.first, pair.second][pair.column.setting] = pair.text()
        settings = list(dict.fromkeys(setting for found in texts.values() for setting in found))
        tables.append(
            DifferenceTable(
                benchmark,
                ("methods", *(f"{setting} {metric.heading}" for setting in settings)),
                tuple(
                    (_methods(*rows), *(found.get(setting, MISSING) for setting in settings))
                    for rows, found in texts.items()
                ),
            )
        )
    return tables


def _methods(first: Row, second: Row) -> str:
    if first.backbone == second.backbone:
        return f"{first.label} - {second.label} ({first.backbone})"
    return f"{first.label} ({first.backbone}) - {second.label} ({second.backbone})"


def _draw(scores: Sequence[Score], paths: dict[str, Path]) -> Drawn | None:
    runs = []
    for score in scores:
        if score.run is not None and score.run in paths:
            path = paths[score.run]
            try:
                runs.append(_draw_run(path, path.stat().st_mtime_ns, score.setting, score.metric))
            except InputError as error:
                warnings.warn(f"left out of the comparison: {error}", stacklevel=2)
    sizes = {run.images for run in runs}
    if len(sizes) != 1:
        return None
    return Drawn(
        sizes.pop(),
        float(np.mean([run.value for run in runs])),
        np.mean([run.draws for run in runs], axis=0),
    )


@cache
def _draw_run(path: Path, changed: int, setting: str, metric: str) -> Drawn:
    """Draw test images for one run, once for all tables; ``changed`` tells a file that was written anew."""
    outcomes = load_outcomes(path, setting, metric)
    return Drawn(len(outcomes), outcomes.metric(), resampled(outcomes))
