"""The report of a work folder: Markdown, CSV and LaTeX files, and an HTML page that stands alone."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import count
from pathlib import Path

import jinja2
from markupsafe import Markup

from pretext.errors import InputError
from pretext.files import write_whole
from transfer.report.color_plots import color_plots
from transfer.report.differences import Pair, difference_tables, drawn_cells, intervals, pairs
from transfer.report.papers import latex_tables, paper_tables, papers_csv
from transfer.report.pictures import Picture
from transfer.report.plots import color_grids, layer_plots
from transfer.report.tables import Benchmark, Cell, Results, collect_results, natural_key
from transfer.report.views import (
    benchmark_note,
    benchmark_title,
    console_table,
    differences_in,
    in_units,
    legend,
    markdown_lines,
    markdown_table,
    markdown_text,
    table_view,
)
from transfer.scores.score import RESULTS_NAME, Score, collect_scores, select_scores
from transfer.stage import STAGES

__all__ = ["ReportPaths", "build_report", "console_table"]

#: Columns of ``report.csv``.
CSV_FIELDS = (
    *("method", "backbone", "recipe", "backbone_sha256", "stage", "data", "protocol", "split"),
    *("split_fingerprint", "config_id", "processes", "metric", "setting", "unit"),
    *("mean", "std", "n", "seeds", "low", "high", "settings"),
)

#: Columns of the table of runs.
PROVENANCE_HEADINGS = (
    *("benchmark", "method", "pretraining seed", "seed", "backbone", "scores", "seconds"),
    *("recipe", "config", "versions", "written (UTC)"),
)


@dataclass(frozen=True)
class ReportPaths:
    """Files of a report."""

    markdown: Path
    csv: Path
    html: Path
    latex: Path
    papers_csv: Path
    differences_csv: Path


@dataclass(frozen=True)
class Figures:
    """Pictures of a report, by the names of their files.

    Attributes:
        by_layer: The plots by layer, by their titles.
        of_colors: Those of each benchmark of colours.
    """

    by_layer: Mapping[str, Mapping[str, Picture]]
    of_colors: Mapping[Benchmark, Mapping[str, Picture]]

    def files(self) -> dict[str, Picture]:
        """Return all pictures."""
        parts = (*self.by_layer.values(), *self.of_colors.values())
        return {name: picture for part in parts for name, picture in part.items()}


def draw_figures(
    results: Results, work_dirs: Sequence[Path], photos: int = 0, photo_metric: str = "auc"
) -> Figures:
    """Draw all pictures of a report.

    Args:
        results: All cells.
        work_dirs: Folders with the runs.
        photos: See `build_report`.
        photo_metric: See `build_report`.

    Raises:
        InputError: As `build_report`.
    """
    sheets: Mapping[Benchmark, Sequence[Picture]] = {}
    if photos:
        if "colorization" not in {benchmark.stage for benchmark in results.benchmarks}:
            raise InputError(
                "there are no coloured photos for sheets: no score is of the stage colorization",
                received=f"--photos {photos}",
                allowed="leave it out, or judge colours by tools/colorization.sh",
            )
        # Imported here: it takes seconds, and few reports have sheets.
        from transfer.report.sheets import color_sheets

        sheets = color_sheets(results, work_dirs, photos, photo_metric)
    of_colors = {
        benchmark: [*plots, *sheets.get(benchmark, ())]
        for benchmark, plots in color_plots(results, work_dirs).items()
    }
    numbers = {True: count(1), False: count(1)}

    def named(pictures: Sequence[Picture]) -> dict[str, Picture]:
        return {_picture_name(each, next(numbers[each.is_svg])): each for each in pictures}

    by_layer = {title: named(plots) for title, plots in layer_plots(results).items()}
    return Figures(by_layer, {benchmark: named(pictures) for benchmark, pictures in of_colors.items()})


def _picture_name(picture: Picture, number: int) -> str:
    return f"plot-{number}.svg" if picture.is_svg else f"sheet-{number}.png"


def build_report(
    work_dirs: Sequence[Path],
    out_dir: Path,
    where: Mapping[str, str] | None = None,
    photos: int = 0,
    photo_metric: str = "auc",
) -> ReportPaths:
    """Make a report from every ``results.jsonl`` below some folders.

    Writes ``report.md``, ``.csv``, ``.html`` and ``.tex``, the papers' tables and the differences also to
    ``papers.csv`` and ``differences.csv``, each plot of the page to a ``plot-<number>.svg`` and each sheet of photos to
    a ``sheet-<number>.png``. The same scores, outcomes, colour grids and photos give the same bytes.

    Args:
        work_dirs: Folders with the runs' scores and colour grids.
        out_dir: Folder for the files; each is written whole or not at all.
        where: Scores to select, as `transfer.scores.score.select_scores` does; all by default.
        photos: How many photos sheets of coloured photos have, which are painted anew; 0 for no sheets.
        photo_metric: Metric by which sheets show the best and the worst photos.

    Raises:
        InputError: There is no such score, a score cannot be read, no such metric is kept by photo, or a file cannot be
            written.
    """
    scores = [score for folder in work_dirs for score in collect_scores(folder)]
    if not scores:
        places = ", ".join(str(folder.resolve()) for folder in work_dirs)
        raise InputError(
            f"there are no scores to report: no line in any {RESULTS_NAME} below {places}",
            allowed=f"make some with python -m transfer and one of {', '.join(STAGES)}, or name their folder with"
            " --work-dir",
        )
    results = replace(collect_results(select_scores(scores, where or {})), chosen=bool(where))
    drawn = drawn_cells(results, work_dirs)
    results = replace(results, intervals=intervals(drawn))
    grids = [grid for folder in work_dirs for grid in color_grids(folder)]
    names = ("report.md", "report.csv", "report.html", "report.tex", "papers.csv", "differences.csv")
    paths = ReportPaths(*(out_dir / name for name in names))
    compared, papers = pairs(results, drawn), paper_tables(results)
    figures = draw_figures(results, work_dirs, photos, photo_metric)
    contents = (
        markdown_report(results, compared, figures),
        csv_report(results),
        html_report(results, compared, figures, grids),
        latex_tables(papers),
        papers_csv(papers),
        differences_csv(compared),
    )
    for path, content in zip(vars(paths).values(), contents, strict=True):
        write_whole(path, content)
    for earlier in (*out_dir.glob("plot-*.svg"), *out_dir.glob("sheet-*.png")):
        earlier.unlink()
    for name, picture in figures.files().items():
        write_whole(out_dir / name, picture.file())
    return paths


def csv_report(results: Results) -> str:
    """Return a CSV line per cell, in full precision; a missing cell has n = 0 and no mean."""
    output = io.StringIO()
    writer = csv.DictWriter(output, CSV_FIELDS, lineterminator="\n")
    writer.writeheader()
    for column in results.columns:
        for row in results.rows:
            cell = results.cells.get((row, column))
            identity = vars(row) | vars(column.benchmark) | vars(column) | {"unit": column.measures.unit.name}
            identity |= {"settings": " ".join(row.settings)}
            identity = {key: value for key, value in identity.items() if key in CSV_FIELDS}
            ends = dict(zip(("low", "high"), results.intervals.get((row, column), ()), strict=False))
            writer.writerow(identity | ({"n": 0} if cell is None else _csv_numbers(cell) | ends))
    return output.getvalue()


def _csv_numbers(cell: Cell) -> dict[str, object]:
    lists = {"seeds": " ".join(cell.seeds), "backbone_sha256": " ".join(cell.hashes)}
    return {"mean": cell.mean, "std": cell.std, "n": len(cell.seeds), **lists}


def differences_csv(compared: Sequence[Pair]) -> str:
    """Return a CSV line per pair of methods and column, in full precision."""
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    identity = ("stage", "data", "protocol", "split", "config_id", "metric", "setting")
    compared_rows = ("first", "first_backbone", "second", "second_backbone")
    writer.writerow((*identity, *compared_rows, "unit", "difference", "low", "high"))
    for pair in compared:
        known = vars(pair.column.benchmark) | vars(pair.column)
        found = pair.difference
        rows = (pair.first.label, pair.first.backbone, pair.second.label, pair.second.backbone)
        numbers = (pair.column.measures.unit.name, found.value, found.low, found.high)
        writer.writerow((*(known[key] for key in identity), *rows, *numbers))
    return output.getvalue()


def differences_note(compared: Sequence[Pair]) -> str:
    """Return what the numbers in the tables of differences mean."""
    return (
        f"First method minus second, in {differences_in([pair.column for pair in compared])}: the mean over their runs,"
        " with the 95 % interval of a paired bootstrap over the test images (1,000 draws). * marks intervals that"
        " exclude zero. They cover the choice of test images, not of seeds: for that see the deviations above."
    )


def markdown_report(results: Results, compared: Sequence[Pair], figures: Figures) -> str:
    """Return the tables, their legend and the provenance as Markdown, with links to the files of figures of colours."""
    titles = {b: f"[{results.number(b)}] {benchmark_title(b)}" for b in results.benchmarks}
    summary = table_view(results, results.summary_columns(), every_row=True)
    notes = [f"{title}: {benchmark_note(results, benchmark)}" for benchmark, title in titles.items()]
    parts = [
        "# Transfer report",
        markdown_table(summary),
        _markdown_list(notes),
        _markdown_list(legend(results)),
    ]
    for benchmark, title in titles.items():
        parts += [f"## {markdown_text(title)}", markdown_text(benchmark_note(results, benchmark))]
        parts += [
            markdown_table(table_view(results, columns)) for columns in results.detail_columns(benchmark)
        ]
        parts += [
            f"![{markdown_text(picture.title)}]({name})\n\n{markdown_text(picture.title)}"
            for name, picture in figures.of_colors.get(benchmark, {}).items()
        ]
    for paper in paper_tables(results):
        lines = [("", "method", *paper.headings)]
        for origin, part in (("published", paper.published), ("measured", paper.measured)):
            lines += [(origin, entry.method, *entry.cells) for entry in part]
        parts += [f"## {markdown_text(paper.title)}", markdown_lines(lines), _markdown_list(paper.notes)]
    if compared:
        parts += ["## Differences", markdown_text(differences_note(compared))]
        for table in difference_tables(compared):
            parts += [markdown_text(titles[table.benchmark]), markdown_lines([table.headings, *table.lines])]
    parts += ["## Provenance", markdown_lines([PROVENANCE_HEADINGS, *provenance(results)])]
    parts.append(
        _markdown_list([f"versions {name}: {text}" for name, text in version_texts(results).items()])
    )
    for name, text in config_texts(results).items():
        parts += [f"Config {name}:", "\n".join(f"    {line}" for line in text.splitlines())]
    return "\n\n".join(parts) + "\n"


def _markdown_list(texts: Sequence[str]) -> str:
    return "\n".join(f"- {markdown_text(text)}" for text in texts)


def html_report(
    results: Results, compared: Sequence[Pair], figures: Figures, grids: Sequence[Picture]
) -> str:
    """Return the HTML page, which contains everything that it shows."""
    sections = [
        {
            "number": results.number(benchmark),
            "title": benchmark_title(benchmark),
            "note": benchmark_note(results, benchmark),
            "tables": [table_view(results, columns) for columns in results.detail_columns(benchmark)],
            "figures": _marked_up(figures.of_colors.get(benchmark, {})),
        }
        for benchmark in results.benchmarks
    ]
    return _template().render(
        summary=table_view(results, results.summary_columns(), every_row=True),
        sections=sections,
        main_metric=f"Main metric of each benchmark, {in_units(results.summary_columns())}",
        legend=legend(results),
        plots={title: _marked_up(plots) for title, plots in figures.by_layer.items()},
        papers=paper_tables(results),
        differences=[
            (f"[{results.number(table.benchmark)}] {benchmark_title(table.benchmark)}", table)
            for table in difference_tables(compared)
        ],
        differences_note=differences_note(compared) if compared else "",
        grids=grids,
        headings=PROVENANCE_HEADINGS,
        provenance=provenance(results),
        versions=version_texts(results),
        configs=config_texts(results),
        count=len(results.scores),
        newest=max(score.time for score in results.scores)[:16].replace("T", " "),
    )


def _marked_up(pictures: Mapping[str, Picture]) -> list[tuple[Picture, Markup]]:
    # matplotlib escapes its own text, and base64 needs no escaping; Jinja escapes everything else.
    return [(picture, Markup(picture.content)) for picture in pictures.values()]


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("transfer.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja")


def version_texts(results: Results) -> dict[str, str]:
    """Return the different sets of versions behind the scores, by the names V1, V2, ..."""
    texts = dict.fromkeys(_versions_text(score) for score in results.scores)
    return {f"V{number}": text for number, text in enumerate(texts, start=1)}


def _versions_text(score: Score) -> str:
    return ", ".join(f"{name} {version or 'unknown'}" for name, version in sorted(score.versions.items()))


def config_texts(results: Results) -> dict[str, str]:
    """Return the recipe of each config id, as JSON."""
    ids = dict.fromkeys(benchmark.config_id for benchmark in results.benchmarks)
    return {
        key[:8]: json.dumps(results.configs[key], indent=1, sort_keys=True, ensure_ascii=False) for key in ids
    }


def provenance(results: Results) -> list[tuple[str, ...]]:
    """Return a line per transfer run, with the columns `PROVENANCE_HEADINGS`."""
    runs: dict[tuple[str, ...], list[Score]] = {}
    names = {text: name for name, text in version_texts(results).items()}
    for score in results.scores:
        benchmark = Benchmark.of(score)
        key = (
            f"[{results.number(benchmark)}]",
            score.method,
            "unknown" if score.backbone_seed is None else str(score.backbone_seed),
            str(score.seed),
            f"{score.backbone} {score.backbone_sha256[:8]}",
            f"{score.seconds:.0f}",
            " ".join([score.recipe[:8], *([score.pretrained_on] if score.pretrained_on else [])]),
            benchmark.config_id[:8],
            names[_versions_text(score)],
            score.time,
        )
        runs.setdefault(key, []).append(score)
    return [
        (*key[:5], str(len(scores)), *key[5:])
        for key, scores in sorted(runs.items(), key=lambda run: [natural_key(text) for text in run[0]])
    ]
