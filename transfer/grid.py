"""What a comparison is made of: backbones, stages and seeds, and the command of each cell."""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretext.backbones.checkpoint import build, layers_of, parse_name, read_header
from pretext.checks import check_at_least, check_choice
from pretext.config import load_config, plain
from pretext.data.places import data_path, ensure_toyworld
from pretext.errors import InputError
from pretext.initializers import DATA_KINDS
from pretext.old_names import spelled_for_hash
from transfer.protocols import load_stage_config, run_length
from transfer.results import RESULTS_NAME
from transfer.stage import STAGES

#: Keys of a grid's entries, with their values where none is given.
TRAINED = {"train": None, "data": None, "overrides": ()}
INITIALIZED = {"initialize": None, "photos": None, "backbone": "alexnet", "size": 128, "count": 128}
STAGE = {"stage": None, "layers": None, "config": None, "data": None, "overrides": ()}
#: Keys that must be there.
REQUIRED = ("train", "initialize", "photos", "stage")
#: Stages that look at chosen layers.
LAYER_STAGES = ("linear-probe", "voc-svm")


@dataclass(frozen=True)
class Task:
    """One command of a grid.

    Attributes:
        row: Name of the backbone, as the grid calls it.
        column: ``backbone``, or the stage as the grid calls it.
        seed: Of the command.
        module: ``pretext`` or ``transfer``.
        words: Its arguments, without ``--seed`` and where to write.
        folder: What the command writes goes here, its output to ``output.txt``.
        product: The file in the folder that is there, and whole, once the command has ended well.
        needs: The task that makes the backbone, if one does.
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
        """Whether the command has ended well, now or earlier."""
        path = self.folder / self.product
        if self.product != RESULTS_NAME:  # written whole or not at all
            return path.is_file()
        return path.is_file() and path.read_bytes()[-1:] == b"\n"

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.row} {self.column} seed {self.seed}"

    def command(self) -> list[str]:
        """The command line."""
        where = ["--work-dir", str(self.folder)]
        if self.words[0] == "initialize":
            where = ["--out", str(self.folder / self.product)]
        return [sys.executable, "-m", self.module, *self.words, *where, "--seed", str(self.seed)]


def plan(name: str, work_dir: Path) -> list[Task]:
    """The tasks of a grid, seed by seed, backbones before what they are for.

    Everything that can be checked before hours of training is: configs, overrides, data, backbone files. A cell is
    known by all of that; another recipe is another cell.

    Args:
        name: A config, as `pretext.config.load_config` finds it, with ``seeds``, ``backbones`` and ``stages`` by the
            names of rows and columns. A backbone is ``random:NAME`` or ``random:NAME:INPUT_SPACE``, a backbone file, or
            a dict: ``dict(train=CONFIG)`` with ``data`` and ``overrides``, or ``dict(initialize="kmeans", photos=...)``
            with ``backbone`` (``alexnet:rgb``), ``size`` and ``count``. A stage is ``dict(stage="linear-probe")`` with
            ``layers``, ``config``, ``data`` and ``overrides``.
        work_dir: Folder of the grid.

    Raises:
        InputError: The config is not such a grid, or something in it is not there.
    """
    grid = load_config(name)
    for key, kind in (("backbones", Mapping), ("stages", Mapping), ("seeds", Sequence)):
        if not isinstance(grid.get(key), kind) or not grid[key]:
            raise InputError(
                f"the grid {name} has no {key}: received {grid.get(key)!r}; a grid needs backbones and stages by their"
                " names, and a list of seeds, each with an entry or more"
            )
    for seed in grid["seeds"]:
        check_at_least("seed of a grid", seed, 0)
    layers = {row: _layer_names(row, backbone) for row, backbone in grid["backbones"].items()}
    tasks: list[Task] = []
    # All of a seed before the next: a grid that is cut short has whole tables.
    for seed in grid["seeds"]:
        for row, backbone in grid["backbones"].items():
            maker = _maker(row, backbone, seed, work_dir)
            tasks += [maker] if maker else []
            tasks += [
                _cell(row, column, stage, seed, maker or backbone, layers[row], work_dir)
                for column, stage in grid["stages"].items()
            ]
    return tasks


def _layer_names(row: str, entry: Any) -> tuple[str, ...]:
    """The layers that a backbone of the grid has or will have."""
    if isinstance(entry, str):
        return layers_of(entry)
    if isinstance(entry, Mapping) and "train" in entry:
        values = _values(f"backbone {row!r}", entry, TRAINED)
        arguments = dict(load_config(values["train"], values["overrides"])["backbone"])
        return build(arguments.pop("architecture"), arguments).layer_names
    architecture, arguments = parse_name(_values(f"backbone {row!r}", entry, INITIALIZED)["backbone"])
    check_choice("architecture to initialise", architecture, ("alexnet", "vgg16"))
    return build(architecture, arguments).layer_names


def _maker(row: str, entry: Any, seed: int, work_dir: Path) -> Task | None:
    if isinstance(entry, str):
        return None
    if isinstance(entry, Mapping) and "train" in entry:
        values = _values(f"backbone {row!r}", entry, TRAINED)
        config = load_config(values["train"], values["overrides"])
        data = values["data"] or config["data"]
        words = ["train", values["train"], *values["overrides"], "--data", _data(data)]
        identity = [plain(config), data]
    else:
        values = _values(f"backbone {row!r}", entry, INITIALIZED)
        check_choice("data-dependent initialisation", values["initialize"], DATA_KINDS)
        check_at_least("size", values["size"], 1)
        check_at_least("count", values["count"], 2)
        words = ["initialize", values["initialize"], _data(values["photos"])]
        for key in ("backbone", "size", "count"):
            words += [f"--{key}", str(values[key])]
        identity = [values]
    folder = _folder(work_dir, row, "backbone", seed, identity)
    return Task(row, "backbone", seed, "pretext", tuple(words), folder, "backbone.safetensors")


def _cell(
    row: str,
    column: str,
    entry: Any,
    seed: int,
    backbone: Task | str,
    layers: Sequence[str],
    work_dir: Path,
) -> Task:
    values = _values(f"stage {column!r}", entry, STAGE)
    stage = values["stage"]
    check_choice(f"stage of {column!r}", stage, STAGES)
    file = values["config"] or STAGES[stage][0]
    config = load_stage_config(stage, file, values["overrides"])
    run_length(config, 1)
    data = values["data"] or config["data"]
    if isinstance(backbone, Task):
        path, origin = str(backbone.folder / backbone.product), backbone.folder.name
    else:
        path, origin = backbone, _origin(backbone)
    chosen = _chosen_layers(column, stage, values["layers"], layers)
    words = [stage, *([chosen] if stage == "linear-probe" else []), path, *values["overrides"]]
    words += [f"layers={chosen}"] if stage == "voc-svm" else []
    words += ["--config", file, "--data", _data(data)]
    identity = [stage, plain(config), chosen, data, origin]
    folder = _folder(work_dir, row, column, seed, identity)
    needs = backbone if isinstance(backbone, Task) else None
    return Task(row, column, seed, "transfer", tuple(words), folder, RESULTS_NAME, needs)


def _values(what: str, entry: Any, defaults: Mapping[str, Any]) -> dict[str, Any]:
    required = [key for key in defaults if key in REQUIRED]
    if not isinstance(entry, Mapping) or not all(isinstance(entry.get(key), str) for key in required):
        raise InputError(
            f"the {what} of a grid is not one: received {entry!r}, expected a dict with {' and '.join(required)}"
        )
    for key in entry:
        check_choice(f"key of the {what}", key, defaults)
    overrides = entry.get("overrides", ())
    if not isinstance(overrides, (list, tuple)) or not all(isinstance(word, str) for word in overrides):
        raise InputError(
            f"overrides of the {what} are a list of texts: received {overrides!r}, expected such as ['epochs=2']"
        )
    return {**defaults, **entry}


def _chosen_layers(column: str, stage: str, given: Any, names: Sequence[str]) -> str:
    """The layers of a stage as its command takes them; nothing for a stage that takes none."""
    if stage not in LAYER_STAGES:
        if given is not None:
            raise InputError(
                f"the stage {column!r} takes no layers: received {given!r}, allowed for {', '.join(LAYER_STAGES)}"
            )
        return ""
    if given is not None and not isinstance(given, str):
        raise InputError(
            f"layers of {column!r} are a text: received {given!r}, expected such as 'conv1,conv5'"
        )
    for name in (given or "all").split(","):
        check_choice(f"layer of {column!r}", name.strip(), ("all", *names))
    return given or "all"


def _data(name: str) -> str:
    """The path of some data; the toy world is rendered once, here."""
    return data_path(ensure_toyworld(name))


def _origin(backbone: str) -> str:
    """What tells a given backbone from another of the same name."""
    name = backbone.removeprefix("random:")
    if not name.endswith(".safetensors"):
        return backbone
    sha256: str = read_header(Path(name))["sha256"]
    return f"{backbone} {sha256}"


def _folder(work_dir: Path, row: str, column: str, seed: int, identity: Sequence[Any]) -> Path:
    content = json.dumps(spelled_for_hash(identity), sort_keys=True, default=str)
    digest = hashlib.sha256(content.encode()).hexdigest()
    return work_dir / f"{row}-{column}-seed{seed}-{digest[:8]}"
