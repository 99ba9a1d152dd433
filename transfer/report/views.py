"""Tables as text: every cell and heading, and the forms for Markdown and the terminal."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from transfer.report.tables import (
    METRIC_NAMES,
    MISSING,
    RANDOM,
    STAGE_NAMES,
    Benchmark,
    Cell,
    Column,
    Results,
    Row,
    collect_results,
    natural_key,
)
from transfer.scores.score import Score

#: Columns of scores in a table in the terminal.
_CONSOLE_COLUMNS = 5


@dataclass(frozen=True)
class CellText:
    """A number with a small note beside it; ``n`` is the number of scores behind it."""

    main: str
    aside: str = ""
    n: int = 0

    def __str__(self) -> str:
        return f"{self.main} ({self.aside})" if self.aside else self.main


@dataclass(frozen=True)
class Line:
    """One line of a table: the scores of a row, or its gain over random."""

    label: str
    backbone: str
    seeds: tuple[str, ...]
    hashes: str
    is_gain: bool
    cells: tuple[CellText, ...]


@dataclass(frozen=True)
class Group:
    """Columns under one heading: the settings of one metric of one benchmark."""

    metric: str
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
            METRIC_NAMES.get(metric, metric),
            results.number(benchmark),
            benchmark,
            tuple(c.setting for c in group),
        )
        for (benchmark, metric), group in groupby(columns, key=lambda c: (c.benchmark, c.metric))
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
    lines = [Line(row.label, row.backbone, seeds, hashes, False, tuple(map(cell_text, cells)))]
    if row.method != RANDOM:
        gains = [results.gain(row, column) for column in columns]
        texts = tuple(CellText(MISSING if gain is None else f"{gain:+.1f}") for gain in gains)
        lines.append(Line(row.label, row.backbone, seeds, hashes, True, texts))
    return lines


def _short_hashes(hashes: Sequence[str]) -> str:
    more = f" and {len(hashes) - 3} more" if len(hashes) > 3 else ""
    return ", ".join(sha256[:8] for sha256 in hashes[:3]) + more


def cell_text(cell: Cell | None) -> CellText:
    """Return mean ± std (n=3; seeds 0,1,2), or the mark of a missing cell."""
    if cell is None:
        return CellText(MISSING)
    spread = "" if cell.std is None else f" ± {cell.std:.1f}"
    aside = f"n={len(cell.seeds)}; {_seeds_text(cell.seeds)}"
    return CellText(f"{cell.mean:.1f}{spread}", aside, len(cell.seeds))


def _seeds_text(seeds: Sequence[str]) -> str:
    return f"seed{'' if len(seeds) == 1 else 's'} {','.join(seeds)}"


def benchmark_title(benchmark: Benchmark) -> str:
    """Return the stage and the data set."""
    return f"{STAGE_NAMES[benchmark.stage]} on {benchmark.data}"


def benchmark_note(results: Results, benchmark: Benchmark) -> str:
    """Return protocol, split and config, and how the config differs from those of similar benchmarks."""
    difference = results.config_difference(benchmark)
    split = f"{benchmark.split}, split fingerprint {benchmark.split_fingerprint[:8]}"
    config = f"config {benchmark.config_id[:8]}" + (f" ({difference})" if difference else "")
    shared = f" · {benchmark.processes} processes" if benchmark.processes > 1 else ""
    return f"protocol {benchmark.protocol} · {split} · {config}{shared}"


def legend(results: Results) -> list[str]:
    """Return an explanation of the numbers and signs in the tables."""
    absent = [
        name for stage, name in STAGE_NAMES.items() if all(b.stage != stage for b in results.benchmarks)
    ]
    return [
        "Numbers are percentages: mean over n runs ± sample standard deviation (none for a single run).",
        f"{MISSING} means missing: there is no such score. It is neither zero nor a failure.",
        *([f"Stages without any score: {', '.join(absent)}."] if absent else []),
        "Seeds are those of the transfer runs; 1/0 means pretraining seed 1, transfer seed 0.",
        "mAP VOC07 is interpolated at 11 points, mAP VOC10 is the area under the interpolated curve, and mAP sklearn "
        "the area under the raw curve. COCO AP is the mean over IoU thresholds from 0.50 to 0.95.",
        "Gain over random: difference between the means of the method and of random initialisation with the same "
        f"architecture and input colours, in points; {MISSING} if there is no such row, or more than one.",
        "Scores with different data, splits, protocols, configs or numbers of processes never share a column: [1], "
        "[2], ... tell them apart. Backbones share a row only if they differ in nothing but their seed.",
    ]


def markdown_table(view: TableView) -> str:
    """Return a Markdown table whose first column holds the methods."""
    headings = [
        f"{setting} {group.metric} [{group.number}]" for group in view.groups for setting in group.settings
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


def console_table(scores: Sequence[Score], width: int = 100) -> str:
    """Return the main metrics as plain text: a table per benchmark with a row per method and a column per setting.

    Args:
        scores: Any scores; the latest of each cell and run counts.
        width: Width of the terminal in characters.
    """
    results = collect_results(scores)
    output = io.StringIO()
    console = Console(file=output, width=width, color_system=None, highlight=False)
    for benchmark in results.benchmarks:
        console.print(Text(f"[{results.number(benchmark)}] {benchmark_title(benchmark)}"))
        console.print(Text(f"    {benchmark_note(results, benchmark)}"))
        columns = [column for column in results.summary_columns() if column.benchmark == benchmark]
        for first in range(0, len(columns), _CONSOLE_COLUMNS):
            console.print(_console_rows(results, columns[first : first + _CONSOLE_COLUMNS]))
    for text in [*legend(results), "The report's files hold all metrics."]:
        console.print(Text(text))
    return output.getvalue()


def _console_rows(results: Results, columns: Sequence[Column]) -> Table:
    """Return a table with two lines per method: its scores; its backbone, seeds and gains over random."""
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(
            Text(f"{column.setting}\n{METRIC_NAMES.get(column.metric, column.metric)}"), justify="right"
        )
    for row in results.rows:
        cells = [results.cells.get((row, column)) for column in columns]
        seeds = sorted({seed for cell in cells if cell for seed in cell.seeds}, key=natural_key)
        if seeds:
            gains = [None if row.method == RANDOM else results.gain(row, column) for column in columns]
            texts = [_console_cell(cell, gain, len(seeds)) for cell, gain in zip(cells, gains, strict=True)]
            table.add_row(Text(f"{row.label}\n  {row.backbone}, {_seeds_text(seeds)}"), *texts)
    return table


def _console_cell(cell: Cell | None, gain: float | None, runs: int) -> Text:
    text = cell_text(cell)
    fewer = f" (n={text.n})" if 0 < text.n < runs else ""
    return Text(text.main + fewer + ("" if gain is None else f"\ngain {gain:+.1f}"))
