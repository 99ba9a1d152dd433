"""The rows of a grid: backbones and colorizers, given, made by a command of the grid, or the product of another row."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from pretext.backbones.checkpoint import build
from pretext.backbones.data_dependent import DATA_KINDS
from pretext.backbones.header import LAYERS, layers_of, parse_name, read_header
from pretext.checks import check_at_least, check_choice
from pretext.config import find_config, load_config, plain, read_config
from pretext.data.places import data_path, ensure_toyworld
from pretext.errors import InputError
from pretext.methods import METHODS
from pretext.methods.base import Method
from pretext.training.settings import PretrainingSettings
from transfer.color_sources import color_source
from transfer.judged import identify
from transfer.stage import STAGES

#: Keys of a grid's entries, with their defaults.
TRAINED = {"train": None, "on": None, "data": None, "overrides": ()}
INITIALIZED = {"initialize": None, "photos": None, "backbone": "alexnet", "size": 128, "count": 128}
COLORIZED = {"colorizer": None, "decoding": ()}
STAGE = {
    "stage": None, "layers": None, "on": None, "protocol": None, "config": None, "data": None, "overrides": (),
}  # fmt: skip
#: Keys whose values are texts.
TEXTS = ("on", "data", "backbone", "protocol", "config")
#: Keys that an entry must have, if they are among its keys.
REQUIRED = ("train", "initialize", "photos", "colorizer", "stage")
#: Keys whose values are lists of texts, with an example.
LISTS = {"overrides": "['epochs=2']", "decoding": "['temperature=0.89']"}

#: Methods of the project that do not learn to colour.
_COLORLESS = frozenset(name for name, each in METHODS.items() if each.colorizer is Method.colorizer)
#: An override that names photos which lend their colours.
_GALLERY = "gallery="
#: What stands for the folder of a row.
_ROW = re.compile(r"\{([\w-]+)\}")


@dataclass(frozen=True)
class Row:
    """A row of a grid.

    Attributes:
        name: Its name in the grid.
        judges: What stages get of it: those that judge the other kind have no cell in this row.
        layers: Names of the layers that a backbone has or will have.
        given: What is judged, as `load_backbone` or `color_source` takes it; empty if a command of the grid makes it.
        words: Arguments of that command; of a row that shows what another row makes, none.
        identity: What tells it from others.
        source: Name of the row that makes what is judged; empty if it is given.
        colors: Whether what it makes is a colorizer, too.
        decoding: Overrides of the stage's settings that say how a colorizer is used, or what else is measured of it.
    """

    name: str
    judges: Literal["backbone", "colorizer"]
    layers: tuple[str, ...] = ()
    given: str = ""
    words: tuple[str, ...] = ()
    identity: tuple[Any, ...] = ()
    source: str = ""
    colors: bool = False
    decoding: tuple[str, ...] = ()


def rows_of(grid: Mapping[str, Any], data: str | None) -> list[Row]:
    """Return the rows of a grid, backbones first.

    Args:
        grid: Has ``backbones``, ``colorizers`` or both.
        data: A data set's config that takes the place of all that entries name; None leaves them as they are.

    Raises:
        InputError: An entry is not one, or names something that does not exist; a name cannot be part of a folder's
            name; or two rows have one name.
    """
    backbones, colorizers = grid.get("backbones", {}), grid.get("colorizers", {})
    both = sorted(set(backbones) & set(colorizers))
    if both:
        raise InputError(
            "a backbone and a colorizer of the grid have one name",
            received=both[0],
            allowed=f"call one otherwise, such as colors=dict(colorizer={both[0]!r})",
        )
    for name in (*backbones, *colorizers):
        check_name("row", name)
    rows = [_backbone(row, elsewhere(entry, data)) for row, entry in backbones.items()]
    for row, entry in colorizers.items():
        rows.append(_colorizer(row, elsewhere(entry, data), [each.name for each in rows if each.colors]))
    return rows


def check_name(kind: str, name: Any) -> None:
    """Raise InputError unless ``name`` may name a row or a stage of a grid, and so a part of a folder's name."""
    if not isinstance(name, str) or not re.fullmatch(r"[\w-]{1,100}", name):
        raise InputError(
            f"a {kind} of the grid has a name that cannot be part of a folder's",
            received=repr(name),
            allowed="letters, digits, - and _, at most 100 of them",
        )


def elsewhere(entry: Any, data: str | None) -> Any:
    """Return an entry with another data set in the place of all that it names; None leaves it as it is.

    What was photos to learn from, a gallery's too, are then those that the data set has for pretraining.
    """
    if data is None or not isinstance(entry, Mapping):
        return entry
    photos = read_config(find_config("data", data)).get("pretext", {}).get("data")
    if "train" in entry or "stage" in entry:
        own = {key: value for key, value in entry.items() if key not in ("data", "protocol", "config")}
        words = own.get("overrides")
        if isinstance(words, (list, tuple)):
            own["overrides"] = [f"{_GALLERY}{photos}" if _is_gallery(word) else word for word in words]
        return own | {"on": data}
    if "initialize" in entry:
        return {**entry, "photos": photos}
    return entry


def _is_gallery(word: Any) -> bool:
    return isinstance(word, str) and word.startswith(_GALLERY)


def named_rows(texts: Sequence[str]) -> list[str]:
    """Return the rows that ``{ROW}`` in some texts names, each once."""
    return list(dict.fromkeys(name for text in texts for name in _ROW.findall(text)))


def with_folders(texts: Sequence[str], folders: Mapping[str, Path]) -> tuple[str, ...]:
    """Return the texts with the folder of what a row makes in the place of each ``{ROW}``.

    Raises:
        InputError: There is no such row, or it makes nothing.
    """
    for name in named_rows(texts):
        if name not in folders:
            raise InputError(
                f"{{{name}}} stands for the folder of what a row above it makes",
                received=name,
                allowed=tuple(folders) or "no row above it makes anything",
            )
    return tuple(_ROW.sub(lambda match: str(folders[match[1]]), text) for text in texts)


def _backbone(row: str, entry: Any) -> Row:
    if isinstance(entry, str):
        return Row(row, "backbone", layers_of(entry), entry, identity=(origin(entry),))
    if isinstance(entry, Mapping) and "train" in entry:
        return _trained(row, values_of(f"backbone {row}", entry, TRAINED))
    values = values_of(f"backbone {row}", entry, INITIALIZED)
    architecture, arguments = parse_name(values["backbone"])
    check_choice("architecture to initialise", architecture, LAYERS)
    check_choice("data-dependent initialisation", values["initialize"], DATA_KINDS)
    check_at_least("size", values["size"], 1)
    check_at_least("count", values["count"], 2)
    words = ["initialize", values["initialize"], place_of(values["photos"])]
    for key in ("backbone", "size", "count"):
        words += [f"--{key}", str(values[key])]
    layers = _layers(architecture, arguments)
    return Row(row, "backbone", layers, words=tuple(words), identity=(values,), source=row)


def _trained(
    row: str, values: Mapping[str, Any], judges: Literal["backbone", "colorizer"] = "backbone"
) -> Row:
    config = load_config("pretext", values["train"], values["on"], values["overrides"])
    settings = PretrainingSettings.from_config(config)
    colors = settings.method.get("type") not in _COLORLESS
    if judges == "colorizer" and not colors:
        raise InputError(
            f"the colorizer {row} is trained by a method that does not learn to colour",
            received=values["train"],
            allowed=f"configs of {' or '.join(sorted(METHODS.keys() - _COLORLESS))}",
        )
    data = values["data"] or settings.data
    words = ["train", values["train"], *([values["on"]] if values["on"] else []), *values["overrides"]]
    place_of(data)
    words += ["--data", data]
    identity = (plain(config) | {"init": origin(settings.init)}, data)
    arguments = dict(settings.backbone)
    layers = _layers(arguments.pop("architecture"), arguments)
    return Row(row, judges, layers, "", tuple(words), identity, row, colors)


def _colorizer(row: str, entry: Any, made: Sequence[str]) -> Row:
    what = f"colorizer {row}"
    if isinstance(entry, Mapping) and "train" in entry:
        values = values_of(what, entry, TRAINED | {"decoding": ()})
        return _decoded(_trained(row, values, "colorizer"), values["decoding"])
    values = values_of(what, {"colorizer": entry} if isinstance(entry, str) else entry, COLORIZED)
    given = values["colorizer"]
    if given in made:
        return _decoded(Row(row, "colorizer", source=given), values["decoding"])
    return _decoded(
        Row(row, "colorizer", given=given, identity=_color_origin(given, made)), values["decoding"]
    )


def _decoded(row: Row, decoding: Sequence[str]) -> Row:
    return replace(row, decoding=tuple(decoding))


def _color_origin(given: str, made: Sequence[str]) -> tuple[str, ...]:
    """Return what tells colours from others: of files with their hash, as other files are other colours."""
    try:
        if color_source(given).kind == "baseline":
            return (given,)
        return (given, identify(STAGES["colorization"], given, 0).sha256)
    except InputError as error:
        above = f"a row above it, {', '.join(made)}" if made else "a row above it, of which none makes some"
        raise InputError(
            error.what, received=error.received, allowed=f"{error.allowed}; or {above}"
        ) from error


def _layers(architecture: str, arguments: dict[str, Any]) -> tuple[str, ...]:
    with torch.device("meta"):  # only the layers' names are wanted
        return build(architecture, arguments).layer_names


def values_of(what: str, entry: Any, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of an entry of a grid, with the defaults of those that it does not name.

    Raises:
        InputError: It is no such entry, or has an unknown key or a value of a wrong type.
    """
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
    for key, example in LISTS.items():
        words = entry.get(key, ())
        if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
            raise InputError(
                f"{key} of the {what} must be a list of texts",
                received=words,
                allowed=f"write, for instance, {example}",
            )
    return {**defaults, **entry}


def place_of(data: str) -> str:
    """Return the path of some data; renders the toy world, or unpacks CIFAR-10, once, if it is that.

    Scores and backbones record the name of the data, so that commands are given the name.
    """
    return data_path(ensure_toyworld(data))


def origin(backbone: str) -> str:
    """Return the name of a backbone, or of a start, with, for a file, its hash: another file is another backbone.

    A file that a row of the grid makes is told by its ``{ROW}``.
    """
    name = backbone.removeprefix("random:")
    if not name.endswith(".safetensors") or named_rows([name]):
        return backbone
    sha256: str = read_header(Path(name))["sha256"]
    return f"{backbone} {sha256}"
