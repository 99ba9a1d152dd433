"""Sheets of photos in their colours, painted anew from the photos and models that runs name.

What is gone, or has changed since its run, is left out with a warning.
"""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from pretext.checks import check_choice
from pretext.color.prior import imagenet_prior, load_prior
from pretext.colorize.settings import Decoding
from pretext.data.samples import spread
from pretext.errors import InputError
from transfer.color_sources import BASELINES, ColorSource
from transfer.data.colored import TruePhotos
from transfer.job import Job
from transfer.judged import identify
from transfer.networks.judged_colors import painter_of
from transfer.networks.painters import Model, Painter, baseline
from transfer.protocols.settings import ColorizationSettings
from transfer.protocols.table import load_stage_config
from transfer.report.color_plots import GRAY_ROW, TRUTH, is_of_colors, row_names
from transfer.report.contact_sheet import Strip, Tile, contact_sheet
from transfer.report.pictures import Picture
from transfer.report.runs import CONFIG_NAME, run_folders, scores_in
from transfer.report.tables import Benchmark, Results
from transfer.scores.outcomes import OUTCOMES_NAME, load_outcomes
from transfer.scores.score import Score
from transfer.stage import STAGES, Metric

#: Temperatures of a sheet between the mean, T = 1, and the mode, of rows whose run has no sweep of its own.
TEMPERATURES = (0.8, 0.6, 0.38, 0.25, 0.1)
#: Best, or worst, photos that stand beside each other, at most: more would be too small to see.
_MOST_IN_A_LINE = 24
_STAGE = STAGES["colorization"]


@dataclass(frozen=True)
class _Run:
    """The run that stands for a row.

    Attributes:
        name: What figures call the row.
        job: The run, without its sweep.
        temperatures: Its sweep.
        values: The number of each photo in the metric that tells good from bad; None if it was not measured.
    """

    name: str
    job: Job[ColorizationSettings]
    temperatures: tuple[float, ...]
    values: Float[ndarray, " n"] | None


@dataclass(frozen=True)
class _Shown:
    """The photos of a benchmark, and what is shown of them.

    Attributes:
        photos: All of them.
        chosen: Numbers of those in sheets.
        metric: Tells good from bad.
    """

    photos: TruePhotos
    chosen: list[int]
    metric: Metric

    def name(self, index: int) -> str:
        """Return the name of a photo's file, without its ending."""
        return PurePosixPath(self.photos.names[index]).stem

    def note(self, run: _Run | None, index: int) -> str:
        """Return how good a photo of a run is, as far as that is known."""
        if run is None or run.values is None:
            return ""
        unit = self.metric.unit
        return f"{self.metric.title} {unit.text(float(run.values[index]))} {unit.label}".strip()


def color_sheets(
    results: Results, work_dirs: Sequence[Path], count: int, metric: str = "auc"
) -> dict[Benchmark, list[Picture]]:
    """Draw sheets for each benchmark of colours.

    They are: photos x rows (gray, all that was judged, truth); of each row but those without training, its best and
    worst photos; and of each row that predicts a distribution, photos x temperatures, as in figure 4 of Zhang et al.
    (ECCV 2016). The first seed's run stands for a row.

    Args:
        results: All cells.
        work_dirs: Folders below which the runs left their configs and outcomes.
        count: Photos of a sheet, spread over all; and of the best, and of the worst.
        metric: Name of the metric by which photos are the best or the worst; runs must keep its outcomes.

    Raises:
        InputError: The metric is not kept by photo.
    """
    check_choice("metric of photos", metric, [each.name for each in _STAGE.metrics if each.compared])
    folders = run_folders(work_dirs)
    sheets = {}
    for benchmark in filter(is_of_colors, results.benchmarks):
        runs = _runs(results, benchmark, folders, metric)
        try:
            sheets[benchmark] = (
                list(_sheets(runs, _shown(runs, benchmark, count, metric), count)) if runs else []
            )
        except InputError as error:
            _warn(f"photos of {benchmark.data}", error)
    return sheets


def _runs(results: Results, benchmark: Benchmark, folders: Mapping[str, Path], metric: str) -> list[_Run]:
    """Return the runs of all rows that can be painted again, those without training first."""
    columns = [column for column in results.columns if column.benchmark == benchmark and column.swept is None]
    setting = next((column.setting for column in columns if column.metric == metric), "")
    names, runs = row_names(results.rows), []
    for row, scores in scores_in(results, columns[0]).items() if columns else ():
        try:
            runs.append(_run(names[row], scores[0], folders, (setting, metric)))
        except InputError as error:
            _warn(names[row], error)
    return sorted(runs, key=lambda run: run.job.backbone not in BASELINES)


def _run(name: str, score: Score, folders: Mapping[str, Path], measured: tuple[str, str]) -> _Run:
    folder = folders.get(score.run or "")
    if folder is None:
        raise InputError("the run's folder is gone", received=score.run)
    try:
        record = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
        colors, data, seed = str(record["backbone"]), Path(record["data"]), int(record["seed"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"cannot read {folder / CONFIG_NAME}: {type(error).__name__}: {error}") from error
    # Scores of before a setting came about have its default.
    config = {**load_stage_config(_STAGE.name).config(), **score.config}
    settings = ColorizationSettings.from_config(config)
    if identify(_STAGE, colors, seed, settings).sha256 != score.backbone_sha256:
        raise InputError("it has changed since it was judged", received=colors)
    lean = replace(settings, temperatures=(), samples=0)
    job = Job(lean, colors, data, seed, folder, torch.device("cpu"))
    return _Run(name, job, settings.temperatures, _values(folder, *measured))


def _values(folder: Path, setting: str, metric: str) -> Float[ndarray, " n"] | None:
    try:
        outcomes = load_outcomes(folder / OUTCOMES_NAME, setting, metric)
    except InputError:
        return None
    return np.array([outcomes.metric(np.array([index])) for index in range(len(outcomes))])


def _shown(runs: Sequence[_Run], benchmark: Benchmark, count: int, metric: str) -> _Shown:
    job = runs[0].job
    chosen = (job.settings.photos, job.settings.count, job.settings.fit, job.settings.size)
    photos = TruePhotos(job.data, *chosen)
    if photos.fingerprint() != benchmark.split_fingerprint:
        raise InputError("they are not those that were judged", received=str(job.data))
    return _Shown(photos, spread(len(photos), count).tolist(), _STAGE.metric(metric))


def _sheets(runs: Sequence[_Run], shown: _Shown, count: int) -> Iterator[Picture]:
    gray_run = next((run for run in runs if _is_plain(run, GRAY_ROW)), None)
    gray = baseline(ColorSource("baseline", GRAY_ROW), shown.photos, imagenet_prior(), 0)
    columns = {GRAY_ROW: _tiles(gray, gray_run, shown)}
    own: list[Picture] = []
    for run in runs:
        if _is_plain(run, GRAY_ROW, TRUTH):
            continue
        try:
            painter = painter_of(run.job, shown.photos, load_prior(run.job.settings.prior))
            columns[run.name] = _tiles(painter, run, shown)
            if run.job.backbone not in BASELINES:
                own += _own_sheets(painter, run, shown, count)
        except InputError as error:
            _warn(run.name, error)
    columns[TRUTH] = [Tile(shown.photos[index]) for index in shown.chosen]
    strips = [
        Strip(shown.name(index), [tiles[place] for tiles in columns.values()])
        for place, index in enumerate(shown.chosen)
    ]
    title = f"Photos in the colours of {', '.join(columns)}. Below each: its {shown.metric.title}."
    yield Picture(
        title, _described(title, shown, shown.chosen), contact_sheet(list(columns), strips), wide=True
    )
    yield from own


def _is_plain(run: _Run, *names: str) -> bool:
    """Return whether a run judged one of these rows without training, as it is."""
    return run.job.backbone in names and run.job.settings.true_histogram is None


def _tiles(painter: Painter, run: _Run | None, shown: _Shown) -> list[Tile]:
    return [_tile(painter, run, shown, index) for index in shown.chosen]


def _tile(painter: Painter, run: _Run | None, shown: _Shown, index: int) -> Tile:
    return Tile(painter(index, shown.photos[index]).rgb, shown.note(run, index))


def _own_sheets(painter: Painter, run: _Run, shown: _Shown, count: int) -> Iterator[Picture]:
    """Draw the best and worst photos of a row, and its temperatures, as far as there are any."""
    if run.values is not None:
        order = np.argsort(-run.values if shown.metric.higher_is_better else run.values, kind="stable")
        most = min(count, len(order) // 2, _MOST_IN_A_LINE)
        strips: list[Strip] = []
        for word, indices in (("best", order[:most]), ("worst", order[::-1][:most])):
            true = [Tile(shown.photos[index], shown.name(index)) for index in indices.tolist()]
            painted = [_tile(painter, run, shown, index) for index in indices.tolist()]
            strips += [
                Strip(f"{word}: truth", true, begins=bool(strips)),
                Strip(f"{word}: painted", painted),
            ]
        if most:
            title = f"{run.name}: the photos with the best and the worst {shown.metric.title}, below the true ones."
            ends = [*order[:most].tolist(), *order[::-1][:most].tolist()]
            yield Picture(title, _described(title, shown, ends), contact_sheet([], strips), wide=True)
    if isinstance(painter, Model) and painter.colorizer.space.rules:
        yield _temperature_sheet(painter, run, shown)


def _temperature_sheet(model: Model, run: _Run, shown: _Shown) -> Picture:
    between = sorted({t for t in run.temperatures or TEMPERATURES if t < 1}, reverse=True)
    headings = ["T = 1, the mean", *(f"T = {t:g}" for t in between), "T → 0, the mode"]
    decodings = [Decoding("mean"), *(Decoding("annealed", t) for t in between), Decoding("mode")]
    strips = [
        Strip(shown.name(index), [Tile(photo) for photo in model.decoded(shown.photos[index], decodings)])
        for index in shown.chosen
    ]
    title = (
        f"{run.name}: the annealed mean of the predicted distribution, from its mean to its mode, as in figure 4 of"
        " Zhang et al. 2016."
    )
    return Picture(title, _described(title, shown, shown.chosen), contact_sheet(headings, strips), wide=True)


def _described(title: str, shown: _Shown, indices: Sequence[int]) -> str:
    return f"{title} Photos: {', '.join(shown.name(index) for index in indices)}"


def _warn(what: str, error: InputError) -> None:
    warnings.warn(f"{what}: left out of the sheets of photos: {error}", stacklevel=3)
