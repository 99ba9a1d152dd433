"""The papers' own tables, with published and measured lines under the same headings.

Figure 7 of "Colorful Image Colorization" (Zhang et al., ECCV 2016) as a table, linear classification by layer, its
table 2: PASCAL VOC classification (fc8, fc6-8, all), detection and segmentation, and its table 1: colours. Of
"Learning Representations for Automatic Colorization" (Larsson et al., ECCV 2016) tables 1 to 5 as one, colours by
output space, layers, start and true histograms, and table 6: segmentation of gray photos.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from transfer.protocols.table import PROTOCOLS, departures
from transfer.report.tables import MISSING, Benchmark, Column, Results, Row, headline_metrics
from transfer.scores.published import MARKS, Published, published_metrics, published_table, task_by_layer
from transfer.stage import STUDIES, scored_stages

LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5")
#: The stage of figure 7.
_PROBE = "linear-probe"


@dataclass(frozen=True)
class PaperColumn:
    """One column of a paper's table.

    Attributes:
        heading: Heading of the column.
        task: Task of the published numbers (see `Published`); None if nothing is published.
        stage: Stage that measures it.
        setting: Setting of published and measured numbers.
        metric: Function that returns the metric of the papers' code for a run with the given config.
        accepts: Function that returns whether runs of the protocol with the given id belong in the column.
        published: Metric of the published numbers, in a table that has a column for each; None for those of the
            setting.
        backbone: Architecture of the published numbers of the setting.
    """

    heading: str
    task: str | None
    stage: str
    setting: str
    metric: Callable[[Mapping[str, object]], str]
    accepts: Callable[[str], bool] = lambda protocol: True
    published: str | None = None
    backbone: str = "AlexNet"


@dataclass(frozen=True)
class PaperLine:
    """One line: a method and a text for each column."""

    method: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class PaperTable:
    """Published and measured lines under the same headings.

    Attributes:
        title: Name of the table.
        headings: Headings of the columns after the method.
        published: Lines from papers; a number that nobody read in its source has a mark.
        measured: Lines of own runs, with protocol, data and number of the benchmark.
        units: Units of the columns, as scores name them.
        notes: Footnotes: how measured runs depart from the papers' protocols, and the marks.
    """

    title: str
    headings: tuple[str, ...]
    published: tuple[PaperLine, ...]
    measured: tuple[PaperLine, ...]
    units: tuple[str, ...]
    notes: tuple[str, ...]


def _fixed(metric: str) -> Callable[[Mapping[str, object]], str]:
    return lambda config: metric


def _probe_metric(config: Mapping[str, object]) -> str:
    return headline_metrics(_PROBE, config)[0]


_CLASSIFICATION, _DETECTION = "VOC07 classification", "VOC07 detection (Fast R-CNN)"
_SEGMENTATION = "VOC12 segmentation (FCN-AlexNet, seg11valid)"
_FAST_RCNN, _FCN = "fastrcnn_krahenbuhl2016", "fcn32s_zhang2016"
_GRAY, _COLOR = "larsson2016_gray", "larsson2016_color"

_PASCAL = (
    *(
        # The papers' code computes mAP as scikit-learn does.
        PaperColumn(
            f"classification {s}", _CLASSIFICATION, "voc-classification", s, _fixed("mean_ap_sklearn")
        )
        for s in ("fc8", "fc6-8", "all")
    ),
    PaperColumn(
        "detection all",
        _DETECTION,
        "voc-detection",
        "all",
        _fixed("mean_ap_voc07"),
        lambda p: p == _FAST_RCNN,
    ),
    PaperColumn(
        "segmentation all", _SEGMENTATION, "voc-segmentation", "all", _fixed("mean_iou"), lambda p: p == _FCN
    ),
    # Other protocols than the papers' never share a column with theirs.
    PaperColumn(
        "other detection", None, "voc-detection", "all", _fixed("mean_ap_voc07"), lambda p: p != _FAST_RCNN
    ),
    PaperColumn(
        "other segmentation",
        None,
        "voc-segmentation",
        "all",
        _fixed("mean_iou"),
        lambda p: p not in (_FCN, _GRAY, _COLOR),
    ),
)


def _segmentation(
    heading: str, task: str | None, accepts: Callable[[str], bool], backbone: str = "AlexNet"
) -> PaperColumn:
    return PaperColumn(
        heading, task, "voc-segmentation", "all", _fixed("mean_iou"), accepts, backbone=backbone
    )


_GRAYSCALE = (
    _segmentation(
        "gray (published: VGG-16)", "VOC12 segmentation val (grayscale)", lambda p: p == _GRAY, "VGG-16"
    ),
    _segmentation("colour", None, lambda p: p == _COLOR),
    # The paper has them from others, who trained other networks.
    _segmentation("colour, FCN-AlexNet", "VOC12 segmentation val (color)", lambda p: False),
)


_COLORIZATION = "colorization"
#: Metrics of classifiers that the user trained or has the weights of: the setting names each.
_GIVEN_CLASSIFIERS = ("top1_classifier", "top1_own_classifier")


#: Tasks of published colours of small photos, with the names that their data sets go by.
_SMALL_PHOTOS = {
    "Colorization CIFAR-10": ("cifar-10-batches-py", "cifar10", "cifar-10"),
    "Colorization CelebA": ("celeba",),
    "Colorization Fruits": ("fruits", "fruits360", "fruits-360"),
}


def _colors(
    heading: str,
    metric: str,
    published: str | None,
    accepts: Callable[[str], bool] = lambda protocol: True,
    task: str = "Colorization ImageNet ctest10k",
) -> PaperColumn:
    known = None if published is None else task
    return PaperColumn(heading, known, _COLORIZATION, "photos", _fixed(metric), accepts, published)


_COLORS = (
    _colors("parameters (MB)", "parameters", "model parameters MB"),
    _colors("features (MB)", "features", "features MB"),
    _colors("time (ms)", "time", "run time ms"),
    _colors("AuC", "auc", "AuC non-rebalanced %"),
    _colors("AuC rebalanced", "auc_rebalanced", "AuC rebalanced %"),
    # Another classifier than the paper's never shares a column with it.
    _colors("VGG-16 top-1", "top1_classifier", "VGG-16 top-1 %", lambda protocol: False),
    _colors("EfficientNet-Lite0 top-1", "top1_efficientnet_lite0", None),
    PaperColumn(
        "labeled real", "Colorization ImageNet ctest10k", "perceptual-study", "all", _fixed("fooling_rate"),
        published="labeled real %",
    ),
    # Nor does another alpha-beta than Larsson's, whose formula is not known.
    _colors("RMSE (Larsson's alpha-beta)", "rmse_alphabeta", "RMSE (alpha-beta)", lambda protocol: False),
    _colors("RMSE (alpha-beta)", "rmse_alphabeta", None),
    _colors("PSNR (dB)", "psnr", "PSNR dB"),
)  # fmt: skip


#: Tables 1, 2 and 5 of Larsson et al. are of one set of photos, tables 3 and 4 of another.
_LARSSON = (
    # Their alpha-beta never shares a column with ours.
    _colors(
        "RMSE (Larsson's alpha-beta)", "rmse_alphabeta", "RMSE (alpha-beta)", lambda protocol: False,
        "Colorization ImageNet cval1k",
    ),
    _colors("PSNR (dB)", "psnr", "PSNR dB", task="Colorization ImageNet cval1k"),
    _colors(
        "RMSE on SUN-6 (Larsson's alpha-beta)", "rmse_alphabeta", "RMSE (alpha-beta)", lambda protocol: False,
        "Colorization SUN-6",
    ),
    _colors("RMSE (alpha-beta)", "rmse_alphabeta", None),
    _colors("RMSE ab (CIE units)", "rmse_ab", None),
    _colors("AuC", "auc", None),
)  # fmt: skip
_OF_TRUTH = "Published lines with (C), (Q) and (E) know the colour histograms of each true photo, too."


def _colors_of(data: str) -> tuple[str, Sequence[PaperColumn]]:
    """Return title and columns of the table of colours on a data set."""
    task = next((task for task, names in _SMALL_PHOTOS.items() if data.lower() in names), None)
    if task is None:
        title = f"Colours on {data}; published: on ImageNet's ctest10k (table 1 of Zhang et al. 2016)"
        return title, _COLORS
    columns = (
        _colors("AuC", "auc", "AuC %", task=task),
        _colors("AuC rebalanced", "auc_rebalanced", None),
        # Another classifier than the study's never shares a column with it.
        _colors("VGG accuracy", "top1_classifier", "VGG accuracy %", lambda protocol: False, task),
        _colors("EfficientNet-Lite0 top-1", "top1_efficientnet_lite0", None),
        _colors("PSNR (dB)", "psnr", None),
    )
    return f"Colours on {data}; published: a student study ({task.removeprefix('Colorization ')})", columns


def _by_given_classifiers(results: Results, data: str) -> list[PaperColumn]:
    """Return a column for each classifier of the user's that classified the coloured photos of a data set."""
    found = dict.fromkeys(
        (column.metric, column.setting)
        for column in results.columns
        if column.benchmark.data == data and column.metric in _GIVEN_CLASSIFIERS
    )
    return [
        PaperColumn(f"{setting} top-1", None, _COLORIZATION, setting, _fixed(metric))
        for metric, setting in found
    ]


def paper_tables(results: Results) -> list[PaperTable]:
    """Return figure 7 for each data set that was probed, and the other tables of which anything was measured.

    Those of Larsson et al. need an RMSE in alpha-beta, which earlier scores do not have.
    """
    tables = []
    for data in sorted({b.data for b in results.benchmarks if b.stage == _PROBE}):
        columns = [
            PaperColumn(layer, task_by_layer(_PROBE, data), _PROBE, layer, _probe_metric) for layer in LAYERS
        ]
        title = f"Linear classification on {data}, top-1 (figure 7 of Zhang et al. 2016)"
        tables.append(_table(results, title, columns, data))
    of_pascal = {
        "PASCAL VOC: mAP, mAP and mean IoU (table 2 of Zhang et al. 2016)": _PASCAL,
        "VOC2012 segmentation in gray: mean IoU (table 6 of Larsson et al. 2016)": _GRAYSCALE,
    }
    for title, of_paper in of_pascal.items():
        if any(_belongs(results, benchmark, of_paper) for benchmark in results.benchmarks):
            tables.append(_table(results, title, of_paper, None))
    for data in sorted({b.data for b in results.benchmarks if b.stage == _COLORIZATION}):
        title, colors = _colors_of(data)
        tables.append(_table(results, title, [*colors, *_by_given_classifiers(results, data)], data))
        if any(
            column.benchmark.data == data and column.metric == "rmse_alphabeta" for column in results.columns
        ):
            title = (
                f"RMSE and PSNR of colours on {data}; published: on ImageNet's cval1k (tables 1, 2 and 5 of Larsson et"
                " al. 2016), and on SUN-6 (tables 3 and 4)"
            )
            table = _table(results, title, _LARSSON, data)
            tables.append(replace(table, notes=(*table.notes, _OF_TRUTH)))
    return tables


def _belongs(results: Results, benchmark: Benchmark, columns: Sequence[PaperColumn]) -> bool:
    """Return whether a benchmark has a column."""
    protocol = str(results.configs[benchmark.config_id].get("protocol"))
    return any(c.stage == benchmark.stage and c.accepts(protocol) for c in columns)


def _table(results: Results, title: str, columns: Sequence[PaperColumn], data: str | None) -> PaperTable:
    measured, used = _measured(results, columns, data)
    notes = [_note(results, benchmark) for benchmark in used]
    shown = " ".join(line.method for line in measured)
    stages = dict.fromkeys(column.stage for column in columns)
    notes += [
        note for stage in stages for key, note in scored_stages()[stage].row_notes if f" {key}=" in shown
    ]
    published = _published(columns)
    if any(mark and mark in cell for line in published for cell in line.cells for mark in MARKS.values()):
        notes.append(
            f"{MARKS['secondary']}: restated by a third party; {MARKS['unverified']}: from memory. Nobody read these"
            " numbers in their source."
        )
    if not published:
        notes.append(f"There are no published numbers for data named {data}.")
    units = tuple(scored_stages()[column.stage].metric(column.metric({})).unit.name for column in columns)
    return PaperTable(title, tuple(c.heading for c in columns), published, measured, units, tuple(notes))


def _published(columns: Sequence[PaperColumn]) -> tuple[PaperLine, ...]:
    tables: dict[str, dict[str, dict[str, Published]]] = {
        column.task: published_table(column.task, column.backbone)
        if column.published is None
        else published_metrics(column.task)
        for column in columns
        if column.task is not None
    }
    methods = dict.fromkeys(method for table in tables.values() for method in table)
    lines = []
    for method in methods:
        found = [
            tables[c.task].get(method, {}).get(c.published or c.setting) if c.task is not None else None
            for c in columns
        ]
        if any(found):
            lines.append(
                PaperLine(method, tuple(MISSING if entry is None else str(entry) for entry in found))
            )
    return tuple(lines)


def _measured(
    results: Results, columns: Sequence[PaperColumn], data: str | None
) -> tuple[tuple[PaperLine, ...], list[Benchmark]]:
    """Return a line for each backbone, protocol, data set and config, and the benchmarks that they show."""
    used: dict[Benchmark, None] = {}
    lines = []
    for row in results.rows:
        for benchmark in results.benchmarks:
            if data is not None and benchmark.data != data:
                continue
            cells = [_cell(results, row, column, benchmark) for column in columns]
            if any(cells):
                used[benchmark] = None
                texts = tuple(cell or MISSING for cell in cells)
                color = ", color" if results.configs[benchmark.config_id].get("color") else ""
                where = f"{benchmark.protocol}{color}, {benchmark.data} [{results.number(benchmark)}]"
                lines.append(PaperLine(f"{row.label} ({row.backbone}), {where}", texts))
    return tuple(lines), sorted(used, key=results.number)


def _cell(results: Results, row: Row, column: PaperColumn, benchmark: Benchmark) -> str | None:
    config = results.configs[benchmark.config_id]
    if benchmark.stage != column.stage or not column.accepts(str(config.get("protocol"))):
        return None
    measured = Column(benchmark, column.metric(config), column.setting)
    cell = results.cells.get((row, measured))
    return None if cell is None else measured.measures.unit.text(cell.mean, cell.std)


def _note(results: Results, benchmark: Benchmark) -> str:
    config = results.configs[benchmark.config_id]
    where = f"[{results.number(benchmark)}] {benchmark.protocol} on {benchmark.data}, {benchmark.split}"
    if benchmark.stage in STUDIES:
        return f"{where}: people judged, and others than those whose answers are published."
    if config.get("protocol") not in PROTOCOLS:
        return f"{where}: not a protocol of a paper."
    odd = departures(config, benchmark.processes)
    if not odd:
        return f"{where}: follows the protocol."
    differences = "; ".join(f"{key} {done} instead of {said}" for key, (said, done) in odd.items())
    return f"{where}: {differences}."


def papers_csv(tables: Sequence[PaperTable]) -> str:
    """Return the tables as CSV, with a line per cell that is not empty, and the mark of published numbers."""
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(("table", "origin", "method", "column", "value", "std", "unit", "mark"))
    for table in tables:
        for origin, part in (("published", table.published), ("measured", table.measured)):
            for line in part:
                for heading, text, unit in zip(table.headings, line.cells, table.units, strict=True):
                    if text != MISSING:
                        number, _, std = text.partition(" ± ")
                        mark = number[-1] if number[-1] in MARKS.values() else ""
                        value = number.removesuffix(mark)
                        writer.writerow((table.title, origin, line.method, heading, value, std, unit, mark))
    return output.getvalue()


def latex_tables(tables: Sequence[PaperTable]) -> str:
    """Return the tables as LaTeX, each a ``tabular`` with the rules of booktabs."""
    return "\n".join(["% \\usepackage{booktabs}", *(_latex(table) for table in tables)])


def _latex(table: PaperTable) -> str:
    def line(cells: Sequence[str]) -> str:
        return " & ".join(map(_latex_text, cells)) + r" \\"

    lines = [
        r"\begin{table}",
        rf"\caption{{{_latex_text(table.title)}}}",
        rf"\begin{{tabular}}{{l{'r' * len(table.headings)}}}",
        r"\toprule",
        line(["method", *table.headings]),
    ]
    for name, part in (("published", table.published), ("measured", table.measured)):
        if part:
            lines += [r"\midrule", rf"\multicolumn{{{len(table.headings) + 1}}}{{l}}{{\emph{{{name}}}}} \\"]
            lines += [line([entry.method, *entry.cells]) for entry in part]
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [_latex_text(note) + r"\par" for note in table.notes]
    return "\n".join([*lines, r"\end{table}", ""])


_LATEX = {
    "\\": r"\textbackslash{}", **{sign: f"\\{sign}" for sign in "&%$#_{}"}, "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "±": r"$\pm$", "—": "---", "§": r"\S{}",
    # After a line break LaTeX would take a star or a bracket for an argument.
    "*": "{*}",
    "[": "{[}", "]": "{]}",
}  # fmt: skip


def _latex_text(text: str) -> str:
    text = " ".join(text.split())
    return "".join(_LATEX.get(sign, sign) for sign in text)
