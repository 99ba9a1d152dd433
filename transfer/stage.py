"""Every stage, declared once: what it is called, which function runs it, what it measures, in which unit.

Command lines, scores, reports, grids and differences read `STAGES`; scores and reports also `STUDIES`, whose numbers
come from people. Nothing heavy is imported here.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from pretext.checks import check_choice
from transfer.protocols.settings import (
    ClassificationSettings,
    ColorizationSettings,
    DetectionSettings,
    ProbeSettings,
    SegmentationSettings,
    StageSettings,
    SvmSettings,
)


@dataclass(frozen=True)
class Unit:
    """Unit of a metric.

    Attributes:
        name: What score lines say, for instance ``percent``.
        symbol: What stands on an axis: ``%``, ``dB``.
        numbers: What such numbers are called: ``percentages``, ``dB``.
        differences: What differences between them are counted in: ``points``, ``dB``.
        decimals: Decimals in tables.
        low: Lowest possible value.
        high: Highest possible value.
    """

    name: str
    symbol: str
    numbers: str
    differences: str
    decimals: int = 1
    low: float = -math.inf
    high: float = math.inf

    @property
    def label(self) -> str:
        """What headings and lines say of the unit; empty for percent, which goes without saying."""
        return "" if self.name == "percent" else self.symbol

    @property
    def bounds(self) -> str:
        """Which values are allowed, as a sentence."""
        if (self.low, self.high) == (-math.inf, math.inf):
            return f"allowed are finite numbers of {self.numbers}"
        low = "" if self.low == -math.inf else f" from {self.low:g}"
        return f"allowed are {self.numbers}{low} {'up' if self.high == math.inf else f'to {self.high:g}'}"

    def text(self, value: float, std: float | None = None) -> str:
        """Return a value as tables show it, with its deviation if there is one."""
        return f"{value:.{self.decimals}f}" + ("" if std is None else f" ± {std:.{self.decimals}f}")

    def difference_text(self, value: float) -> str:
        """Return a difference as tables show it, with its sign."""
        return f"{value:+.{self.decimals}f}"


PERCENT = Unit("percent", "%", "percentages", "points", 1, 0.0, 100.0)
SHARE = Unit("share", "share", "shares", "shares", 3, 0.0, 1.0)
DECIBEL = Unit("dB", "dB", "dB", "dB", 2)  # of an error: may be negative
CIE = Unit("CIE", "CIE units", "CIE units", "CIE units", 2, 0.0)
SIMILARITY = Unit("similarity", "of 1", "similarities", "similarities", 3, -1.0, 1.0)
LEVEL = Unit("levels", "levels", "levels of 255", "levels", 2, 0.0)
BIT = Unit("bits", "bits", "bits", "bits", 2, 0.0)
OPPONENT = Unit("alpha-beta", "of R - G", "alpha-beta distances", "alpha-beta distances", 3, 0.0)
DISTANCE = Unit("distance", "distance", "distances", "distances", 3, 0.0)
STEP = Unit("steps", "steps", "numbers of steps", "steps", 0, 0.0)
MEGABYTE = Unit("MB", "MB", "MB", "MB", 1, 0.0)
MILLISECOND = Unit("ms", "ms", "ms", "ms", 1, 0.0)


@dataclass(frozen=True)
class Metric:
    """A number that a stage measures.

    Attributes:
        name: What score lines say, for instance ``top1``.
        title: Heading of its columns, for instance ``top-1``.
        unit: Its unit, which also bounds it.
        higher_is_better: False for an error.
        headline: Whether the summary shows it for runs of no paper's protocol.
        compared: Whether runs keep outcomes by image, so that methods can be compared by a paired bootstrap.
        axis: What an axis says before the unit, if that is not the title.
        note: Sentence for the legend, if the title does not say enough.
    """

    name: str
    title: str
    unit: Unit = PERCENT
    higher_is_better: bool = True
    headline: bool = False
    compared: bool = False
    axis: str = ""
    note: str = ""

    @property
    def heading(self) -> str:
        """The title with the unit and, for an error, an arrow: ``PSNR (dB)``, ``RMSE (CIE units) ↓``."""
        unit = f" ({self.unit.label})" if self.unit.label else ""
        return f"{self.title}{unit}{'' if self.higher_is_better else ' ↓'}"

    @property
    def axis_label(self) -> str:
        """The title with the unit, for an axis: ``top-1 accuracy (%)``."""
        return f"{self.axis or self.title} ({self.unit.symbol})"

    def accepts(self, value: float) -> bool:
        """Whether the value is a finite number within the unit's bounds."""
        return math.isfinite(value) and self.unit.low <= value <= self.unit.high


@dataclass(frozen=True)
class Stage:
    """One way to judge what was made.

    Attributes:
        name: Command and what score lines say, for instance ``linear-probe``.
        title: Heading in tables, for instance ``Linear probe``.
        function: ``module:function`` that takes a `Job` and returns measurements; imported when it runs. Of `STUDIES`,
            the function that makes scores of the answers.
        settings: Class of its settings.
        metrics: All that it measures, in the order of the columns.
        columns: Known settings in the order of their columns; others follow in natural order.
        layers: How the command takes layers: as its first ``argument``, as the ``override`` layers=..., or not at all.
        judges: What the command takes.
        by_row: Settings that say how what is judged is used, with the values that go without saying: other values make
            another row of a table, not another column.
        beside_row: Settings that say what else is measured of what is judged, and change no other number.
        row_notes: Sentences for the legend of rows in which a setting of ``by_row`` has another value.
        settings_name: What its config and its section in data sets are called, if not like the stage itself.
        sweep: What settings begin with that are values of a number, such as ``T=0.38``. Reports plot them; summaries
            and differences leave them out.
        by_layer: Title of the plot by layer, if there is one.
        headline_by_config: Names of the metrics that count for a run with the given config, whatever its protocol;
            None for the protocol's metric, or those marked ``headline``.
    """

    name: str
    title: str
    function: str
    settings: type[StageSettings]
    metrics: tuple[Metric, ...]
    columns: tuple[str, ...] = ()
    layers: Literal["argument", "override"] | None = None
    judges: Literal["backbone", "colorizer"] = "backbone"
    by_row: tuple[tuple[str, Any], ...] = ()
    beside_row: tuple[str, ...] = ()
    row_notes: tuple[tuple[str, str], ...] = ()
    settings_name: str = ""
    sweep: str = ""
    by_layer: str = ""
    headline_by_config: Callable[[Mapping[str, Any]], tuple[str, ...]] | None = None

    def __post_init__(self) -> None:
        names = [metric.name for metric in self.metrics]
        if len(set(names)) != len(names) or not any(metric.headline for metric in self.metrics):
            raise ValueError(f"{self.name} needs metrics of different names and a headline: {names}")

    @property
    def config(self) -> str:
        """Name of its config in ``configs/transfer``, and of its section in the configs of data sets."""
        return self.settings_name or self.name.replace("-", "_")

    def metric(self, name: str) -> Metric:
        """Return the metric of that name; InputError if the stage does not measure it."""
        named = {metric.name: metric for metric in self.metrics}
        check_choice(f"metric of {self.name}", name, named)
        return named[name]

    def sweep_setting(self, value: float) -> str:
        """Return the setting of a value of the sweep."""
        return f"{self.sweep}{value:g}"

    def swept(self, setting: str) -> float | None:
        """Return the value of a setting of the sweep; None of other settings."""
        return float(setting[len(self.sweep) :]) if self.sweep and setting.startswith(self.sweep) else None

    def headlines(self, config: Mapping[str, Any], reported: str | None = None) -> tuple[str, ...]:
        """Return the names of the metrics that count for a run.

        Args:
            config: The run's resolved config.
            reported: The metric that the paper reports whose protocol the config names; None if it names none.
        """
        if self.headline_by_config is not None:
            return self.headline_by_config(config)
        return (reported,) if reported else tuple(metric.name for metric in self.metrics if metric.headline)

    def load(self) -> Callable[..., Any]:
        """Import the function; only now, as each stage's libraries take seconds to import."""
        module, _, function = self.function.partition(":")
        found: Callable[..., Any] = getattr(import_module(module), function)
        return found


def _probe_headline(config: Mapping[str, Any]) -> tuple[str, ...]:
    return ("top1_best" if config.get("epoch_rule") == "best" else "top1",)


_VOC07 = "mAP VOC07 is interpolated at 11 points."
_VOC10 = "mAP VOC10 is the area under the interpolated curve."
_SKLEARN = "mAP sklearn is the area under the raw curve."
_AUC = "AuC is the area under the share of pixels whose ab error is below t, for t up to 150."
_REBALANCED = "AuC rebalanced weights pixels by the rarity of their true colour."
_ALPHABETA = "Alpha is R - G, and beta R + G - 2 B, of R, G and B in 0..1."
_CF = "CF is colourfulness; that of the true photos is neither the most nor the least."
_CF_ABS = "CF abs takes absolute values of the opponent channels first."
_FID = (
    "FID is the Frechet distance of Inception's features; it depends on the weights and the number of photos."
)
_LPIPS = "LPIPS is over AlexNet."
_OWN = "The own classifier was trained by this toolkit on photos in colour; the setting names it."
_STOPPED = "Stopped at: the step that early stopping chose; neither more nor less is better."
_TRUE_HISTOGRAM = (
    "Rows with true_histogram know the colour histograms of each true photo, which the others do not."
)
_DIVERSITY = "Diversity is the mean ab distance between two draws of a photo."


def _voc07(headline: bool = True) -> Metric:
    return Metric("mean_ap_voc07", "mAP VOC07", headline=headline, compared=True, note=_VOC07)


#: Every stage by its name, in the order of tables.
STAGES: Mapping[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            "linear-probe",
            "Linear probe",
            "transfer.stages.linear_probe:linear_probe",
            ProbeSettings,
            (
                Metric("top1", "top-1", headline=True, compared=True, axis="top-1 accuracy"),
                Metric("top5", "top-5"),
                Metric(
                    "top1_best", "top-1, best epoch", compared=True, axis="top-1, best epoch accuracy"
                ),
                Metric("top5_best", "top-5, best epoch"),
            ),
            layers="argument",
            by_layer="Linear probe by layer",
            headline_by_config=_probe_headline,
        ),
        Stage(
            "voc-classification",
            "VOC classification",
            "transfer.stages.classification:voc_classification",
            ClassificationSettings,
            (
                _voc07(),
                Metric("mean_ap_voc10", "mAP VOC10", note=_VOC10),
                Metric("mean_ap_sklearn", "mAP sklearn", compared=True, note=_SKLEARN),
            ),
            columns=("fc8", "fc6-8", "all"),
        ),
        Stage(
            "voc-svm",
            "VOC classification by SVM",
            "transfer.stages.svm:voc_svm",
            SvmSettings,
            (
                _voc07(),
                Metric("mean_ap_voc10", "mAP VOC10", compared=True, note=_VOC10),
                Metric("mean_ap_sklearn", "mAP sklearn", note=_SKLEARN),
            ),
            layers="override",
        ),
        Stage(
            "voc-detection",
            "VOC detection",
            "transfer.stages.detection:voc_detection",
            DetectionSettings,
            (
                _voc07(),
                Metric("mean_ap_voc10", "mAP VOC10", note=_VOC10),
                Metric(
                    "coco_ap", "COCO AP", headline=True,
                    note="COCO AP is the mean over IoU thresholds from 0.50 to 0.95.",
                ),
                Metric("coco_ap50", "COCO AP50"),
            ),
        ),
        Stage(
            "voc-segmentation",
            "VOC segmentation",
            "transfer.stages.segmentation:voc_segmentation",
            SegmentationSettings,
            (
                Metric("mean_iou", "mean IoU", headline=True, compared=True),
                Metric("pixel_accuracy", "pixel accuracy"),
                Metric("stopped_at", "stopped at", STEP, note=_STOPPED),
            ),
        ),
        Stage(
            "colorization",
            "Colours",
            "transfer.stages.colorization:colorization",
            ColorizationSettings,
            (
                Metric("auc", "AuC", headline=True, compared=True, note=_AUC),
                Metric("auc_rebalanced", "AuC rebalanced", headline=True, compared=True, note=_REBALANCED),
                Metric("rmse_ab", "RMSE ab", CIE, higher_is_better=False, compared=True),
                Metric(
                    "rmse_alphabeta", "RMSE alpha-beta", OPPONENT, higher_is_better=False, compared=True,
                    note=_ALPHABETA,
                ),
                Metric("psnr", "PSNR", DECIBEL, headline=True, compared=True),
                Metric("ssim", "SSIM", SIMILARITY, compared=True),
                Metric("ciede2000", "CIEDE2000", CIE, higher_is_better=False, compared=True),
                Metric("colorfulness", "CF", LEVEL, headline=True, compared=True, note=_CF),
                Metric("colorfulness_abs", "CF abs", LEVEL, compared=True, note=_CF_ABS),
                *(
                    Metric(f"{name}{suffix}", f"{title}{of}", LEVEL, higher_is_better=False, compared=by_photo)
                    for suffix, of in (("", " CF"), ("_abs", " CF abs"))
                    for name, title, by_photo in (
                        ("delta_colorfulness", "mean |Δ|", True),
                        ("delta_mean_colorfulness", "|Δ mean|", False),
                    )
                ),
                Metric("entropy", "entropy", BIT, compared=True),
                Metric("diversity", "diversity", CIE, compared=True, note=_DIVERSITY),
                Metric(
                    "top1_efficientnet_lite0", "EfficientNet-Lite0 top-1", headline=True, compared=True,
                    note="EfficientNet-Lite0 classifies the coloured photos.",
                ),
                Metric("top1_classifier", "classifier top-1", headline=True, compared=True),
                Metric("top1_own_classifier", "own classifier top-1", headline=True, compared=True, note=_OWN),
                Metric("lpips", "LPIPS", DISTANCE, higher_is_better=False, compared=True, note=_LPIPS),
                Metric("fid", "FID", DISTANCE, higher_is_better=False, note=_FID),
                Metric("parameters", "parameters", MEGABYTE, higher_is_better=False),
                Metric("features", "features", MEGABYTE, higher_is_better=False),
                Metric("time", "time a photo", MILLISECOND, higher_is_better=False),
            ),
            judges="colorizer",
            by_row=(
                ("network_size", None), ("decode", "annealed"), ("temperature", None), ("upsampling", "bilinear"),
                ("decode_at", "map"), ("true_histogram", None),
            ),
            beside_row=("temperatures",),
            row_notes=(("true_histogram", _TRUE_HISTOGRAM),),
            # A section of this name changes the method.
            settings_name="colors",
            sweep="T=",
        ),
    )
}  # fmt: skip

#: What people judge, not a `Job`: no stage's command, config or grid; scores and reports know it.
STUDIES: Mapping[str, Stage] = {
    "perceptual-study": Stage(
        "perceptual-study",
        "Perceptual study",
        "transfer.study.fooling:study_scores",
        StageSettings,
        (
            Metric(
                "fooling_rate", "fooling rate", headline=True,
                note="The fooling rate is the share of pairs whose true photo people took for the fake; 50 is chance.",
            ),
            Metric("fooling_rate_low", "fooling rate, 2.5 % bound"),
            Metric("fooling_rate_high", "fooling rate, 97.5 % bound"),
        ),
    )
}  # fmt: skip


def scored_stages() -> Mapping[str, Stage]:
    """Return all whose scores ``results.jsonl`` may hold: the stages, then the studies."""
    return {**STAGES, **STUDIES}
