"""From scores to tables: which scores share a cell, a row or a column."""

import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Any

from transfer.protocols.table import PROTOCOLS
from transfer.scores.score import RUN_KEYS, Score, config_id, latest_scores
from transfer.stage import Metric, Unit, scored_stages

MISSING = "—"
RANDOM = "random"

_MAX_COLUMNS = 10


@dataclass(frozen=True)
class Benchmark:
    """Everything that scores must have in common to share a column: one rule on one data set."""

    stage: str
    protocol: str
    data: str
    split: str
    split_fingerprint: str
    config_id: str
    processes: int

    @staticmethod
    def of(score: Score) -> "Benchmark":
        """Return the benchmark of a score."""
        shared = (score.stage, score.protocol, score.data, score.split, score.split_fingerprint)
        return Benchmark(*shared, config_id(_rule(score)), score.processes)


@dataclass(frozen=True)
class Column:
    """One setting and metric of one benchmark."""

    benchmark: Benchmark
    metric: str
    setting: str

    @property
    def measures(self) -> Metric:
        """The metric as its stage declares it."""
        return scored_stages()[self.benchmark.stage].metric(self.metric)

    @property
    def swept(self) -> float | None:
        """The value of the setting, if it belongs to a sweep; see `transfer.stage.Stage.sweep`."""
        return scored_stages()[self.benchmark.stage].swept(self.setting)


@dataclass(frozen=True)
class Row:
    """One kind of backbone: a method on an architecture, by one recipe.

    Backbones of one recipe, which differ only in their seed, share a row. If two of them have the same seed as well,
    each has its own row, with its ``sha256``.

    Attributes:
        input_space: Colours that the backbone sees.
        label: The method, followed by the input space, the name of the photos, the recipe or the hash if they are
            needed to tell rows apart, and by the settings.
        settings: How it is used, such as ``temperature=0.89``: what a stage has in `Stage.by_row`, where it does not go
            without saying.
    """

    method: str
    backbone: str
    input_space: str
    recipe: str
    sha256: str | None
    label: str
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cell:
    """Mean and sample standard deviation of the scores of one row and column, in the metric's unit.

    Attributes:
        mean: Their mean.
        std: Their standard deviation (n - 1); None for a single score.
        seeds: One label per score: its seed, or ``pretraining seed/seed`` if the two differ.
        hashes: SHA-256 of the backbones that were judged.
    """

    mean: float
    std: float | None
    seeds: tuple[str, ...]
    hashes: tuple[str, ...]

    @staticmethod
    def of(scores: Sequence[Score]) -> "Cell":
        """Return the cell of some scores."""
        scores = sorted(scores, key=lambda score: natural_key(_seed_label(score)))
        values = [score.value for score in scores]
        return Cell(
            mean=statistics.fmean(values),
            std=statistics.stdev(values) if len(values) > 1 else None,
            seeds=tuple(map(_seed_label, scores)),
            hashes=tuple(dict.fromkeys(score.backbone_sha256 for score in scores)),
        )


@dataclass(frozen=True)
class Results:
    """All cells of a report.

    Attributes:
        scores: The latest score of each cell and run.
        rows: Sorted by architecture, random first.
        columns: Sorted by benchmark, metric and setting.
        cells: All cells that have a score.
        configs: Recipe of each config id.
        placed: Each score with its row and column.
        intervals: Ends of the 95 % interval over test images, of the cells that have one.
        chosen: Whether these are some scores of more.
    """

    scores: tuple[Score, ...]
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    cells: Mapping[tuple[Row, Column], Cell]
    configs: Mapping[str, Mapping[str, Any]]
    placed: tuple[tuple[Row, Column, Score], ...]
    intervals: Mapping[tuple[Row, Column], tuple[float, float]] = field(default_factory=dict)
    chosen: bool = False

    @cached_property
    def benchmarks(self) -> tuple[Benchmark, ...]:
        """All benchmarks, in the order of the columns."""
        return tuple(dict.fromkeys(column.benchmark for column in self.columns))

    def gain(self, row: Row, column: Column) -> float | None:
        """Return the difference from the one random row of the same architecture and input space; None without it.

        For an error a gain below zero is the better one.
        """
        cell = self.cells.get((row, column))
        same = (RANDOM, row.backbone, row.input_space)
        baselines = [r for r in self.rows if (r.method, r.backbone, r.input_space) == same]
        baseline_cells = [self.cells[r, column] for r in baselines if (r, column) in self.cells]
        if cell is None or len(baseline_cells) != 1:
            return None
        return cell.mean - baseline_cells[0].mean

    def number(self, benchmark: Benchmark) -> int:
        """Return the number that a benchmark is cited by, from 1."""
        return self.benchmarks.index(benchmark) + 1

    def summary_columns(self) -> list[Column]:
        """Return each benchmark's columns of its headline metrics, or of its first metric if it has none of those.

        Settings of a sweep are left out.
        """
        chosen = []
        for benchmark, group in groupby(self.columns, key=lambda column: column.benchmark):
            every = list(group)
            columns = [column for column in every if column.swept is None] or every
            names = headline_metrics(benchmark.stage, self.configs[benchmark.config_id])
            headlines = [c for c in columns if c.metric in names]
            chosen += headlines or [c for c in columns if c.metric == columns[0].metric]
        return chosen

    def detail_columns(self, benchmark: Benchmark) -> list[list[Column]]:
        """Return a benchmark's columns, metric by metric, in tables of at most ten columns where possible."""
        tables: list[list[Column]] = [[]]
        own = [column for column in self.columns if column.benchmark == benchmark]
        for _, group in groupby(own, key=lambda column: column.metric):
            columns = list(group)
            if tables[-1] and len(tables[-1]) + len(columns) > _MAX_COLUMNS:
                tables.append([])
            tables[-1] += columns
        return tables

    def config_difference(self, benchmark: Benchmark) -> str:
        """Return the settings by which a benchmark differs from others that share everything but the config."""
        twins = [b for b in self.benchmarks if _without_config(b) == _without_config(benchmark)]
        flat = [dict(_flatten(self.configs[b.config_id])) for b in twins]
        keys = sorted({key for config in flat for key in config})
        own = dict(_flatten(self.configs[benchmark.config_id]))
        odd = [k for k in keys if any(config.get(k, MISSING) != own.get(k, MISSING) for config in flat)]
        return ", ".join(f"{key}={own.get(key, MISSING)}" for key in odd)


def headline_metrics(stage: str, config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the main metrics of a run with this config; see `Stage.headlines`."""
    protocol = PROTOCOLS.get(str(config.get("protocol")))
    reported = protocol.metric if protocol is not None and protocol.stage == stage else None
    return scored_stages()[stage].headlines(config, reported)


def _rule(score: Score) -> dict[str, Any]:
    """Return the config of a score but for what makes another row."""
    by_row = dict(scored_stages()[score.stage].by_row)
    return {key: value for key, value in score.config.items() if key not in by_row}


def _settings(score: Score) -> tuple[str, ...]:
    by_row = scored_stages()[score.stage].by_row
    found = [(key, score.config.get(key, usual), usual) for key, usual in by_row]
    return tuple(f"{key}={value}" for key, value, usual in found if value != usual)


def units_of(columns: Iterable[Column]) -> tuple[Unit, ...]:
    """Return the units that occur in some columns, each once."""
    return tuple(dict.fromkeys(column.measures.unit for column in columns))


def _seed_label(score: Score) -> str:
    own = str(score.seed)
    return own if score.backbone_seed in (None, score.seed) else f"{score.backbone_seed}/{own}"


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts conv2 before conv10."""
    parts = re.split(r"(\d+)", text)
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]


def _rank(name: str, order: Iterable[str]) -> tuple[int, list[tuple[int, int, str]]]:
    known = list(order)
    return (known.index(name) if name in known else len(known)), natural_key(name)


def _column_key(column: Column) -> tuple[object, ...]:
    benchmark, stage = column.benchmark, scored_stages()[column.benchmark.stage]
    return (
        *(list(scored_stages()).index(stage.name), benchmark.data, benchmark.protocol, benchmark.split),
        *(benchmark.split_fingerprint, benchmark.config_id, benchmark.processes),
        *(stage.metrics.index(column.measures), column.swept is not None, column.swept or 0.0),
        _rank(column.setting, stage.columns),
    )


def _row_finder(scores: Sequence[Score]) -> Callable[[Score], Row]:
    """Return a function that gives the row of a score; see `Row` for which backbones share one."""
    # A backbone and the colorizer that was trained with it are of one recipe, and have different hashes.
    hashes: dict[tuple[str, int | None, str], set[str]] = defaultdict(set)
    recipes: dict[tuple[str, str], dict[str, tuple[str, str | None]]] = defaultdict(dict)
    for score in scores:
        hashes[score.recipe, score.backbone_seed, scored_stages()[score.stage].judges].add(
            score.backbone_sha256
        )
        recipes[score.method, score.backbone].setdefault(
            score.recipe, (score.input_space, score.pretrained_on)
        )
    split = {recipe for (recipe, _, _), found in hashes.items() if len(found) > 1}

    def row_of(score: Score) -> Row:
        sha256 = score.backbone_sha256 if score.recipe in split else None
        words = [score.method, *_recipe_words(score.recipe, recipes[score.method, score.backbone])]
        settings = _settings(score)
        label = " ".join([*words, *([sha256[:8]] if sha256 else []), *settings])
        return Row(score.method, score.backbone, score.input_space, score.recipe, sha256, label, settings)

    return row_of


def _recipe_words(recipe: str, recipes: Mapping[str, tuple[str, str | None]]) -> list[str]:
    """Return the words that tell a recipe from others of its method: input space, photos, else a hash."""
    if len(recipes) == 1:
        return []
    told = recipes[recipe]
    several = [len(set(values)) > 1 for values in zip(*recipes.values(), strict=True)]
    words = [word for word, differs in zip(told, several, strict=True) if word and differs]
    unique = words and list(recipes.values()).count(told) == 1
    return [*words, *([] if unique else [f"recipe {recipe[:8]}"])]


def collect_results(scores: Iterable[Score]) -> Results:
    """Sort scores into cells; if two scores belong to the same cell and run, the later one counts."""
    kept = latest_scores(scores)
    row_of = _row_finder(kept)
    grouped: dict[tuple[Row, Column], list[Score]] = defaultdict(list)
    configs: dict[str, Mapping[str, Any]] = {}
    for score in kept:
        row, benchmark = row_of(score), Benchmark.of(score)
        grouped[row, Column(benchmark, score.metric, score.setting)].append(score)
        configs[benchmark.config_id] = {k: v for k, v in _rule(score).items() if k not in RUN_KEYS}
    rows = sorted(
        {row for row, _ in grouped},
        key=lambda r: (
            r.backbone,
            r.method != RANDOM,
            r.method,
            r.label,
            r.recipe,
            r.sha256 or "",
            r.settings,
        ),
    )
    return Results(
        scores=tuple(kept),
        rows=tuple(rows),
        columns=tuple(sorted({column for _, column in grouped}, key=_column_key)),
        cells={key: Cell.of(group) for key, group in grouped.items()},
        configs=configs,
        placed=tuple((*key, score) for key, group in grouped.items() for score in group),
    )


def _without_config(benchmark: Benchmark) -> tuple[str, ...]:
    return (benchmark.stage, benchmark.protocol, benchmark.data, benchmark.split, benchmark.split_fingerprint)


def _flatten(config: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
