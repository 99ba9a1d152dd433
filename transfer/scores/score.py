"""Scores as JSON lines: what was judged, how, on what, and the number."""

import dataclasses
import hashlib
import json
import math
import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from pretext.checks import check_choice
from pretext.errors import InputError
from pretext.locks import locked
from pretext.old_names import renamed
from transfer.stage import scored_stages

RESULTS_NAME = "results.jsonl"

#: The fields that, with the config, tell the scores of two runs, or two numbers of one run, apart.
IDENTITY = (
    *("method", "backbone", "input_space", "backbone_sha256", "stage", "protocol", "setting", "metric"),
    *("seed", "processes", "data", "split", "split_fingerprint"),
)

#: The fields by which a report can be narrowed.
SELECTABLE = (*IDENTITY, "backbone_seed", "pretrained_on")

#: Top-level config keys that tell runs of one recipe apart, or where they ran, without changing the recipe. Who lends
#: colours is told by the hash of what is judged, and who looks at them by the metric or its setting.
RUN_KEYS = frozenset(
    {
        *("backbone", "checkpoint_interval", "data", "layers", "seed", "setting", "temperatures"),
        *("work_dir", "workers"),
        *("gallery", "retriever", "retriever_layer", "reference"),
        *("classifier", "classifier_weights", "fid_weights", "lpips_weights", "lpips_linear"),
    }
)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: object) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def _is_utc_time(value: object) -> bool:
    try:
        return isinstance(value, str) and _parse_time(value).utcoffset() == timedelta(0)
    except ValueError:
        return False


def _is_json_object(value: object) -> bool:
    try:
        return isinstance(value, dict) and bool(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        return False


def _parse_time(time: str) -> datetime:
    # Python 3.10 does not know the Z.
    return datetime.fromisoformat(time.removesuffix("Z") + "+00:00" if time.endswith("Z") else time)


_TEXT = (_is_text, "it must be text that is not empty")
_SHA256 = (_is_sha256, "it must be a SHA-256: 64 hexadecimal digits in lower case")
_JSON_OBJECT = (_is_json_object, "it must be a dict that JSON can hold, without NaN or infinity")
_OPTIONAL_TEXT = (lambda v: v is None or _is_text(v), "it must be text that is not empty, or null")
#: For each field of a score that is right or wrong by itself, its check and what is allowed.
_FIELDS: dict[str, tuple[Callable[[Any], bool], str | tuple[str, ...]]] = {
    "method": _TEXT,
    "backbone": _TEXT,
    "input_space": _TEXT,
    "backbone_sha256": _SHA256,
    "backbone_seed": (lambda v: v is None or _is_whole(v), "it must be a whole number, or null"),
    "recipe": _SHA256,
    "pretrained_on": _OPTIONAL_TEXT,
    "protocol": _TEXT,
    "setting": _TEXT,
    "seed": (_is_whole, "it must be a whole number"),
    "processes": (lambda v: _is_whole(v) and v >= 1, "it must be a whole number from 1 up"),
    "run": _OPTIONAL_TEXT,
    "data": _TEXT,
    "split": _TEXT,
    "split_fingerprint": _SHA256,
    "config": _JSON_OBJECT,
    "versions": _JSON_OBJECT,
    "seconds": (lambda v: _is_finite(v) and v >= 0, "it must be a number of seconds from 0 up"),
    "time": (_is_utc_time, "it must be a time in ISO 8601 and UTC, such as 2025-01-31T12:00:00+00:00"),
}


@dataclass(frozen=True)
class Score:
    """One number of one transfer run.

    Attributes:
        method: Pretext method of the backbone, for instance ``colorization`` or ``random``.
        backbone: Architecture, for instance ``alexnet``; ``none`` where nothing was trained, or by others.
        input_space: Colours that it sees: ``lightness``, ``lab`` or ``rgb``.
        backbone_sha256: Hash of the backbone, as `pretext.backbones.checkpoint.load_backbone` gives it; of colours that
            are judged, that of the colorizer or of the folder's photos.
        backbone_seed: Seed of its pretraining or initialisation; None if unknown.
        recipe: `transfer.judged.recipe_id`, which is equal for backbones that differ only in their seed.
        pretrained_on: Name of the photos it was pretrained on; None if there were none.
        stage: One of `transfer.stage.scored_stages()`.
        protocol: Id of the protocol, marked if the run was shortened or changed.
        setting: Row or column of the papers' tables: ``conv5``, ``fc6-8``, ``all``.
        metric: Name of one of the stage's metrics: ``top1``, ``mean_ap_voc07``, ``mean_iou``, ...
        value: The number, in the metric's unit and within its bounds.
        unit: Name of that unit, for instance ``percent``.
        seed: Seed of the transfer run.
        processes: Number of processes that shared the run; the config's batch size is per process.
        run: Name of the run's folder in ``runs/``, with its config, its log and its outcomes; None if unknown.
        data: Name of the data set.
        split: Parts of the data for training and for scoring, for instance ``train->val``.
        split_fingerprint: SHA-256 of the ids of both parts.
        config: The resolved config, made of what JSON can hold.
        versions: `pretext.versions.versions()` at the time of the run.
        seconds: Wall-clock time of the run.
        time: When the score was written, in ISO 8601 and UTC: `utc_now()`.

    Raises:
        InputError: A field has a value that is not allowed; the error names it.
    """

    method: str
    backbone: str
    input_space: str
    backbone_sha256: str
    backbone_seed: int | None
    recipe: str
    pretrained_on: str | None
    stage: str
    protocol: str
    setting: str
    metric: str
    value: float
    unit: str
    seed: int
    processes: int
    run: str | None
    data: str
    split: str
    split_fingerprint: str
    config: Mapping[str, Any]
    versions: Mapping[str, str | None]
    seconds: float
    time: str

    def __post_init__(self) -> None:
        _check_fields(vars(self))


def _check_fields(values: Mapping[str, Any], where: str = "") -> None:
    def check(name: str, is_valid: bool, allowed: str | tuple[str, ...], of: str = "a score") -> None:
        if not is_valid:
            what = f"{where}cannot use the field {name} of {of}"
            raise InputError(what, received=repr(values[name]), allowed=allowed)

    for name, (is_valid, allowed) in _FIELDS.items():
        check(name, is_valid(values[name]), allowed)
    stage, stages = values["stage"], scored_stages()
    check("stage", stage in tuple(stages), tuple(stages))
    metrics = tuple(metric.name for metric in stages[stage].metrics)
    check("metric", values["metric"] in metrics, metrics, f"a score of {stage}")
    metric = stages[stage].metric(values["metric"])
    of = f"a score of {stage} in {metric.name}"
    check("unit", values["unit"] == metric.unit.name, (metric.unit.name,), of)
    is_number = _is_finite(values["value"]) and metric.accepts(float(values["value"]))
    check("value", is_number, metric.unit.bounds, of)


def config_id(config: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the recipe: the config without its `RUN_KEYS`, in any order of keys."""
    recipe = {key: value for key, value in config.items() if key not in RUN_KEYS}
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def utc_now() -> str:
    """Return the time for `Score.time`."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def append_scores(path: Path, scores: Sequence[Score]) -> None:
    """Append one JSON line per score, under a lock, in a single write that is flushed to the disk.

    Several processes may append to one file at the same time. Half a line that a kill left at the end is cut off
    first.

    Args:
        path: The file; it is made, with its folders, if it does not exist.
        scores: Either all of them are written, or none.

    Raises:
        InputError: The file cannot be written, or the disk is full; the file is as it was.
    """
    lines = "".join(json.dumps(asdict(score), allow_nan=False) + "\n" for score in scores).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b", buffering=0) as file, locked(file, path):
            file.seek(0)
            whole, torn = _split_torn(file.read())
            if torn:
                warnings.warn(f"{path}: cut off half a line at the end: {torn[:80]!r}", stacklevel=2)
            missing_newline = b"" if whole.endswith(b"\n") or not whole else b"\n"
            file.truncate(len(whole))
            _write_or_undo(file.fileno(), missing_newline + lines, len(whole))
    except OSError as error:
        raise InputError(
            f"cannot append to {path}: {error.strerror or error}",
            allowed="no score was added; choose a --work-dir on a writable disk with room for"
            f" {len(lines)} bytes",
        ) from error


def _write_or_undo(descriptor: int, data: bytes, size_before: int) -> None:
    try:
        written = os.write(descriptor, data)
        if written < len(data):
            raise OSError(f"only {written} of {len(data)} bytes could be written")
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size_before)
        raise


def _split_torn(content: bytes) -> tuple[bytes, bytes]:
    """Split off half a line at the end: a JSON object that was cut short is never valid."""
    end = content.rfind(b"\n") + 1
    try:
        json.loads(content[end:])
    except ValueError:
        return content[:end], content[end:]
    return content, b""


def read_scores(paths: Iterable[Path]) -> list[Score]:
    """Read the scores of all files, in the order of files and lines.

    Half a line at the end of a file, left by a kill, is ignored with a warning.

    Raises:
        InputError: A file cannot be read, a line is not a JSON object, or a field is unknown, missing or has a value
            that is not allowed; the error names file, line and field.
    """
    scores = []
    for path in paths:
        try:
            with path.open("rb") as file, locked(file, path, shared=True):
                whole, torn = _split_torn(file.read())
        except OSError as error:
            raise InputError(
                f"cannot read {path}: {error.strerror}", allowed=f"give a readable {RESULTS_NAME}"
            ) from error
        if torn:
            warnings.warn(f"{path}: ignored half a line at the end: {torn[:80]!r}", stacklevel=2)
        lines = enumerate(whole.splitlines(), start=1)
        scores += [_parse_line(line, f"{path}, line {number}") for number, line in lines if line.strip()]
    return scores


def _parse_line(line: bytes, where: str) -> Score:
    names = [field.name for field in dataclasses.fields(Score)]
    try:
        values = renamed(json.loads(line))
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        received = line[:80].decode(errors="replace")
        raise InputError(f"{where} is not a score", received=received, allowed="a score is one JSON object")
    unknown = [name for name in values if name not in names]
    missing = [name for name in names if name not in values]
    for problem, odd in (("unknown", unknown), ("missing", missing)):
        if odd:
            raise InputError(
                f"{where}: {problem} {'field' if len(odd) == 1 else 'fields'} of a score: {', '.join(odd)}",
                allowed=f"a score has exactly the fields {', '.join(names)}. Scores of another version cannot be"
                " mixed in: move the file away and score again",
            )
    _check_fields(values, f"{where}: ")
    return Score(**(values | {name: float(values[name]) for name in ("value", "seconds")}))


def collect_scores(work_dir: Path) -> list[Score]:
    """Read every ``results.jsonl`` below a folder, oldest score first; the list is empty if there is none."""
    scores = read_scores(sorted(work_dir.rglob(RESULTS_NAME)))
    return sorted(scores, key=lambda score: _parse_time(score.time))


def select_scores(scores: Sequence[Score], where: Mapping[str, str]) -> list[Score]:
    """Return the scores whose fields have the given values.

    Args:
        scores: Any scores.
        where: Fields among `SELECTABLE`, each with its value as text: ``{"data": "voc256"}``.

    Raises:
        InputError: A field cannot be selected by, or no score has the value; the error lists the values there are.
    """
    for name, value in where.items():
        check_choice("field to select scores by", name, SELECTABLE)
        found = sorted({str(getattr(score, name)) for score in scores})
        scores = [score for score in scores if str(getattr(score, name)) == value]
        if found and not scores:
            raise InputError(f"no score has this {name}", received=value, allowed=found)
    return list(scores)


def latest_scores(scores: Iterable[Score]) -> list[Score]:
    """Return one score for each cell of each run: the last one given.

    Two scores belong to the same cell and run if they agree in all of `IDENTITY` and in the config (`config_id`).
    """
    latest: dict[tuple[object, ...], Score] = {}
    for score in scores:
        identity = (*(getattr(score, name) for name in IDENTITY), config_id(score.config))
        # Taken out first, so that the later score also comes later in the list.
        latest.pop(identity, None)
        latest[identity] = score
    return list(latest.values())
