"""The report of a work folder: one Markdown file, one CSV file and one HTML page that stands alone."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from pretext.errors import InputError
from pretext.files import write_whole
from transfer.report_plots import Picture, color_grids, layer_plots
from transfer.report_tables import Benchmark, Results, collect_results, natural_key
from transfer.report_views import (
    benchmark_note,
    benchmark_title,
    legend,
    markdown_table,
    markdown_text,
    table_view,
)
from transfer.results import RESULTS_NAME, Score, collect_scores

CSV_FIELDS = (
    *("method", "backbone", "backbone_sha256", "stage", "data", "protocol", "split", "split_fingerprint"),
    *("config_id", "metric", "setting", "unit", "mean", "std", "n", "seeds"),
)


PROVENANCE_HEADINGS = (
    *(
        "benchmark",
        "method",
        "backbone",
        "pretraining seed",
        "seed",
        "scores",
        "seconds",
        "config",
        "versions",
    ),
    "written (UTC)",
)


@dataclass(frozen=True)
class ReportPaths:
    """The files of a report."""

    markdown: Path
    csv: Path
    html: Path


def build_report(work_dir: Path, out_dir: Path) -> ReportPaths:
    """Makes ``report.md``, ``report.csv`` and ``report.html`` from every ``results.jsonl`` below a folder.

    The same scores and colour grids give the same bytes.

    Args:
        work_dir: Where runs left their scores and colour grids.
        out_dir: Where the three files go, each written whole or not at all.

    Raises:
        InputError: There is no score, a score cannot be read, or a file cannot be written.
    """
    scores = collect_scores(work_dir)
    if not scores:
        raise InputError(
            f"no scores to report: found no line in any {RESULTS_NAME} below {work_dir.resolve()}; "
            "make some with tools/linear_probe.sh, tools/voc_classification.sh, tools/voc_detection.sh or "
            "tools/voc_segmentation.sh, or name their folder with --work-dir"
        )
    results = collect_results(scores)
    grids = color_grids(work_dir)
    paths = ReportPaths(*(out_dir / f"report.{ending}" for ending in ("md", "csv", "html")))
    contents = markdown_report(results), csv_report(results), html_report(results, grids)
    for path, content in zip((paths.markdown, paths.csv, paths.html), contents, strict=True):
        write_whole(path, content)
    return paths


def csv_report(results: Results) -> str:
    """One line a cell, in full precision; a missing cell has n = 0 and no mean."""
    output = io.StringIO()
    writer = csv.DictWriter(output, CSV_FIELDS, lineterminator="\n")
    writer.writeheader()
    for column in results.columns:
        for row in results.rows:
            cell = results.cells.get((row, column))
            identity = (
                vars(row) | vars(column.benchmark) | {"metric": column.metric, "setting": column.setting}
            )
            identity = {key: value for key, value in identity.items() if key in CSV_FIELDS}
            numbers = {"n": 0} if cell is None else {"mean": cell.mean, "std": cell.std, "n": len(cell.seeds)}
            seeds = "" if cell is None else " ".join(cell.seeds)
            hashes = " ".join(results.hashes[row])
            writer.writerow(
                identity | numbers | {"unit": "percent", "seeds": seeds, "backbone_sha256": hashes}
            )
    return output.getvalue()


def markdown_report(results: Results) -> str:
    """The tables, their legend and the provenance."""
    parts = ["# Transfer report", *_markdown_section("Summary", results, None)]
    parts.append("\n".join(f"- {markdown_text(text)}" for text in legend(results)))
    for benchmark in results.benchmarks:
        title = f"[{results.number(benchmark)}] {benchmark_title(benchmark)}"
        parts += _markdown_section(title, results, benchmark)
    lines = [PROVENANCE_HEADINGS, ["--"] * len(PROVENANCE_HEADINGS), *provenance(results)]
    parts += [
        "## Provenance",
        "\n".join("| " + " | ".join(map(markdown_text, line)) + " |" for line in lines),
    ]
    parts += [
        f"- versions {key}: {markdown_text(_joined(value))}" for key, value in version_sets(results).items()
    ]
    for key, text in config_texts(results).items():
        parts += [f"Config {key}:", "\n".join(f"    {line}" for line in text.splitlines())]
    return "\n\n".join(parts) + "\n"


def _markdown_section(title: str, results: Results, benchmark: Benchmark | None) -> list[str]:
    if benchmark is None:
        tables = [table_view(results, results.summary_columns(), every_row=True)]
        return [f"## {title}", *map(markdown_table, tables)]
    tables = [table_view(results, columns) for columns in results.detail_columns(benchmark)]
    note = markdown_text(benchmark_note(results, benchmark))
    return [f"## {markdown_text(title)}", note, *map(markdown_table, tables)]


def html_report(results: Results, grids: Sequence[Picture]) -> str:
    """The page, with everything it shows inside it."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("transfer", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sections = [
        {
            "number": results.number(benchmark),
            "title": benchmark_title(benchmark),
            "note": benchmark_note(results, benchmark),
            "tables": [table_view(results, columns) for columns in results.detail_columns(benchmark)],
        }
        for benchmark in results.benchmarks
    ]
    return environment.get_template("report.html.jinja").render(
        summary=table_view(results, results.summary_columns(), every_row=True),
        sections=sections,
        legend=legend(results),
        # matplotlib escapes the text it sets; everything else is escaped by Jinja.
        plots=[(plot, Markup(plot.content)) for plot in layer_plots(results)],
        grids=grids,
        headings=PROVENANCE_HEADINGS,
        provenance=provenance(results),
        versions={key: _joined(value) for key, value in version_sets(results).items()},
        configs=config_texts(results),
        count=len(results.scores),
        newest=max(score.time for score in results.scores),
    )


def version_sets(results: Results) -> dict[str, Mapping[str, Any]]:
    """The different sets of versions the scores were made with, called V1, V2, ..."""
    sets = {_canonical(score.versions): score.versions for score in results.scores}
    return {f"V{number}": versions for number, versions in enumerate(sets.values(), start=1)}


def config_texts(results: Results) -> dict[str, str]:
    """The recipe behind each config id, as JSON."""
    ids = dict.fromkeys(benchmark.config_id for benchmark in results.benchmarks)
    return {
        key[:8]: json.dumps(results.configs[key], indent=1, sort_keys=True, ensure_ascii=False) for key in ids
    }


def provenance(results: Results) -> list[tuple[str, ...]]:
    """One line a transfer run, under `PROVENANCE_HEADINGS`."""
    runs: dict[tuple[str, ...], list[Score]] = {}
    names = {_canonical(versions): name for name, versions in version_sets(results).items()}
    for score in results.scores:
        benchmark = Benchmark.of(score)
        key = (
            f"[{results.number(benchmark)}]",
            score.method,
            f"{score.backbone} {score.backbone_sha256[:8]}",
            "unknown" if score.backbone_seed is None else str(score.backbone_seed),
            str(score.seed),
            f"{score.seconds:.0f}",
            benchmark.config_id[:8],
            names[_canonical(score.versions)],
            score.time,
        )
        runs.setdefault(key, []).append(score)
    return [
        (*key[:5], str(len(scores)), *key[5:])
        for key, scores in sorted(runs.items(), key=lambda run: [natural_key(text) for text in run[0]])
    ]


def _canonical(versions: Mapping[str, Any]) -> str:
    return json.dumps(dict(versions), sort_keys=True)


def _joined(versions: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version or 'unknown'}" for name, version in versions.items())
