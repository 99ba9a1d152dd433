"""Reading a config into the fields of a frozen dataclass, each by its type. Nothing heavy is imported here."""

import difflib
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields
from typing import Any

from pretext.config import WORDS
from pretext.errors import InputError


class Spec(Mapping[str, Any]):
    """What a config says of a class from a table: ``type``, and arguments. It cannot be changed."""

    def __init__(self, *args: Any, **entries: Any):
        self._entries = {key: _frozen(value) for key, value in dict(*args, **entries).items()}

    def __getitem__(self, key: str) -> Any:
        return self._entries[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __or__(self, changes: Mapping[str, Any]) -> "Spec":
        return Spec({**self, **changes})

    def __repr__(self) -> str:
        return repr(self._entries)

    def __hash__(self) -> int:
        return hash(tuple(sorted(self._entries)))


def read_fields(
    kind: Any,
    config: Mapping[str, Any],
    prefix: str = "",
    readers: Mapping[Any, Callable[[Any], Any]] = types.MappingProxyType({}),
) -> dict[str, Any]:
    """Return the values of a config as the fields of a dataclass hold them.

    Args:
        kind: The dataclass.
        config: A value for each field that has no default, and perhaps for others.
        prefix: What stands before a key in errors, such as ``schedule.``.
        readers: Functions that read the values of fields of some types.

    Raises:
        InputError: A key is unknown or missing, or a value has a wrong type.
    """
    known = {each.name: each for each in fields(kind)}
    for key in config:
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {prefix}{close[0]}? " if close else ""
            raise InputError(
                "unknown config key",
                received=f"{prefix}{key}",
                allowed=f"{hint}allowed are {', '.join(known)}",
            )
    missing = [key for key, each in known.items() if key not in config and each.default is MISSING]
    if missing:
        raise InputError("a config lacks keys", received=f"one without {', '.join(missing)}", allowed=known)
    hints = typing.get_type_hints(kind)
    return {
        key: readers[hints[key]](value) if hints[key] in readers else _read(prefix + key, value, hints[key])
        for key, value in config.items()
    }


def _read(name: str, value: Any, hint: Any) -> Any:
    value = _as_float(_frozen(value), hint)
    if not _fits(value, hint):
        raise InputError(
            f"{name} has a wrong type", received=repr(value), allowed=f"allowed is {_told(hint)}"
        )
    return value


def _as_float(value: Any, hint: Any) -> Any:
    """Return whole numbers as floats where a float is wanted."""
    parts = typing.get_args(hint)
    if isinstance(value, tuple) and float in parts:
        return tuple(_as_float(entry, float) for entry in value)
    wanted = hint is float or (isinstance(hint, types.UnionType) and float in parts)
    return float(value) if wanted and isinstance(value, int) and not isinstance(value, bool) else value


def _fits(value: Any, hint: Any) -> bool:
    parts = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if typing.get_origin(hint) is typing.Literal:
        return value in parts
    if typing.get_origin(hint) is tuple:
        count_fits = parts[-1] is ... or (isinstance(value, tuple) and len(value) == len(parts))
        return isinstance(value, tuple) and count_fits and all(_fits(entry, parts[0]) for entry in value)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _told(hint: Any) -> str:
    parts = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return " or ".join(_told(part) for part in parts)
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(map(str, parts))
    if typing.get_origin(hint) is tuple:
        count = "" if parts[-1] is ... else f"of {len(parts)} entries, "
        return f"a list, {count}each {_told(parts[0])}"
    return WORDS.get(dict if hint is Spec else hint, "None")


def _frozen(value: Any) -> Any:
    """Return a copy that nothing can change."""
    if isinstance(value, Mapping):
        return Spec(value)
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple)) else value
