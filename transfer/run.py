"""One run of a stage, from Python or from the command line, and what it records."""

import hashlib
import json
import logging
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from pretext.checks import check_choice, check_seed
from pretext.data.places import data_path, ensure_toyworld
from pretext.distributed import process_group, rank_and_world_size
from pretext.errors import InputError
from pretext.files import WORK_DIRS, write_whole
from pretext.progress import LOG
from pretext.versions import versions
from transfer.data.identity import data_name
from transfer.job import Job, Measurement
from transfer.judged import Judged, identify
from transfer.protocols.settings import StageSettings
from transfer.protocols.table import load_stage_config, protocol_label
from transfer.scores.outcomes import OUTCOMES_NAME, save_outcomes
from transfer.scores.score import RESULTS_NAME, Score, append_scores, utc_now
from transfer.stage import STAGES, Stage


def score(
    stage: str,
    backbone: str | Path,
    *,
    settings: StageSettings | None = None,
    data: str | Path | None = None,
    seed: int = 0,
    work_dir: Path | None = None,
    show: Callable[[str], None] | None = None,
) -> list[Score]:
    """Judge a backbone, or colours, by a stage, and record the scores.

    Args:
        stage: One of `transfer.stage.STAGES`.
        backbone: A backbone file, ``random:NAME`` or ``random:FILE``; see
            :func:`pretext.backbones.checkpoint.load_backbone`. For a stage that judges colours: see
            :func:`transfer.color_sources.color_source`.
        settings: As :func:`transfer.protocols.table.load_stage_config` gives them; None takes the stage's default.
        data: The labelled data: a path, or a name below PRETEXT_DATA. None takes the settings'.
        seed: Seed of everything that is drawn; also of the weights of an untrained backbone.
        work_dir: Folder of ``results.jsonl``, and of ``runs/`` with the config, the log and the outcomes of each run.
            None takes ``work_dirs/<stage>``.
        show: Called with one line per score before anything is written, so that a full disk loses no number.

    Returns:
        The scores, as they now stand in ``results.jsonl``; with several processes, on the first of them alone.

    Raises:
        InputError: Backbone or data cannot be used; found before training starts where it can be.
        TrainingDivergedError: The loss, or a score, is not a finite number.
    """
    check_choice("stage", stage, STAGES)
    check_seed(seed)
    settings = load_stage_config(stage) if settings is None else settings
    if not isinstance(settings, STAGES[stage].settings):
        raise InputError(
            f"settings are not those of {stage}",
            received=type(settings).__name__,
            allowed=f"allowed are {STAGES[stage].settings.__name__}, as load_stage_config({stage!r}) gives them",
        )
    named = str(data or settings.data)
    root = Path(data_path(ensure_toyworld(named)))
    work_dir = work_dir or WORK_DIRS / STAGES[stage].config
    with process_group() as device:
        job = Job(settings, str(backbone), root, seed, work_dir, device)
        judged = identify(STAGES[stage], job.backbone, seed, settings)
        first = rank_and_world_size()[0] == 0
        if (work_dir / RESULTS_NAME).exists():
            # Now, and not after hours of training: can scores be added?
            append_scores(work_dir / RESULTS_NAME, [])
        with _recorded(job, stage, judged) if first else nullcontext() as folder:
            began = time.monotonic()
            measurements = STAGES[stage].load()(job)
            seconds = time.monotonic() - began
            _check(STAGES[stage], measurements)
            if folder is None:  # the first process has the measurements of all
                return []
            scores = _scores(job, data_name(named), judged, stage, folder.name, measurements, seconds)
            lines = [_line(one) for one in scores]
            for line in lines:
                LOG.info(line)
        kept = {(m.setting, m.metric): m.outcomes for m in measurements if m.outcomes is not None}
        # Neither a closed pipe nor a full disk loses a number. The scores come last: where they are, the run was whole.
        with ExitStack() as last:
            last.callback(append_scores, work_dir / RESULTS_NAME, scores)
            last.callback(save_outcomes, folder / OUTCOMES_NAME, kept)
            if show is not None:
                for line in lines:
                    show(line)
        return scores


@contextmanager
def recorded(runs: Path, name: str, record: Mapping[str, Any]) -> Iterator[Path]:
    """Write what a run is and what it says to a folder of its own, ``<name>-<hash of the record>``.

    The record goes to ``config.json``; what goes to `LOG` meanwhile, and an error that ends the run, is added to
    ``log.txt``. A run that ends in InputError, as it cannot be what was asked for, leaves nothing. Gives the folder.

    Args:
        runs: Where the folder goes.
        name: What the folder's name begins with.
        record: What tells the run from others, as JSON can hold it.

    Raises:
        InputError: The folder cannot be written.
    """
    content = json.dumps(record, indent=2) + "\n"
    folder = runs / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    again = folder.exists()
    made = [parent for parent in folder.parents if not parent.exists()]
    # Names of files may hold bytes that are not UTF-8.
    handler = logging.FileHandler(folder / "log.txt", encoding="utf-8", errors="backslashreplace", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    try:
        write_whole(folder / "config.json", content)
        LOG.addHandler(handler)
        yield folder
    except BaseException as error:
        LOG.info("%s: %s", type(error).__name__, error)
        if isinstance(error, InputError) and not again:
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # of a folder that holds something else
                for parent in made:
                    parent.rmdir()
        raise
    finally:
        LOG.removeHandler(handler)
        handler.close()


def _recorded(job: Job[StageSettings], stage: str, judged: Judged) -> AbstractContextManager[Path]:
    record = {
        "stage": stage,
        "config": job.settings.config(),
        "backbone": job.backbone,
        "backbone_sha256": judged.sha256,
        "data": str(job.data),
        "seed": job.seed,
        "processes": rank_and_world_size()[1],
        "versions": versions(),
    }
    method = re.sub(r"[^\w.+-]+", "-", judged.method)
    name = f"{stage}-{method}-{judged.sha256[:8]}-seed{job.seed}"
    return recorded(job.work_dir / "runs", name, record)


def _line(score: Score) -> str:
    unit = STAGES[score.stage].metric(score.metric).unit
    number = f"{score.value:6.{max(2, unit.decimals)}f} {unit.label}"
    return f"{score.method:>14}  {score.setting:>8}  {score.metric:<12} {number}".rstrip()


def _check(stage: Stage, measurements: Sequence[Measurement]) -> None:
    """Raise ValueError, since the stage's code is wrong, unless it gives what its record in STAGES says."""
    known = {metric.name: metric for metric in stage.metrics}
    given = [(m.setting, m.metric) for m in measurements]
    if not given or len(set(given)) < len(given):
        raise ValueError(f"{stage.name} gives no measurement, or one twice: {given}")
    for m in measurements:
        if m.metric not in known:
            raise ValueError(f"{stage.name} gives {m.metric}, which its metrics in STAGES do not name")
        if known[m.metric].compared and m.outcomes is None:
            raise ValueError(f"{m.metric} of {stage.name} is compared=True, but has no outcomes by image")


def _scores(
    job: Job[StageSettings],
    data: str,
    judged: Judged,
    stage: str,
    run: str,
    measurements: Sequence[Measurement],
    seconds: float,
) -> list[Score]:
    now = utc_now()
    return [
        Score(
            method=judged.method,
            backbone=judged.backbone,
            input_space=judged.input_space,
            backbone_sha256=judged.sha256,
            backbone_seed=judged.seed,
            recipe=judged.recipe,
            pretrained_on=judged.pretrained_on,
            stage=stage,
            protocol=protocol_label(job.settings.config(), rank_and_world_size()[1]),
            setting=measured.setting,
            metric=measured.metric,
            value=measured.value,
            unit=STAGES[stage].metric(measured.metric).unit.name,
            seed=job.seed,
            processes=rank_and_world_size()[1],
            run=run,
            data=data,
            split=measured.split,
            split_fingerprint=measured.split_fingerprint,
            config=job.settings.config(),
            versions=versions(),
            seconds=round(seconds, 1),
            time=now,
        )
        for measured in measurements
    ]
