"""Pictures of any report: plots by layer and colour grids."""

import io
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from transfer.report.pictures import COLORS, GRAY, MARKERS, Picture, drawing, legend_below, png_url, svg_of
from transfer.report.tables import (
    RANDOM,
    Benchmark,
    Cell,
    Column,
    Results,
    Row,
    headline_metrics,
    natural_key,
)
from transfer.scores.published import FIGURE_7, published_table, task_by_layer
from transfer.stage import Metric, scored_stages

_MAX_GRID_WIDTH = 1600


def layer_plots(results: Results) -> dict[str, list[Picture]]:
    """Plot a stage's main metric by layer, with a line per method, as in figure 7 of Zhang et al. 2016.

    There is a plot for each benchmark and architecture with a backbone that was judged at two layers or more. Bars are
    standard deviations over seeds. For data with published numbers, AlexNet's plot also shows the figure's methods as
    thin gray lines.

    Returns:
        The plots by their stages' titles for them; stages that have none are left out.
    """
    plots: dict[str, list[Picture]] = {}
    for benchmark in results.benchmarks:
        stage = scored_stages()[benchmark.stage]
        if not stage.by_layer:
            continue
        metric = stage.metric(headline_metrics(stage.name, results.configs[benchmark.config_id])[0])
        columns = [c for c in results.columns if c.benchmark == benchmark and c.measures == metric]
        for backbone in dict.fromkeys(row.backbone for row in results.rows):
            curves = {row: _curve(results, row, columns) for row in results.rows if row.backbone == backbone}
            curves = {row: cells for row, cells in curves.items() if cells}
            if max(map(len, curves.values()), default=0) > 1:
                plot = _layer_plot(results, benchmark, backbone, curves, metric)
                plots.setdefault(stage.by_layer, []).append(plot)
    return plots


def _curve(results: Results, row: Row, columns: Sequence[Column]) -> dict[str, Cell]:
    return {c.setting: results.cells[row, c] for c in columns if (row, c) in results.cells}


def _layer_plot(
    results: Results,
    benchmark: Benchmark,
    backbone: str,
    curves: Mapping[Row, Mapping[str, Cell]],
    metric: Metric,
) -> Picture:
    layers = sorted({layer for cells in curves.values() for layer in cells}, key=natural_key)
    with drawing(f"{benchmark} {backbone}"):
        figure = Figure(layout="constrained")
        axes = figure.add_subplot()
        for number, (row, cells) in enumerate(curves.items()):
            _draw_curve(axes, number, row, layers, cells)
        if backbone == "alexnet":
            _draw_published(axes, benchmark, layers)
        axes.set_xticks(range(len(layers)), layers, parse_math=False)
        axes.set_ylabel(metric.axis_label)
        axes.grid(axis="y", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        lines_drawn = len(axes.get_legend_handles_labels()[1])
        # More lines need more room, in the plot and in the legend below.
        figure.set_size_inches(6.4, (3.4 if lines_drawn <= 8 else 5.4) + 0.24 * math.ceil(lines_drawn / 2))
        legend_below(figure)
        svg = svg_of(figure)
    title = f"[{results.number(benchmark)}] {benchmark.data}, {backbone}, protocol {benchmark.protocol}"
    lines = [
        f"{row.label}: "
        + ", ".join(f"{layer} {metric.unit.text(cells[layer].mean)}" for layer in layers if layer in cells)
        for row, cells in curves.items()
    ]
    words = f"{scored_stages()[benchmark.stage].title} {metric.heading} by layer. {'; '.join(lines)}"
    return Picture(title, words, svg)


def _draw_curve(axes: Axes, number: int, row: Row, layers: Sequence[str], cells: Mapping[str, Cell]) -> None:
    means = [cells[layer].mean if layer in cells else math.nan for layer in layers]
    stds = [(cells[layer].std or 0.0) if layer in cells else math.nan for layer in layers]
    is_random = row.method == RANDOM
    axes.errorbar(
        range(len(layers)),
        means,
        yerr=stds,
        label=row.label.lstrip("_"),
        color=GRAY if is_random else COLORS[number % len(COLORS)],
        marker=MARKERS[number % len(MARKERS)],
        linestyle="--" if is_random else "-",
        capsize=3,
    )


def _draw_published(axes: Axes, benchmark: Benchmark, layers: Sequence[str]) -> None:
    task = task_by_layer(benchmark.stage, benchmark.data)
    if task is None:
        return
    table = published_table(task)
    for number, method in enumerate(method for method in FIGURE_7 if method in table):
        values = [table[method][layer].value if layer in table[method] else math.nan for layer in layers]
        axes.plot(
            range(len(layers)),
            values,
            label=f"published: {method}",
            color="#a0a0a0",
            linewidth=0.9,
            linestyle=":",
            marker=f"${number + 1}$",
        )


def color_grids(work_dir: Path) -> list[Picture]:
    """Return the latest colour grid of every pretraining run below a folder, as data URLs.

    A run writes ``color_grids/iter_*.png`` or ``color_grid*.png``; the highest number is the latest. A grid wider than
    1600 pixels is scaled down; one that cannot be read is left out with a warning.
    """
    latest: dict[Path, Path] = {}
    files = {*work_dir.rglob("color_grid*.png"), *work_dir.rglob("color_grids/*.png")}
    for path in sorted(files, key=lambda p: natural_key(str(p))):
        latest[path.parent.parent if path.parent.name == "color_grids" else path.parent] = path
    pictures = []
    for run, path in latest.items():
        name = run.resolve().name if run == work_dir else run.relative_to(work_dir).as_posix()
        step = re.search(r"(\d+)$", path.stem)
        title = f"{name}, iteration {int(step[1]):,}" if step else f"{name}, {path.name}"
        try:
            content = _data_url(path)
        except OSError as error:
            warnings.warn(f"{path}: colour grid left out of the report: {error}", stacklevel=2)
            continue
        description = f"Colour grid of {title}: held-out photos and the network's output for them"
        pictures.append(Picture(title, description, content))
    return pictures


def _data_url(path: Path) -> str:
    content = path.read_bytes()
    with Image.open(io.BytesIO(content), formats=("PNG",)) as picture:
        picture.load()
        if picture.width > _MAX_GRID_WIDTH:
            height = max(1, round(picture.height * _MAX_GRID_WIDTH / picture.width))
            buffer = io.BytesIO()
            resized = picture.convert("RGB").resize((_MAX_GRID_WIDTH, height), Image.Resampling.LANCZOS)
            resized.save(buffer, format="PNG")
            content = buffer.getvalue()
    return png_url(content)
