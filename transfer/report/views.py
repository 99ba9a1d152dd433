"""Tables as text: every cell and heading, and the forms for Markdown and the terminal."""

import io
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from transfer.report.differences import drawn_cells, intervals
from transfer.report.tables import (
    MISSING,
    RANDOM,
    Benchmark,
    Cell,
    Column,
    Results,
    Row,
    collect_results,
    natural_key,
    units_of,
)
from transfer.scores.score import Score
from transfer.stage import PERCENT, STAGES, Unit, scored_stages

_INTERVALS = (
    "Intervals of 95 % are of a bootstrap over the test images (1,000 draws): they cover the choice of test images, not"
    " of seeds."
)
#: Most columns of scores in a table in the terminal.
_CONSOLE_COLUMNS = 5
#: Most characters of a row's label in a line there.
_CONSOLE_LABEL = 30


@dataclass(frozen=True)
class CellText:
    """A number with a small note beside it.

    Attributes:
        main: The number.
        aside: The note.
        n: Number of scores behind it.
        is_better: Of a gain: whether the method is better than random; None if there is no gain.
    """

    main: str
    aside: str = ""
    n: int = 0
    is_better: bool | None = None

    def __str__(self) -> str:
        return f"{self.main} ({self.aside})" if self.aside else self.main


@dataclass(frozen=True)
class Line:
    """One line of a table: the scores of a row, or its gain over random, counted in what ``gain_in`` says."""

    label: str
    backbone: str
    seeds: tuple[str, ...]
    hashes: str
    cells: tuple[CellText, ...]
    gain_in: str = ""

    @property
    def is_gain(self) -> bool:
        """Whether it is the gain over random."""
        return bool(self.gain_in)


@dataclass(frozen=True)
class Group:
    """Columns under one heading: the settings of one metric of one benchmark."""

    heading: str
    stage: str
    number: int
    benchmark: Benchmark
    settings: tuple[str, ...]


@dataclass(frozen=True)
class TableView:
    """A table, ready for Markdown or HTML."""

    groups: tuple[Group, ...]
    lines: tuple[Line, ...]


def table_view(results: Results, columns: Sequence[Column], every_row: bool = False) -> TableView:
    """Set some columns as a table.

    Args:
        results: All cells.
        columns: Columns of the table; those of one benchmark and metric are adjacent.
        every_row: Whether to show rows without a score in these columns too.
    """
    groups = [
        Group(
            metric.heading,
            scored_stages()[benchmark.stage].title,
            results.number(benchmark),
            benchmark,
            tuple(c.setting for c in group),
        )
        for (benchmark, metric), group in groupby(columns, key=lambda c: (c.benchmark, c.measures))
    ]
    lines = []
    for row in results.rows:
        if every_row or any((row, column) in results.cells for column in columns):
            lines += _lines(results, row, columns)
    return TableView(tuple(groups), tuple(lines))


def _lines(results: Results, row: Row, columns: Sequence[Column]) -> list[Line]:
    cells = [results.cells.get((row, column)) for column in columns]
    found = [cell for cell in cells if cell is not None]
    seeds = tuple(sorted({seed for cell in found for seed in cell.seeds}, key=natural_key))
    hashes = _short_hashes(list(dict.fromkeys(sha256 for cell in found for sha256 in cell.hashes)))
    texts = [
        cell_text(cell, column, results.intervals.get((row, column)))
        for cell, column in zip(cells, columns, strict=True)
    ]
    lines = [Line(row.label, row.backbone, seeds, hashes, tuple(texts))]
    # Without a random row there is nothing to gain over; colours never have one.
    has_random = any(each.method == RANDOM for each in results.rows)
    if row.method != RANDOM and has_random and any(_judges_backbones(column) for column in columns):
        gains = [gain_text(results.gain(row, column), column) for column in columns]
        lines.append(Line(row.label, row.backbone, seeds, hashes, tuple(gains), differences_in(columns)))
    return lines


def _judges_backbones(column: Column) -> bool:
    return scored_stages()[column.benchmark.stage].judges == "backbone"


def _short_hashes(hashes: Sequence[str]) -> str:
    more = f" and {len(hashes) - 3} more" if len(hashes) > 3 else ""
    return ", ".join(sha256[:8] for sha256 in hashes[:3]) + more


def cell_text(cell: Cell | None, column: Column, interval: tuple[float, float] | None = None) -> CellText:
    """Return mean ± std (n=3; seeds 0,1,2; 95 % 40.1 to 42.3), or the mark of a missing cell."""
    if cell is None:
        return CellText(MISSING)
    unit = column.measures.unit
    aside = f"n={len(cell.seeds)}; {_seeds_text(cell.seeds)}"
    aside += "" if interval is None else f"; 95 % {interval_text(interval, column)}"
    return CellText(unit.text(cell.mean, cell.std), aside, len(cell.seeds))


def interval_text(interval: tuple[float, float], column: Column) -> str:
    """Return the ends of an interval: ``40.1 to 42.3``."""
    return " to ".join(map(column.measures.unit.text, interval))


def gain_text(gain: float | None, column: Column) -> CellText:
    """Return a gain with its sign, or the mark of a missing one."""
    if gain is None:
        return CellText(MISSING)
    text = column.measures.unit.difference_text(gain)
    return CellText(text, is_better=(text[0] == "+") == column.measures.higher_is_better)


def differences_in(columns: Sequence[Column]) -> str:
    """Return what differences in some columns are counted in: ``points``, ``points, dB or shares``."""
    return _either([unit.differences for unit in units_of(columns)])


def _either(words: Sequence[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def _seeds_text(seeds: Sequence[str]) -> str:
    return f"seed{'' if len(seeds) == 1 else 's'} {','.join(seeds)}"


def benchmark_title(benchmark: Benchmark) -> str:
    """Return the stage and the data set."""
    return f"{scored_stages()[benchmark.stage].title} on {benchmark.data}"


def benchmark_note(results: Results, benchmark: Benchmark) -> str:
    """Return protocol, split and config, and how the config differs from those of similar benchmarks."""
    difference = results.config_difference(benchmark)
    split = f"{benchmark.split}, split fingerprint {benchmark.split_fingerprint[:8]}"
    config = f"config {benchmark.config_id[:8]}" + (f" ({difference})" if difference else "")
    shared = f" · {benchmark.processes} processes" if benchmark.processes > 1 else ""
    return f"protocol {benchmark.protocol} · {split} · {config}{shared}"


def in_units(columns: Sequence[Column]) -> str:
    """Return in what the numbers of some columns are: ``in percent``, if need be with the exceptions."""
    units = units_of(columns)
    if units == (PERCENT,):
        return "in percent"
    return "in percent unless the heading names a unit" if PERCENT in units else "in the unit of the heading"


def legend(results: Results) -> list[str]:
    """Return an explanation of the numbers and signs in the tables."""
    there = {benchmark.stage for benchmark in results.benchmarks}
    absent = [stage.title for stage in STAGES.values() if stage.name not in there]
    metrics = list(dict.fromkeys(column.measures for column in results.columns))
    notes = dict.fromkeys(metric.note for metric in metrics if metric.note)
    told = {setting.partition("=")[0] for row in results.rows for setting in row.settings}
    judging = [stage for name, stage in scored_stages().items() if name in there]
    notes |= {note: None for stage in judging for key, note in stage.row_notes if key in told}
    arrow = any(not metric.higher_is_better for metric in metrics)
    return [
        f"{_numbers_are(units_of(results.columns))}: mean over n runs ± sample standard deviation (none for a single"
        " run).",
        *(["↓ marks errors: lower is better, and a gain below zero is an improvement."] if arrow else []),
        f"{MISSING} means missing: there is no such score. It is neither zero nor a failure.",
        *([f"Stages without any score: {', '.join(absent)}."] if absent and not results.chosen else []),
        "Seeds are those of the transfer runs; 1/0 means pretraining seed 1, transfer seed 0.",
        *([_INTERVALS] if results.intervals else []),
        *([" ".join(notes)] if notes else []),
        "Gain over random: difference between the means of the method and of random initialisation with the same "
        f"architecture and input colours, in {differences_in(results.columns)}; {MISSING} if there is no such row, or"
        " more than one.",
        "Scores with different data, splits, protocols, configs or numbers of processes never share a column: [1], "
        "[2], ... tell them apart. Backbones share a row only if they differ in nothing but their seed.",
    ]


def _numbers_are(units: Sequence[Unit]) -> str:
    if units == (PERCENT,):
        return "Numbers are percentages"
    others = _either([unit.numbers for unit in units if unit != PERCENT])
    if PERCENT in units:
        return f"Numbers are percentages, or {others} where the heading says so"
    return f"Numbers are {others}, as the heading says"


def markdown_table(view: TableView) -> str:
    """Return a Markdown table whose first column holds the methods."""
    headings = [
        f"{setting} {group.heading} [{group.number}]" for group in view.groups for setting in group.settings
    ]
    lines: list[Sequence[str]] = [["method", *headings]]
    for line in view.lines:
        about = f"{line.label} ({line.backbone} {line.hashes})"
        label = f"{line.label}: gain over random" if line.is_gain else about
        lines.append([label, *map(str, line.cells)])
    return markdown_lines(lines)


def markdown_lines(lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the first line is the heading, and only the first column is left-aligned."""
    rule = "| :-- |" + " --: |" * (len(lines[0]) - 1)
    heading, *rest = ("| " + " | ".join(map(markdown_text, line)) + " |" for line in lines)
    return "\n".join([heading, rule, *rest])


def markdown_text(text: str) -> str:
    """Escape text that Markdown would take for HTML, emphasis, code or the end of a cell."""
    escaped = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    for sign in "\\`*_|":
        escaped = escaped.replace(sign, f"\\{sign}")
    return escaped


def console_table(
    scores: Sequence[Score], width: int = 100, work_dirs: Sequence[Path] = (), chosen: bool = False
) -> str:
    """Return the main metrics as plain text: a table per benchmark with a row per method and a column per setting.

    Args:
        scores: Any scores; the latest of each cell and run counts.
        width: Width of the terminal in characters.
        work_dirs: Folders below which the runs left their outcomes, for intervals.
        chosen: Whether these are some scores of more; then no stage is said to have none.
    """
    results = replace(collect_results(scores), chosen=chosen)
    drawn = drawn_cells(results, work_dirs, results.summary_columns())
    results = replace(results, intervals=intervals(drawn))
    output = io.StringIO()
    console = Console(file=output, width=width, color_system=None, highlight=False)
    for benchmark in results.benchmarks:
        console.print(Text(f"[{results.number(benchmark)}] {benchmark_title(benchmark)}"))
        console.print(Text(f"    {benchmark_note(results, benchmark)}"))
        columns = [column for column in results.summary_columns() if column.benchmark == benchmark]
        for table in _console_tables(results, columns, console):
            console.print(table)
    for text in [*legend(results), "The report's files hold all metrics."]:
        console.print(Text(text))
    return output.getvalue()


def _console_tables(results: Results, columns: Sequence[Column], console: Console) -> Iterator[Table]:
    """Yield tables that fit the terminal, of as many columns as do."""
    while columns:
        count = min(_CONSOLE_COLUMNS, len(columns))
        while count > 1 and not _fits(_console_rows(results, columns[:count]), console):
            count -= 1
        yield _console_rows(results, columns[:count])
        columns = columns[count:]


def _fits(table: Table, console: Console) -> bool:
    # What rich measures is no wider than the console that it measures for.
    wide = console.options.update(width=10 * console.width)
    return console.measure(table, options=wide).minimum <= console.width


def _console_rows(results: Results, columns: Sequence[Column]) -> Table:
    """Return a table with two lines per method: its scores; its backbone, seeds and gains over random."""
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(Text(f"{column.setting}\n{column.measures.heading}"), justify="right")
    for row in results.rows:
        cells = [results.cells.get((row, column)) for column in columns]
        seeds = sorted({seed for cell in cells if cell for seed in cell.seeds}, key=natural_key)
        if seeds:
            texts = [_console_cell(results, row, column, len(seeds)) for column in columns]
            label = textwrap.fill(row.label, _CONSOLE_LABEL)
            table.add_row(Text(f"{label}\n  {row.backbone}, {_seeds_text(seeds)}"), *texts)
    return table


def _console_cell(results: Results, row: Row, column: Column, runs: int) -> Text:
    text = cell_text(results.cells.get((row, column)), column)
    fewer = f" (n={text.n})" if 0 < text.n < runs else ""
    gain = None if row.method == RANDOM else results.gain(row, column)
    lines = [text.main + fewer, *([] if gain is None else [f"gain {gain_text(gain, column)}"])]
    interval = results.intervals.get((row, column))
    lines += [] if interval is None else [interval_text(interval, column)]
    return Text("\n".join(lines))
