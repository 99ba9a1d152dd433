"""Plots of how good colours are: curves over errors and photos, sweeps over temperatures, the prior."""

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from torch import Tensor

from pretext.color.gamut import reduce_chroma
from pretext.color.lab import lab_to_rgb
from pretext.color.prior import load_prior
from pretext.color.rebalance import rebalance_weights
from pretext.errors import InputError
from transfer.color_sources import BASELINES
from transfer.report.pictures import COLORS, GRAY, MARKERS, Picture, drawing, legend_below, svg_of
from transfer.report.runs import outcomes_in, run_folders
from transfer.report.tables import Benchmark, Column, Results, Row
from transfer.scores.outcomes import Mean, Outcomes, RootMean, Share
from transfer.stage import scored_stages

#: Rows without training: without any colour; and without any error, which curves of errors leave out.
GRAY_ROW, TRUTH = "gray", "truth"
#: Metrics of photos whose distribution is plotted.
DISTRIBUTIONS = ("psnr", "rmse_ab", "rmse_alphabeta")
#: Share of photos that a histogram shows one by one; the best of all are in its last bin.
_SHOWN = 0.99
#: Curves of errors end where all have reached this share of pixels, in percent.
_NEARLY_ALL = 99.5
_LINES = ("-", "--", ":")
_DASHES = ("--", ":", "-.", (0, (6, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
#: Lambda and the spacing of the grid of Zhang et al. (ECCV 2016).
_MIX = 0.5
_SPACING = 10.0


def is_of_colors(benchmark: Benchmark) -> bool:
    """Return whether colours are judged."""
    return scored_stages()[benchmark.stage].judges == "colorizer"


def row_names(rows: Sequence[Row]) -> dict[Row, str]:
    """Return what figures call rows: their labels, with the architecture where two are alike."""
    labels = [row.label for row in rows]
    return {row: row.label if labels.count(row.label) == 1 else f"{row.label} {row.backbone}" for row in rows}


def color_plots(results: Results, work_dirs: Sequence[Path]) -> dict[Benchmark, list[Picture]]:
    """Plot each benchmark of colours.

    - The share of a photo's pixels by the error in ab, whose area is the raw accuracy (Zhang et al., ECCV 2016, section
      3.1).
    - The share of photos by PSNR and RMSE, as cumulative curves, and by PSNR as a histogram (Larsson et al., ECCV 2016,
      figures 6 and 7).
    - Metrics over the temperature, of rows with a sweep.
    - The prior over the ab plane and the weights of equation 4, as in figure 3 of Zhang et al.

    Args:
        results: All cells.
        work_dirs: Folders below which the runs left their outcomes; a plot that has none of them is left out.
    """
    folders = run_folders(work_dirs)
    plots = {}
    for benchmark in filter(is_of_colors, results.benchmarks):
        columns = [column for column in results.columns if column.benchmark == benchmark]
        single = {column.metric: column for column in columns if column.swept is None}
        found = [_error_plot(results, single["auc"], folders)] if "auc" in single else []
        found += [_photos_plot(results, single[name], folders) for name in DISTRIBUTIONS if name in single]
        found += [_histogram_plot(results, single["psnr"], folders)] if "psnr" in single else []
        for metric in dict.fromkeys(column.metric for column in columns if column.swept is not None):
            found.append(_sweep_plot(results, [column for column in columns if column.metric == metric]))
        found.append(_prior_plot(results.configs[benchmark.config_id]))
        plots[benchmark] = [plot for plot in found if plot is not None]
    return plots


def _styles(results: Results, benchmark: Benchmark) -> dict[Row, dict[str, Any]]:
    """Return how each row of a benchmark is drawn: colours for what was trained, gray dashes for what was not."""
    there = {row for row, column in results.cells if column.benchmark == benchmark}
    rows = [row for row in results.rows if row in there]
    without = [row for row in rows if row.method in BASELINES]
    trained = [row for row in rows if row.method not in BASELINES]
    dashed = {
        row: {"color": GRAY, "linestyle": _DASHES[number % len(_DASHES)]}
        for number, row in enumerate(without)
    }
    return dashed | {
        row: {"color": COLORS[number % len(COLORS)], "linestyle": _LINES[number // len(COLORS) % len(_LINES)]}
        for number, row in enumerate(trained)
    }


def _legend_names(results: Results, column: Column) -> dict[Row, str]:
    """Return the rows' names, each with its number in a column."""
    return {
        row: f"{name}: {column.measures.unit.text(results.cells[row, column].mean)}"
        for row, name in row_names(results.rows).items()
        if (row, column) in results.cells
    }


def _axes(x_label: str, y_label: str, lines: int) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.4, 3.6 + 0.24 * math.ceil(lines / 2)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _error_plot(results: Results, column: Column, folders: Mapping[str, Path]) -> Picture | None:
    """Plot the cumulative error curve of each row, the mean over its photos and runs."""
    curves = {
        row: 100 * np.mean([each.curve.mean(0) for each in runs if isinstance(each, Share)], axis=0)
        for row, runs in outcomes_in(results, column, folders).items()
        if row.method != TRUTH and all(isinstance(each, Share) and each.curve.size for each in runs)
    }
    if not curves:
        return None
    there = np.min(list(curves.values()), axis=0) >= _NEARLY_ALL
    last = len(there) - 1
    end = min(last, max(30, 10 * math.ceil(np.argmax(there) / 10))) if there[last] else last
    names, styles = _legend_names(results, column), _styles(results, column.benchmark)
    with drawing(f"errors {column}"):
        figure, axes = _axes(
            "ab distance t from the true colour (CIE units)", "pixels within t (%)", len(curves)
        )
        for row, curve in curves.items():
            axes.plot(range(len(curve)), curve, label=names[row], **styles[row])
        axes.set_xlim(0, end)
        axes.set_ylim(0, 101)
        legend_below(figure)
        svg = svg_of(figure)
    rest = f" Beyond {end} all curves are above {_NEARLY_ALL} %." if there[end] else ""
    title = (
        "Cumulative error: share of a photo's pixels whose ab distance from the true colour is at most t, mean over"
        f" photos. The area up to 150 is AuC, in percent beside the names.{rest}"
    )
    at = (5, 10, 20, 40)
    words = "; ".join(
        f"{names[row]}, within {', '.join(f'{t}: {curve[t]:.1f} %' for t in at)}"
        for row, curve in curves.items()
    )
    return Picture(title, f"Cumulative error curves. {words}", svg)


def _by_photo(outcomes: Outcomes) -> Float[np.ndarray, " n"]:
    if isinstance(outcomes, RootMean):
        return np.asarray(np.sqrt(outcomes.squares))
    assert isinstance(outcomes, Mean)  # what the stage keeps of DISTRIBUTIONS
    return outcomes.values


def _values(
    results: Results, column: Column, folders: Mapping[str, Path]
) -> dict[Row, Float[np.ndarray, " n"]]:
    """Return by row a metric of each photo, in all runs."""
    return {
        row: np.concatenate([_by_photo(each) for each in runs])
        for row, runs in outcomes_in(results, column, folders).items()
        if row.method != TRUTH
    }


def _histogram_plot(results: Results, column: Column, folders: Mapping[str, Path]) -> Picture | None:
    """Plot the share of photos in each bin of a metric, a whole unit wide."""
    values = _values(results, column, folders)
    if not values:
        return None
    every = np.concatenate(list(values.values()))
    end = math.floor(np.quantile(every, _SHOWN)) + 1
    edges = np.arange(math.floor(every.min()), end + 1)
    shares = {
        row: 100 * np.histogram(numbers.clip(max=end), edges)[0] / len(numbers)
        for row, numbers in values.items()
    }
    metric = column.measures
    names, styles = _legend_names(results, column), _styles(results, column.benchmark)
    with drawing(f"histogram {column}"):
        figure, axes = _axes(
            f"{metric.title} of a photo ({metric.unit.symbol})", "photos in a bin (%)", len(values)
        )
        for row, heights in shares.items():
            axes.stairs(heights, edges, baseline=None, label=names[row], linewidth=1.5, **styles[row])
        axes.set_ylim(bottom=0)
        legend_below(figure)
        svg = svg_of(figure)
    beyond = f" The last bin also holds what is above {end}." if every.max() > end else ""
    title = (
        f"Histogram of photos by {metric.title}, in bins of 1 {metric.unit.symbol}. Beside the names: {metric.title} of"
        f" all photos.{beyond}"
    )
    words = "; ".join(
        f"{names[row]}, most in the bin from {edges[heights.argmax()]}: {heights.max():.1f} %"
        for row, heights in shares.items()
    )
    return Picture(title, f"{metric.title} in bins. {words}", svg)


def _photos_plot(results: Results, column: Column, folders: Mapping[str, Path]) -> Picture | None:
    """Plot the share of photos that are at least as good as each value of a metric."""
    values = _values(results, column, folders)
    if not values:
        return None
    metric = column.measures
    names, styles = _legend_names(results, column), _styles(results, column.benchmark)
    bound = "at least" if metric.higher_is_better else "at most"
    with drawing(f"photos {column}"):
        figure, axes = _axes(
            f"{metric.title} of a photo ({metric.unit.symbol})", f"photos with {bound} that (%)", len(values)
        )
        for row, numbers in values.items():
            axes.ecdf(numbers, complementary=metric.higher_is_better, label=names[row], **styles[row])
        axes.set_yticks(np.linspace(0, 1, 6), [f"{share:.0f}" for share in np.linspace(0, 100, 6)])
        axes.set_ylim(0, 1.01)
        legend_below(figure)
        svg = svg_of(figure)
    title = (
        f"Share of photos whose {metric.title} is {bound} the value below; the higher curve is better. Beside the"
        f" names: {metric.title} of all photos."
    )
    words = "; ".join(
        f"{names[row]}, quartiles {', '.join(metric.unit.text(q) for q in np.quantile(numbers, (0.25, 0.5, 0.75)))}"
        for row, numbers in values.items()
    )
    return Picture(title, f"{metric.title} of photos. {words}", svg)


def _sweep_plot(results: Results, columns: Sequence[Column]) -> Picture | None:
    """Plot a metric over the temperature.

    Rows without a sweep are level lines, where they are near enough to the others not to flatten them.
    """
    metric = columns[0].measures
    curves = {
        row: {
            t: results.cells[row, c]
            for c in columns
            if (t := c.swept) is not None and (row, c) in results.cells
        }
        for row in results.rows
    }
    curves = {row: cells for row, cells in curves.items() if len(cells) > 1}
    if not curves:
        return None
    numbers = [cell.mean for cells in curves.values() for cell in cells.values()]
    room = 2 * max(max(numbers) - min(numbers), 10**-metric.unit.decimals)
    level = {
        row: results.cells[row, column].mean
        for column in columns
        for row in results.rows
        if column.swept is None and row not in curves and (row, column) in results.cells
    }
    level = {r: v for r, v in level.items() if min(numbers) - room <= v <= max(numbers) + room}
    several = any(cell.std is not None for cells in curves.values() for cell in cells.values())
    names, styles = row_names(results.rows), _styles(results, columns[0].benchmark)
    with drawing(f"sweep {columns}"):
        figure, axes = _axes("temperature T", metric.axis_label, len(curves) + len(level))
        for number, (row, cells) in enumerate(curves.items()):
            axes.errorbar(
                list(cells),
                [cell.mean for cell in cells.values()],
                yerr=[cell.std or 0.0 for cell in cells.values()] if several else None,
                label=names[row],
                marker=MARKERS[number % len(MARKERS)],
                capsize=3,
                **styles[row],
            )
        for row, value in level.items():
            axes.axhline(value, label=names[row], **styles[row])
        axes.set_xlim(left=0)
        legend_below(figure)
        svg = svg_of(figure)
    title = (
        f"{metric.heading} over the temperature T of the annealed mean: the mode of the distribution towards 0, its"
        f" mean at 1.{' Bars: standard deviation over seeds.' if several else ''}"
    )
    words = "; ".join(
        f"{names[row]}: {', '.join(f'T {t:g} {metric.unit.text(cell.mean)}' for t, cell in cells.items())}"
        for row, cells in curves.items()
    )
    return Picture(title, f"{metric.heading} by temperature. {words}", svg)


def _prior_plot(config: Mapping[str, Any]) -> Picture | None:
    """Plot the prior by which a benchmark is rebalanced, and the weights that training would take from it."""
    file = config.get("prior")
    try:
        prior = load_prior(file)
    except InputError as error:
        warnings.warn(f"the colour prior is left out of the report: {error}", stacklevel=2)
        return None
    weights = rebalance_weights(prior.probabilities, mix=_MIX)
    with drawing(f"prior {file}"):
        figure = Figure(figsize=(11.5, 4.1), layout=ConstrainedLayoutEngine(w_pad=0.12))
        panels = figure.subplots(1, 3, sharex=True, sharey=True)
        _draw_bins(panels[0], prior.bins, "bins in their colours", colors=_bin_colors(prior.bins))
        _draw_bins(panels[1], prior.bins, "prior p (log scale)", prior.probabilities.log10(), "log10 p")
        _draw_bins(panels[2], prior.bins, f"weights w (lambda = {_MIX})", weights, "w")
        panels[0].set_ylabel("b (CIE units)")
        svg = svg_of(figure)
    name = "ImageNet's" if file is None else Path(file).name
    title = (
        f"The prior over the ab plane, {name}: {len(prior.bins)} bins, and the weights by which training rebalances"
        f" (Zhang et al. 2016, figure 3 and equation 4; lambda = {_MIX}). AuC rebalanced weights by 1 / p."
    )
    top = tuple(prior.bins[prior.probabilities.argmax()].int().tolist())
    words = (
        f"p from {prior.probabilities.min():.2g} to {prior.probabilities.max():.2g}, most at ab = {top}; weights from"
        f" {weights.min():.3g} to {weights.max():.3g}"
    )
    return Picture(title, f"Colour prior. {words}", svg, wide=True)


def _draw_bins(
    axes: Axes,
    bins: Float[Tensor, "q 2"],
    title: str,
    values: Float[Tensor, " q"] | None = None,
    label: str = "",
    colors: Float[np.ndarray, "q 3"] | None = None,
) -> None:
    """Draw a square for each bin, in its colour or by its value."""
    squares = [Rectangle((a - _SPACING / 2, b - _SPACING / 2), _SPACING, _SPACING) for a, b in bins.tolist()]
    if values is None:
        collection = PatchCollection(squares, facecolors=colors, edgecolors="face", linewidths=0.4)
    else:
        collection = PatchCollection(squares, cmap="viridis", edgecolors="face", linewidths=0.4)
        collection.set_array(values.numpy())
        axes.figure.colorbar(collection, ax=axes, shrink=0.8, label=label)
    axes.add_collection(collection)
    axes.set_title(title, fontsize="medium")
    axes.set_xlim(-115, 115)
    axes.set_ylim(-120, 115)
    axes.set_aspect("equal")
    axes.set_xlabel("a (CIE units)")


def _bin_colors(bins: Float[Tensor, "q 2"]) -> Float[np.ndarray, "q 3"]:
    """Return the sRGB colour of each bin, at the lightness where most of its chroma is left and nearest to 60."""
    levels = torch.tensor(sorted(range(10, 100, 5), key=lambda level: abs(level - 60)), dtype=torch.float32)
    lab = torch.cat(
        [
            levels.view(1, 1, -1, 1).expand(1, 1, -1, len(bins)),
            bins.T[None, :, None].expand(1, 2, len(levels), -1),
        ],
        1,
    )
    shown = reduce_chroma(lab)
    # Of levels that leave as much, the first.
    left = torch.linalg.vector_norm(shown[0, 1:], dim=0) - 0.1 * torch.arange(len(levels))[:, None]
    best = left.argmax(0)
    return lab_to_rgb(shown)[0, :, best, torch.arange(len(bins))].T.numpy()
