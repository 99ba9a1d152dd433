"""How tables read: the text of every cell and heading, and the Markdown and terminal forms."""

import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from transfer.report_tables import (
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
)
from transfer.results import Score


@dataclass(frozen=True)
class CellText:
    """A number, and what stands small beside it."""

    main: str
    aside: str = ""

    def __str__(self) -> str:
        return f"{self.main} ({self.aside})" if self.aside else self.main


@dataclass(frozen=True)
class Line:
    """One line of a table: the scores of a row, or its gain over random."""

    label: str
    aside: str
    is_gain: bool
    cells: tuple[CellText, ...]


@dataclass(frozen=True)
class Group:
    """Columns that stand together under one heading."""

    heading: str
    benchmark: int
    columns: tuple[str, ...]


@dataclass(frozen=True)
class TableView:
    """A table, ready to be set in Markdown, HTML or the terminal."""

    groups: tuple[Group, ...]
    lines: tuple[Line, ...]


def table_view(results: Results, columns: Sequence[Column], every_row: bool = False) -> TableView:
    """Sets some columns as a table.

    Args:
        results: All cells.
        columns: The columns, those of one benchmark and metric side by side.
        every_row: Whether rows without a score in these columns are shown too.
    """
    groups = [
        Group(METRIC_NAMES.get(metric, metric), results.number(benchmark), tuple(c.setting for c in group))
        for (benchmark, metric), group in groupby(columns, key=lambda c: (c.benchmark, c.metric))
    ]
    lines = []
    for row in results.rows:
        if every_row or any((row, column) in results.cells for column in columns):
            lines += _lines(results, row, columns)
    return TableView(tuple(groups), tuple(lines))


def _lines(results: Results, row: Row, columns: Sequence[Column]) -> list[Line]:
    cells = [results.cells.get((row, column)) for column in columns]
    seeds = {seed for cell in cells if cell is not None for seed in cell.seeds}
    count = f"{len(seeds)} seed{'' if len(seeds) == 1 else 's'}"
    aside = " · ".join([row.backbone, short_hashes(results.hashes[row]), count])
    lines = [Line(row.label, aside, False, tuple(map(cell_text, cells)))]
    if row.method != RANDOM:
        gains = [results.gain(row, column) for column in columns]
        texts = tuple(CellText(MISSING if gain is None else f"{gain:+.1f}") for gain in gains)
        lines.append(Line(f"{row.label}: gain over random", "points", True, texts))
    return lines


def short_hashes(hashes: Sequence[str], shown: int = 3) -> str:
    """The first digits of the first hashes."""
    more = f" +{len(hashes) - shown}" if len(hashes) > shown else ""
    return ", ".join(sha256[:8] for sha256 in hashes[:shown]) + more


def cell_text(cell: Cell | None) -> CellText:
    """Mean ± std (n=3; seeds 0,1,2), or the mark of a missing cell."""
    if cell is None:
        return CellText(MISSING)
    spread = "" if cell.std is None else f" ± {cell.std:.1f}"
    word = "seed" if len(cell.seeds) == 1 else "seeds"
    return CellText(f"{cell.mean:.1f}{spread}", f"n={len(cell.seeds)}; {word} {','.join(cell.seeds)}")


def benchmark_title(benchmark: Benchmark) -> str:
    """Stage and data set."""
    return f"{STAGE_NAMES[benchmark.stage]} on {benchmark.data}"


def benchmark_note(results: Results, benchmark: Benchmark) -> str:
    """Protocol, split and config; and what tells the config from others that are the same up to it."""
    difference = results.config_difference(benchmark)
    split = f"{benchmark.split}, split fingerprint {benchmark.split_fingerprint[:8]}"
    config = f"config {benchmark.config_id[:8]}" + (f" ({difference})" if difference else "")
    return f"protocol {benchmark.protocol} · {split} · {config}"


def legend(results: Results) -> list[str]:
    """What the signs in the tables mean."""
    absent = [
        name for stage, name in STAGE_NAMES.items() if all(b.stage != stage for b in results.benchmarks)
    ]
    return [
        "Numbers are percent: mean over n runs ± their sample standard deviation (none for a single run).",
        f"{MISSING} means missing: no such score was found. It is neither zero nor a failure.",
        *([f"Stages without any score: {', '.join(absent)}."] if absent else []),
        "Seeds are those of the transfer runs; 1/0 means pretraining seed 1, transfer seed 0.",
        "Gain over random: difference of the means, in points, from random initialisation of the same "
        f"architecture; {MISSING} where there is no such row, or more than one.",
        "Data sets, splits, protocols and configs never share a column: [1], [2], ... say which they are.",
        "top-1 and top-5 are those of the best epoch, unless the last epoch is named.",
    ]


def markdown_table(view: TableView) -> str:
    """A Markdown table; its first column holds the methods."""
    headings = [f"{s} {g.heading} [{g.benchmark}]" for g in view.groups for s in g.columns]
    lines = [["method", *headings], [":--", *["--:"] * len(headings)]]
    for line in view.lines:
        label = line.label if line.is_gain else f"{line.label} ({line.aside})"
        lines.append([label, *map(str, line.cells)])
    return "\n".join("| " + " | ".join(map(markdown_text, line)) + " |" for line in lines)


def markdown_text(text: str) -> str:
    """Text that is not taken for HTML, a link, emphasis or the end of a cell."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    for sign in "\\`*_|":
        escaped = escaped.replace(sign, f"\\{sign}")
    return escaped


def console_table(scores: Sequence[Score], width: int = 100) -> str:
    """The tables as plain text for a terminal: one a benchmark, a line a setting, a column a method.

    Args:
        scores: Any scores; the latest of each cell and run counts.
        width: Columns of the terminal.
    """
    results = collect_results(scores)
    output = io.StringIO()
    console = Console(file=output, width=width, color_system=None, highlight=False)
    for benchmark in results.benchmarks:
        view = table_view(results, [c for c in results.columns if c.benchmark == benchmark])
        console.print(Text(f"[{results.number(benchmark)}] {benchmark_title(benchmark)}"))
        console.print(Text(f"    {benchmark_note(results, benchmark)}"))
        console.print(_transposed(view))
    for text in legend(results):
        console.print(Text(text))
    return output.getvalue()


def _transposed(view: TableView) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("")
    for line in view.lines:
        heading = "gain" if line.is_gain else f"{line.label}\n{line.aside.replace(' · ', chr(10))}"
        table.add_column(Text(heading), justify="right")
    headings = [f"{setting} {group.heading}" for group in view.groups for setting in group.columns]
    for number, heading in enumerate(headings):
        table.add_row(Text(heading), *(Text(line.cells[number].main) for line in view.lines))
    return table
