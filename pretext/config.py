"""Configs: finding them by name, overriding them key by key, and writing down what was resolved."""

import ast
import difflib
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from pretext.errors import InputError
from pretext.old_names import NAMES, renamed

PACKAGE = Path(__file__).resolve().parent


def config_folder() -> Path:
    """Folder of the configs that come with the project: in a checkout its own, else inside the package."""
    checkout = PACKAGE.parent / "configs"
    return checkout if checkout.is_dir() else PACKAGE / "configs"


def load_config(name: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Load a config and apply ``key=value`` overrides.

    What a config builds is named by a short name from a table (``type="RandomCrop"``), or by the dotted path of a class
    outside the project; :func:`build` finds both.

    Args:
        name: Path of a config, or its path below the project's configs, with or without ``.py``.
        overrides: ``key=value`` or ``key.subkey=value``; values are Python literals, or else strings.

    Raises:
        InputError: No such config; it cannot be read; an unknown key; or a value of another type.
    """
    path = _find(name)
    try:
        loaded = Config.fromfile(str(path), lazy_import=True if path.suffix == ".py" else None)
    except Exception as error:
        raise InputError(f"the config {path} cannot be read: {type(error).__name__}: {error}") from error
    config = ConfigDict(renamed(loaded.to_dict()))
    apply_overrides(config, overrides)
    return config


def apply_overrides(config: ConfigDict, overrides: Sequence[str]) -> None:
    """Apply ``key=value`` overrides to a config in place; values and errors as for :func:`load_config`."""
    for override in overrides:
        _apply(config, override)


def config_name(name: str) -> str:
    """The name a config's runs are filed under: its file name without ending."""
    return Path(name).stem


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
    name = spec["type"]
    kind = table[name] if name in table else _import(name, table)
    try:
        return kind(*args, **arguments)
    except InputError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} does not take the config's arguments: {error}") from error


def plain(value: Any) -> Any:
    """``value`` with tuples as lists and keys as texts: what JSON can hold."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return value


def _find(name: str) -> Path:
    folder = config_folder()
    # The project's own first: its configs are called like its modules, which a checkout's root shows too.
    places = [folder / name, folder.parent / name, Path(name)]
    for place in places:
        for path in (place, place.with_name(f"{place.name}.py")):
            if path.is_file():
                return path
    known = sorted(str(p.relative_to(folder)) for p in folder.glob("*/*.py") if p.parent.name[0] != "_")
    raise InputError(f"no such config: received {name}, allowed are a path or one of {', '.join(known)}")


def _apply(config: ConfigDict, override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise InputError(f"an override must read key=value: received {override!r}")
    *parents, leaf = key.split(".")
    node: Any = config
    for parent in parents:
        node = node.get(parent) if isinstance(node, dict) else None
    if not isinstance(node, dict) or leaf not in node:
        known = _keys(config)
        close = difflib.get_close_matches(key, known, 3)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise InputError(f"unknown config key: received {key}; {hint}allowed are {', '.join(known)}")
    node[leaf] = _parse(key, text, node[leaf])


def _parse(key: str, text: str, current: Any) -> Any:
    if key.split(".")[-1] == "type":
        return NAMES.get(text, text)
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if isinstance(current, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(current, str) and not isinstance(value, str):
        value = text if value is not None else None
    if current is None or value is None or isinstance(value, type(current)):
        return value
    if isinstance(current, (list, tuple)) and isinstance(value, (list, tuple)):
        return type(current)(value)
    raise InputError(
        f"a wrong type for the config key {key}: received {text!r}, expected {type(current).__name__}"
        f" like {current!r}"
    )


def _keys(config: dict[str, Any], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in config.items():
        keys += _keys(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]
    return keys


def _import(name: str, table: Iterable[str]) -> Any:
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            "unknown type in the config",
            received=name,
            allowed=f"allowed are {', '.join(table)}, or the dotted path of a class outside the project",
        ) from error
