"""The plan of a comparison: its backbones, stages and seeds, and the command of each cell."""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pretext.backbones.checkpoint import build
from pretext.backbones.data_dependent import DATA_KINDS
from pretext.backbones.header import LAYERS, layers_of, parse_name, read_header
from pretext.checks import check_at_least, check_choice, check_seed
from pretext.config import load_config, plain, read_config
from pretext.data.places import data_path, ensure_toyworld
from pretext.errors import InputError
from pretext.old_names import spelled_for_hash
from pretext.training.settings import PretrainingSettings
from transfer.protocols.table import load_stage_config
from transfer.scores.score import RESULTS_NAME
from transfer.stage import STAGES, Stage

#: Keys of a grid's entries, with their defaults.
TRAINED = {"train": None, "on": None, "data": None, "overrides": ()}
INITIALIZED = {"initialize": None, "photos": None, "backbone": "alexnet", "size": 128, "count": 128}
STAGE = {
    "stage": None, "layers": None, "on": None, "protocol": None, "config": None, "data": None, "overrides": (),
}  # fmt: skip
#: Keys whose values are texts.
TEXTS = ("on", "data", "backbone", "protocol", "config")
#: Keys that an entry must have, if they are among its keys.
REQUIRED = ("train", "initialize", "photos", "stage")


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
        needs: Task that makes the backbone, if there is one.
    """

    row: str
    column: str
    seed: int
    module: str
    words: tuple[str, ...]
    folder: Path
    product: str
    needs: "Task | None" = None

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


def plan(path: Path, work_dir: Path) -> list[Task]:
    """Return the tasks of a grid, seed by seed, each backbone before the stages that judge it.

    Configs, overrides, data and backbone files are all checked here, before hours of training. They identify a cell:
    with another recipe it is another cell, in another folder.

    Args:
        path: A config with ``seeds``, and ``backbones`` and ``stages`` by the names of rows and columns. A backbone is
            ``random:NAME`` or ``random:NAME:INPUT_SPACE``, a backbone file, or a dict:
            ``dict(train="rotation", on="toyworld")`` with optional ``data`` and ``overrides``, or
            ``dict(initialize="kmeans", photos=...)`` with optional ``backbone`` (``alexnet:rgb``), ``size`` and
            ``count``. A stage is ``dict(stage="linear-probe")`` with optional ``layers``, ``data`` and ``overrides``,
            and one of ``on`` (a data set's config), ``protocol`` and ``config``.
        work_dir: Folder of the grid.

    Raises:
        InputError: The config is not such a grid, or names something that does not exist.
    """
    grid = read_config(path)
    for key, kind in (("backbones", Mapping), ("stages", Mapping), ("seeds", Sequence)):
        if not isinstance(grid.get(key), kind) or not grid[key]:
            raise InputError(
                f"{key} of the grid {path} cannot be used",
                received=grid.get(key),
                allowed="a grid needs dicts of backbones and stages, such as backbones = dict(random="
                '"random:alexnet"), and a list of seeds, with at least one entry each',
            )
    for seed in grid["seeds"]:
        check_seed(seed)
    backbones = {row: _backbone(row, entry) for row, entry in grid["backbones"].items()}
    stages = [_stage(column, entry) for column, entry in grid["stages"].items()]
    tasks: list[Task] = []
    # One seed after the other, so that a grid that is cut short has whole tables.
    for seed in grid["seeds"]:
        for row, backbone in backbones.items():
            maker = _maker(row, backbone, seed, work_dir) if backbone.words else None
            tasks += [maker] if maker else []
            tasks += [_cell(row, stage, seed, backbone, maker, work_dir) for stage in stages]
    return tasks


@dataclass(frozen=True)
class _Backbone:
    """A row of a grid.

    Attributes:
        layers: Names of the layers that the backbone has or will have.
        given: Backbone as `load_backbone` takes it; empty if a command of the grid makes it.
        words: Arguments of that command.
        identity: What tells the backbone from others.
    """

    layers: tuple[str, ...]
    given: str = ""
    words: tuple[str, ...] = ()
    identity: tuple[Any, ...] = ()


@dataclass(frozen=True)
class _Stage:
    """A column of a grid.

    Attributes:
        column: Name in the grid.
        stage: What is run.
        layers: Layers to probe, as the grid gives them.
        words: The data set's config, if the grid names one, and overrides of the config.
        options: Other arguments of the command.
        config: The resolved config.
        data: The data, as the grid or the config names them.
    """

    column: str
    stage: Stage
    layers: Any
    words: tuple[str, ...]
    options: tuple[str, ...]
    config: Mapping[str, Any]
    data: str


def _backbone(row: str, entry: Any) -> _Backbone:
    if isinstance(entry, str):
        return _Backbone(layers_of(entry), entry, identity=(_origin(entry),))
    if isinstance(entry, Mapping) and "train" in entry:
        values = _values(f"backbone {row}", entry, TRAINED)
        config = load_config("pretext", values["train"], values["on"], values["overrides"])
        settings = PretrainingSettings.from_config(config)
        data = values["data"] or settings.data
        words = ["train", values["train"], *([values["on"]] if values["on"] else []), *values["overrides"]]
        words += ["--data", _data(data)]
        identity: tuple[Any, ...] = (plain(config) | {"init": _origin(settings.init)}, data)
        arguments = dict(settings.backbone)
        architecture = arguments.pop("architecture")
    else:
        values = _values(f"backbone {row}", entry, INITIALIZED)
        architecture, arguments = parse_name(values["backbone"])
        check_choice("architecture to initialise", architecture, LAYERS)
        check_choice("data-dependent initialisation", values["initialize"], DATA_KINDS)
        check_at_least("size", values["size"], 1)
        check_at_least("count", values["count"], 2)
        words = ["initialize", values["initialize"], _data(values["photos"])]
        for key in ("backbone", "size", "count"):
            words += [f"--{key}", str(values[key])]
        identity = (values,)
    with torch.device("meta"):  # only the layers' names are wanted
        layers = build(architecture, arguments).layer_names
    return _Backbone(layers, words=tuple(words), identity=identity)


def _maker(row: str, backbone: _Backbone, seed: int, work_dir: Path) -> Task:
    folder = _folder(work_dir, row, "backbone", seed, backbone.identity)
    return Task(row, "backbone", seed, "pretext", backbone.words, folder, "backbone.safetensors")


def _stage(column: str, entry: Any) -> _Stage:
    values = _values(f"stage {column}", entry, STAGE)
    stage = values["stage"]
    check_choice(f"stage of {column}", stage, STAGES)
    settings = load_stage_config(
        stage, values["on"], values["overrides"], protocol=values["protocol"], file=values["config"]
    )
    data = values["data"] or settings.data
    options = [word for key in ("protocol", "config") if values[key] for word in (f"--{key}", values[key])]
    options += ["--data", _data(data)]
    words = (*([values["on"]] if values["on"] else []), *values["overrides"])
    return _Stage(column, STAGES[stage], values["layers"], words, tuple(options), settings.config(), data)


def _cell(
    row: str, stage: _Stage, seed: int, backbone: _Backbone, maker: Task | None, work_dir: Path
) -> Task:
    layers = _chosen_layers(stage, backbone.layers)
    path, origin = backbone.given, backbone.identity
    if maker is not None:
        path, origin = str(maker.folder / maker.product), (maker.folder.name,)
    name = stage.stage.name
    words = [name, *([layers] if stage.stage.layers == "argument" else []), path, *stage.words]
    words += [f"layers={layers}"] if stage.stage.layers == "override" else []
    identity = [name, stage.config, layers, stage.data, *origin]
    folder = _folder(work_dir, row, stage.column, seed, identity)
    return Task(row, stage.column, seed, "transfer", (*words, *stage.options), folder, RESULTS_NAME, maker)


def _values(what: str, entry: Any, defaults: Mapping[str, Any]) -> dict[str, Any]:
    required = [key for key in defaults if key in REQUIRED]
    if not isinstance(entry, Mapping) or not all(isinstance(entry.get(key), str) for key in required):
        raise InputError(
            f"the {what} of a grid must be a dict with {' and '.join(required)}",
            received=entry,
            allowed=f"its keys may be {', '.join(defaults)}",
        )
    for key in entry:
        check_choice(f"key of the {what}", key, defaults)
        if key in TEXTS and not isinstance(entry[key], str | None):
            raise InputError(f"{key} of the {what} must be a text", received=entry[key])
    overrides = entry.get("overrides", ())
    if not isinstance(overrides, (list, tuple)) or not all(isinstance(word, str) for word in overrides):
        raise InputError(
            f"overrides of the {what} must be a list of texts",
            received=overrides,
            allowed="write, for instance, ['epochs=2']",
        )
    return {**defaults, **entry}


def _chosen_layers(stage: _Stage, names: Sequence[str]) -> str:
    """Return the layers of a stage in the form that its command takes; empty for a stage that takes none."""
    column, given = stage.column, stage.layers
    if stage.stage.layers is None:
        if given is not None:
            by_layers = [name for name, declared in STAGES.items() if declared.layers is not None]
            raise InputError(
                f"the stage {column} takes no layers: it is {stage.stage.name}",
                received=given,
                allowed=f"only {' and '.join(by_layers)} take layers",
            )
        return ""
    if given is not None and not isinstance(given, str):
        raise InputError(
            f"layers of the stage {column} must be a text",
            received=given,
            allowed="write, for instance, 'conv1,conv5'",
        )
    if not given or given == "all":
        return "all"
    for name in given.split(","):
        check_choice(f"layer of the stage {column}", name.strip(), names)
    return given


def _data(name: str) -> str:
    """Return the path of some data; renders the toy world, once, if it is that."""
    return data_path(ensure_toyworld(name))


def _origin(backbone: str) -> str:
    """Return the name of a backbone, or of a start, with, for a file, its hash: another file is another backbone."""
    name = backbone.removeprefix("random:")
    if not name.endswith(".safetensors"):
        return backbone
    sha256: str = read_header(Path(name))["sha256"]
    return f"{backbone} {sha256}"


def _folder(work_dir: Path, row: str, column: str, seed: int, identity: Sequence[Any]) -> Path:
    content = json.dumps(spelled_for_hash(identity), sort_keys=True, default=str)
    digest = hashlib.sha256(content.encode()).hexdigest()
    return work_dir / f"{row}-{column}-seed{seed}-{digest[:8]}"
