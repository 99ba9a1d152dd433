"""The plan of a comparison: its backbones, stages and seeds, and the command of each cell."""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretext.checks import check_choice, check_seed
from pretext.colorize.header import COLORIZER_NAME
from pretext.config import read_config
from pretext.errors import InputError
from pretext.old_names import spelled_for_hash
from transfer.color_sources import check_needs_no_distribution, color_source
from transfer.compare.rows import (
    STAGE,
    Row,
    check_name,
    elsewhere,
    named_rows,
    place_of,
    rows_of,
    values_of,
    with_folders,
)
from transfer.protocols.settings import ColorizationSettings, StageSettings
from transfer.protocols.table import load_stage_config
from transfer.scores.score import RESULTS_NAME
from transfer.stage import STAGES, Stage


@dataclass(frozen=True)
class Task:
    """One command of a grid.

    Attributes:
        row: The backbone's name in the grid.
        column: ``backbone``, or the stage's name in the grid.
        seed: Seed of the command.
        module: ``pretext`` or ``transfer``.
        words: Arguments, without ``--seed`` and the option for where to write.
        folder: Where the command writes; its output goes to ``output.txt``.
        product: File in the folder that exists, and is complete, once the command has succeeded.
        needs: Tasks whose products it takes.
    """

    row: str
    column: str
    seed: int
    module: str
    words: tuple[str, ...]
    folder: Path
    product: str
    needs: "tuple[Task, ...]" = ()

    @property
    def done(self) -> bool:
        """Whether the command has succeeded, now or earlier."""
        path = self.folder / self.product
        if self.product != RESULTS_NAME:  # written whole or not at all
            return path.is_file()
        return path.is_file() and path.read_bytes()[-1:] == b"\n"

    @property
    def name(self) -> str:
        """Name in messages."""
        return f"{self.row} {self.column} seed {self.seed}"

    def command(self) -> list[str]:
        """Return the command line."""
        where = ["--work-dir", str(self.folder)]
        if self.words[0] == "initialize":
            where = ["--out", str(self.folder / self.product)]
        return [sys.executable, "-m", self.module, *self.words, *where, "--seed", str(self.seed)]


def plan(path: Path, work_dir: Path, data: str | None = None) -> list[Task]:
    """Return the tasks of a grid, seed by seed, each after the tasks whose products it takes.

    Configs, overrides, data and files are all checked here, before hours of training. They identify a cell: with
    another recipe it is another cell, in another folder.

    Args:
        path: A config with ``seeds``, and ``backbones``, ``colorizers`` and ``stages`` by the names of rows and
            columns. Each stage judges the rows of its kind.

            A backbone is ``random:NAME`` or ``random:NAME:INPUT_SPACE``, a backbone file, or a dict:
            ``dict(train="rotation", on="toyworld")`` with optional ``data`` and ``overrides``, or
            ``dict(initialize="kmeans", photos=...)`` with optional ``backbone`` (``alexnet:rgb``), ``size`` and
            ``count``.

            A colorizer is what `transfer.color_sources.color_source` takes, or a dict: ``dict(train=...)`` as for a
            backbone, by a method that learns to colour, or ``dict(colorizer=...)``, which names such a row above it or
            again what `color_source` takes. Both may have ``decoding``: overrides of the stage's settings that say how
            it colours (`Stage.by_row`) or what else is measured of it (`Stage.beside_row`).

            A stage is ``dict(stage="linear-probe")`` with optional ``layers``, ``data`` and ``overrides``, and one of
            ``on`` (a data set's config), ``protocol`` and ``config``.

            In overrides ``{ROW}`` stands for the folder of what a row above makes with the same seed:
            ``init={classifier}/backbone.safetensors``.
        work_dir: Folder of the grid.
        data: A data set's config that takes the place of all data, protocols and files that the entries name.

    Raises:
        InputError: The config is not such a grid, or names something that does not exist.
    """
    grid = read_config(path)
    _check_form(path, grid)
    for seed in grid["seeds"]:
        check_seed(seed)
    rows = rows_of(grid, data)
    columns = [_column(name, elsewhere(entry, data)) for name, entry in grid["stages"].items()]
    tasks: list[Task] = []
    # One seed after the other, so that a grid that is cut short has whole tables.
    for seed in grid["seeds"]:
        makers: dict[str, Task] = {}
        for row in rows:
            if row.words:
                makers[row.name] = _maker(row, seed, makers, work_dir)
        for row in rows:
            tasks += [makers[row.name]] if row.words else []
            tasks += [_cell(row, c, seed, makers, work_dir) for c in columns if c.stage.judges == row.judges]
    _check_judged(rows, columns)
    return _in_order(tasks)


def _in_order(tasks: Sequence[Task]) -> list[Task]:
    """Return the tasks, each once and after those that it needs."""
    ordered: dict[Task, None] = {}

    def put(task: Task) -> None:
        for needed in task.needs:
            put(needed)
        ordered.setdefault(task)

    for task in tasks:
        put(task)
    return list(ordered)


def _check_form(path: Path, grid: Mapping[str, Any]) -> None:
    """Raise InputError unless a config has what a grid needs."""
    kinds = {"backbones": Mapping, "colorizers": Mapping, "stages": Mapping, "seeds": Sequence}
    for key, kind in kinds.items():
        either = (
            key in ("backbones", "colorizers")
            and key not in grid
            and {"backbones", "colorizers"} & grid.keys()
        )
        if not either and (not isinstance(grid.get(key), kind) or not grid[key]):
            raise InputError(
                f"{key} of the grid {path} cannot be used",
                received=grid.get(key),
                allowed="a grid needs dicts of backbones (or of colorizers, or of both) and stages, such as backbones ="
                ' dict(random="random:alexnet"), and a list of seeds, with at least one entry each',
            )


def _check_judged(rows: Sequence[Row], columns: Sequence["_Column"]) -> None:
    """Raise InputError for a row or a stage that has no cell, unless what the row makes is taken elsewhere."""
    for column in columns:
        if column.stage.judges not in {row.judges for row in rows}:
            raise InputError(
                f"the stage {column.name} judges {column.stage.judges}s, and the grid has none",
                received=column.stage.name,
                allowed=f"add {column.stage.judges}s to the grid",
            )
    taken = {row.source for row in rows if row.source != row.name}
    lists = [*(row.words for row in rows), *(column.words for column in columns)]
    taken |= {*named_rows([word for words in lists for word in words])}
    judged = {column.stage.judges for column in columns}
    for row in rows:
        if row.judges not in judged and row.name not in taken:
            raise InputError(
                f"no stage of the grid judges {row.judges}s, and nothing takes what {row.name} makes",
                received=row.name,
                allowed=[name for name, stage in STAGES.items() if stage.judges == row.judges],
            )


@dataclass(frozen=True)
class _Column:
    """A column of a grid.

    Attributes:
        name: Name in the grid.
        stage: What is run.
        layers: Layers to probe, as the grid gives them.
        words: The data set's config, if the grid names one, and overrides of the config.
        options: Other arguments of the command.
        values: What the grid says of it.
        config: The resolved config.
        data: The data, as the grid or the config names them.
    """

    name: str
    stage: Stage
    layers: Any
    words: tuple[str, ...]
    options: tuple[str, ...]
    values: Mapping[str, Any]
    config: Mapping[str, Any]
    data: str


def _column(name: str, entry: Any) -> _Column:
    check_name("stage", name)
    values = values_of(f"stage {name}", entry, STAGE)
    check_choice(f"stage of {name}", values["stage"], STAGES)
    settings = _settings(values)
    data = values["data"] or settings.data
    options = [word for key in ("protocol", "config") if values[key] for word in (f"--{key}", values[key])]
    place_of(data)
    options += ["--data", data]
    words = (*([values["on"]] if values["on"] else []), *values["overrides"])
    stage = STAGES[values["stage"]]
    return _Column(name, stage, values["layers"], words, tuple(options), values, settings.config(), data)


def _settings(values: Mapping[str, Any], more: Sequence[str] = ()) -> StageSettings:
    overrides = [*values["overrides"], *more]
    return load_stage_config(
        values["stage"], values["on"], overrides, protocol=values["protocol"], file=values["config"]
    )


def _maker(row: Row, seed: int, makers: Mapping[str, Task], work_dir: Path) -> Task:
    words, needs = _filled(row.words, makers)
    folder = _folder(
        work_dir, row.name, "backbone", seed, [*row.identity, *(task.folder.name for task in needs)]
    )
    return Task(row.name, "backbone", seed, "pretext", words, folder, "backbone.safetensors", needs)


def _filled(words: Sequence[str], makers: Mapping[str, Task]) -> tuple[tuple[str, ...], tuple[Task, ...]]:
    """Return the words with the folders of the rows that they name, and the tasks that make those."""
    filled = with_folders(words, {name: task.folder for name, task in makers.items()})
    return filled, tuple(makers[name] for name in named_rows(words))


def _cell(row: Row, column: _Column, seed: int, makers: Mapping[str, Task], work_dir: Path) -> Task:
    stage, layers = column.stage, _chosen_layers(column, row.layers)
    path, made_by = row.given, tuple(makers[name] for name in (row.source,) if name)
    origin: Sequence[Any] = row.identity
    for maker in made_by:
        path = str(maker.folder / (COLORIZER_NAME if row.judges == "colorizer" else maker.product))
        origin = (maker.folder.name,)
    _check_decoding(row, column)
    own, needs = _filled(column.words, makers)
    words = [stage.name, *([layers] if stage.layers == "argument" else []), path, *own, *row.decoding]
    words += [f"layers={layers}"] if stage.layers == "override" else []
    identity = [stage.name, column.config, layers, column.data, *origin, *row.decoding]
    folder = _folder(
        work_dir, row.name, column.name, seed, [*identity, *(task.folder.name for task in needs)]
    )
    needs = tuple(dict.fromkeys((*made_by, *needs)))
    return Task(
        row.name, column.name, seed, "transfer", (*words, *column.options), folder, RESULTS_NAME, needs
    )


def _check_decoding(row: Row, column: _Column) -> None:
    """Raise InputError unless the stage takes a row's decoding, which may change nothing of how rows are judged."""
    if row.judges != "colorizer":
        return
    stage = column.stage
    for word in row.decoding:
        keys = [*(key for key, _ in stage.by_row), *stage.beside_row]
        check_choice(f"key of the decoding of {row.name}", word.partition("=")[0], keys)
    settings = _settings(column.values, row.decoding)
    if isinstance(settings, ColorizationSettings) and row.given:
        source = color_source(row.given)
        check_needs_no_distribution(source, settings.temperatures, settings.true_histogram)


def _chosen_layers(column: _Column, names: Sequence[str]) -> str:
    """Return the layers of a stage in the form that its command takes; empty for a stage that takes none."""
    name, given = column.name, column.layers
    if column.stage.layers is None:
        if given is not None:
            by_layers = [each.name for each in STAGES.values() if each.layers is not None]
            raise InputError(
                f"the stage {name} takes no layers: it is {column.stage.name}",
                received=given,
                allowed=f"only {' and '.join(by_layers)} take layers",
            )
        return ""
    if given is not None and not isinstance(given, str):
        raise InputError(
            f"layers of the stage {name} must be a text",
            received=given,
            allowed="write, for instance, 'conv1,conv5'",
        )
    if not given or given == "all":
        return "all"
    for layer in given.split(","):
        check_choice(f"layer of the stage {name}", layer.strip(), names)
    return given


def _folder(work_dir: Path, row: str, column: str, seed: int, identity: Sequence[Any]) -> Path:
    content = json.dumps(spelled_for_hash(identity), sort_keys=True, default=str)
    digest = hashlib.sha256(content.encode()).hexdigest()
    return work_dir / f"{row}-{column}-seed{seed}-{digest[:8]}"
