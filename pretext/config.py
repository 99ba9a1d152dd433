"""Configs: finding them by name, putting them together, overriding them key by key, and writing down the result.

A config is a Python file of plain assignments. ``base = "_alexnet"`` at its top runs that file first, so that its
names can be changed (``view.update(size=64)``). The base is a file beside it, or a config of the project such as
``pretext/rotation``. Names that begin with an underscore are private.

What is trained or scored is one config, and on what another one: ``configs/data/<name>.py`` holds what a data set
changes, in a dict for all of ``pretext`` and in dicts for single configs such as ``egomotion`` or ``linear_probe``.
"""

import ast
import copy
import difflib
import importlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pretext.errors import InputError
from pretext.old_names import MENDED, NAMES, new_spelling, renamed

PACKAGE = Path(__file__).resolve().parent
#: The data set of a config that names none.
DEFAULT_DATA = "toyworld"
#: What values of a type are called in messages.
WORDS: dict[Any, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    tuple: "a list",
    list: "a list",
    dict: "a dict",
}
#: What the configs of a folder are called in messages.
KINDS = {"pretext": "method", "transfer": "stage", "data": "data set", "compare": "grid"}


def config_folder() -> Path:
    """Folder of the configs that come with the project: in a checkout its own, else inside the package."""
    checkout = PACKAGE.parent / "configs"
    return checkout if checkout.is_dir() else PACKAGE / "configs"


def config_names(folder: str) -> tuple[str, ...]:
    """Names of the project's configs in one of its folders, such as ``pretext`` or ``data``."""
    files = sorted((config_folder() / folder).glob("*.py"))
    return tuple(file.stem for file in files if not file.stem.startswith("_"))


def find_config(folder: str, name: str) -> Path:
    """Find a config: a name in one of the project's folders, or the path of a file (.py, or .json as it was recorded).

    Raises:
        InputError: There is no such config.
    """
    own = config_folder() / folder / f"{name}.py"
    if name in config_names(folder):
        return own
    path = Path(name)
    if path.suffix in (".py", ".json") and path.is_file():
        return path
    if spelling := new_spelling(name):
        raise InputError("configs are named otherwise now", received=name, allowed=f"write {spelling}")
    if folder in ("pretext", "data") and path.exists():
        raise InputError(f"{name} is not a config", allowed=f"write --data {name} if it holds the photos")
    names = config_names(folder)
    close = difflib.get_close_matches(name, names, 1)
    raise InputError(
        f"unknown {KINDS[folder]}: configs/{folder} has no such file",
        received=name,
        allowed=f"{_did_you_mean(close)}allowed are {', '.join(names)}, or the path of a .py or .json file",
    )


def load_config(
    folder: str, name: str, data: str | None = None, overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """Put a config together: its file, what the data set changes, and the overrides.

    Args:
        folder: ``pretext`` or ``transfer``.
        name: See :func:`find_config`.
        data: A config of ``data`` likewise. None leaves the config as it is if it names its data, and else takes
            `DEFAULT_DATA`.
        overrides: See :func:`apply_overrides`.

    Raises:
        InputError: A config cannot be found or read, the data set has nothing for it, or an override is wrong.
    """
    path = find_config(folder, name)
    config = read_config(path)
    data = data or default_data(config)
    if data is not None:
        changes = read_config(find_config("data", data))
        sections = [section for section in (folder, path.stem) if section in changes]
        if not sections:
            raise InputError(
                f"the data set says nothing about {path.stem}",
                received=data,
                allowed=data_sets_for(path.stem) or f"{data} has sections for {', '.join(changes)}",
            )
        for section in sections:
            config = merge(config, changes[section])
    apply_overrides(config, overrides)
    return config


def data_sets_for(section: str) -> tuple[str, ...]:
    """Names of the data configs with a section of that name, such as ``linear_probe``."""
    return tuple(name for name in config_names("data") if section in read_config(find_config("data", name)))


def default_data(config: Mapping[str, Any]) -> str | None:
    """The data set of a config for which none is given: `DEFAULT_DATA`, or None if it names its data itself."""
    return DEFAULT_DATA if "data" in config and config["data"] is None else None


def read_config(path: Path) -> dict[str, Any]:
    """The values of one config file, those of its base included.

    Raises:
        InputError: It cannot be read.
    """
    try:
        if path.suffix == ".json":
            values = json.loads(path.read_text(encoding="utf-8"))
        elif _imports(tree := ast.parse(path.read_text(encoding="utf-8"), str(path))):
            values = _read_lazily(path)
        else:
            values = _run(tree, path)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"the config {path} cannot be read ({type(error).__name__}: {error})",
            allowed="allowed are Python files of plain assignments, or JSON",
        ) from error
    if not isinstance(values, dict):
        raise InputError(
            f"{path} is not a config", received=type(values).__name__, allowed="an object of JSON"
        )
    kept: dict[str, Any] = renamed({key: value for key, value in values.items() if not key.startswith("_")})
    return kept


def merge(config: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` with ``changes``; a dict with a ``type`` replaces one, a dict without changes entries of it."""
    merged = copy.deepcopy(config)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, Mapping) and "type" not in value:
            merged[key] = old | copy.deepcopy(dict(value))
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def apply_overrides(config: dict[str, Any], overrides: Sequence[str]) -> None:
    """Apply overrides to a config in place.

    A run has either steps or epochs: where only one of them is overridden, the other becomes None.

    Args:
        config: Nested dicts.
        overrides: ``key=value`` or ``key.subkey=value``; values are Python literals, or else strings.

    Raises:
        InputError: An unknown key, or a value of another type.
    """
    for override in overrides:
        _apply(config, override)
    keys = {override.partition("=")[0] for override in overrides}
    for key, other in (("steps", "epochs"), ("epochs", "steps")):
        if key in keys and other not in keys and other in config and config[key] is not None:
            config[other] = None


def build(spec: Mapping[str, Any], table: Mapping[str, Callable[..., Any]], *args: Any, **kwargs: Any) -> Any:
    """Call the class that ``spec["type"]`` names with the other entries as keyword arguments.

    Args:
        spec: ``type`` and arguments. The type is a name in ``table``, or the dotted path of a class elsewhere.
        table: Classes by their names.
        args: Further arguments; they come first.
        kwargs: Further keyword arguments; they win over those of ``spec``.

    Raises:
        InputError: The class cannot be found, or does not take these arguments or their values.
    """
    arguments = {key: value for key, value in spec.items() if key != "type"} | kwargs
    name = spec.get("type")
    if not isinstance(name, str):
        received = repr(name) if "type" in spec else f"one without a type: {dict(spec)}"
        raise InputError("a part of the config names no class", received=received, allowed=table)
    kind = table[name] if name in table else _import(name, table)
    try:
        return kind(*args, **arguments)
    except InputError:
        raise
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        raise InputError(f"{name} does not take the config's arguments ({error})") from error


def plain(value: Any) -> Any:
    """``value`` with tuples as lists and keys as texts: what JSON can hold."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return value


def _imports(tree: ast.Module) -> bool:
    return any(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.walk(tree))


def _run(tree: ast.Module, path: Path) -> dict[str, Any]:
    """The names that a config without imports assigns, those of its base first."""
    values: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["base"]:
            name = ast.literal_eval(node.value)
            file = next((f for f in _places(path.parent, name) if f.is_file()), None)
            if file is None:
                raise InputError(
                    f"the base of {path} does not exist",
                    received=name,
                    allowed="allowed are a file beside it, or a config of the project such as pretext/rotation",
                )
            values = _run(ast.parse(file.read_text(encoding="utf-8"), str(file)), file)
    exec(compile(tree, str(path), "exec"), values)
    for name in ("__builtins__", "base"):
        values.pop(name, None)
    return values


def _places(folder: Path, name: str) -> list[Path]:
    return [folder / f"{name}.py", config_folder() / f"{name}.py"]


def _read_lazily(path: Path) -> dict[str, Any]:
    """The values of a config that imports classes, or reads a base as mmengine's do; classes by their dotted names."""
    # Imported here: it takes seconds, and configs of the project have no imports.
    from mmengine.config import Config

    values: dict[str, Any] = Config.fromfile(str(path), lazy_import=True).to_dict()
    return values


def _did_you_mean(close: Sequence[str]) -> str:
    return f"did you mean {' or '.join(close)}? " if close else ""


def _apply(config: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise InputError("an override must read key=value", received=override)
    *parents, leaf = key.split(".")
    node: Any = config
    for parent in parents:
        node = node.get(parent) if isinstance(node, dict) else None
    if not isinstance(node, dict) or leaf not in node:
        known = _keys(config)
        hint = _did_you_mean(difflib.get_close_matches(key, known, 3))
        raise InputError("unknown config key", received=key, allowed=f"{hint}allowed are {', '.join(known)}")
    node[leaf] = _parse(key, text, node[leaf])


def _parse(key: str, text: str, current: Any) -> Any:
    if key.split(".")[-1] == "type":
        return NAMES.get(text, text)
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = text
    if isinstance(current, float) and isinstance(value, int) and not isinstance(value, bool):
        with suppress(OverflowError):
            value = float(value)
    if isinstance(current, str) and not isinstance(value, str):
        value = text if value is not None else None
    same_type = isinstance(value, type(current)) and isinstance(value, bool) == isinstance(current, bool)
    if current is None or value is None or same_type:
        return value
    if isinstance(current, (list, tuple)) and isinstance(value, (list, tuple)):
        return type(current)(value)
    raise InputError(
        f"{key} has a wrong type",
        received=text,
        allowed=f"allowed is {WORDS.get(type(current), type(current).__name__)}, such as {current!r}",
    )


def _keys(config: dict[str, Any], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in config.items():
        keys += _keys(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]
    return keys


def _import(name: str, table: Iterable[str]) -> Any:
    if name in MENDED:
        raise InputError(
            "a type in the config does not do what its paper's code does",
            received=name,
            allowed=f"write {MENDED[name]}; what {name} made is kept apart from its results",
        )
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            "unknown type in the config",
            received=name,
            allowed=f"allowed are {', '.join(table)}, or the dotted path of a class outside the project",
        ) from error
