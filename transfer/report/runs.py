"""What runs left beside their scores."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from pretext.errors import InputError
from transfer.report.tables import Column, Results, Row
from transfer.scores.outcomes import OUTCOMES_NAME, Outcomes, load_outcomes
from transfer.scores.score import Score

#: File in a run's folder that says what the run is.
CONFIG_NAME = "config.json"


def run_folders(work_dirs: Sequence[Path]) -> dict[str, Path]:
    """Return the folders of all runs below some folders, by their names."""
    files = (path for folder in work_dirs for path in sorted(folder.rglob(f"runs/*/{CONFIG_NAME}")))
    return {path.parent.name: path.parent for path in files}


def scores_in(results: Results, column: Column) -> dict[Row, list[Score]]:
    """Return the scores of a column by their rows, in the order of the rows, by rising seed."""
    found: dict[Row, list[Score]] = defaultdict(list)
    for row, place, score in results.placed:
        if place == column:
            found[row].append(score)
    return {row: sorted(found[row], key=lambda score: score.seed) for row in results.rows if row in found}


def outcomes_in(results: Results, column: Column, folders: Mapping[str, Path]) -> dict[Row, list[Outcomes]]:
    """Return the outcomes of a column's runs by their rows.

    Args:
        results: All cells.
        column: A column whose metric is compared.
        folders: See `run_folders`. Runs whose outcomes are not there, or cannot be read, are left out: the differences
            warn of those.
    """
    found: dict[Row, list[Outcomes]] = {}
    for row, scores in scores_in(results, column).items():
        for score in scores:
            try:
                outcomes = load_outcomes(
                    folders[score.run or ""] / OUTCOMES_NAME, column.setting, column.metric
                )
            except (KeyError, InputError):
                continue
            found.setdefault(row, []).append(outcomes)
    return found
