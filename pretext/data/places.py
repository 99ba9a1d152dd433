"""Where data are: paths, names below PRETEXT_DATA, and what is made when it is first asked for.

The toy world is rendered, and CIFAR-10's batches are unpacked.

Nothing heavy is imported here: a wrong name is told at once.
"""

import os
import sys
from pathlib import Path

from braceexpand import UnbalancedBracesError, braceexpand  # type: ignore[attr-defined]  # not exported

from pretext.errors import InputError
from pretext.files import WORK_DIRS, is_file


def data_path(name: str) -> str:
    """Find a data set: an existing path or a URL as it is, else a name below the folder PRETEXT_DATA.

    A brace pattern is where at least one of its files is. CIFAR-10's batches are unpacked, once, below WORK_DIRS:
    ``cifar-10-batches-py`` gives the folder with both splits, ``cifar-10-batches-py/train`` one of them.

    Raises:
        InputError: It is in neither place, or the batches are damaged.
    """
    if not name.strip():  # which would be the current folder
        raise InputError(
            "no data are named", received=name, allowed="name a path, or a place below PRETEXT_DATA"
        )
    root = os.environ.get("PRETEXT_DATA")
    for place in (Path(name), *([Path(root) / name] if root else [])):
        if unpacked := _unpacked(place):
            return unpacked
        if "://" in name or _exists(place):
            return name if place == Path(name) else str(place)
    below = f"PRETEXT_DATA={root}" if root else "PRETEXT_DATA, which is not set"
    raise InputError("no such data", received=name, allowed=f"name a path, or a place below {below}")


def _unpacked(path: Path) -> str | None:
    """Return where the batches of CIFAR-10, or a split of them, are unpacked; None for any other path."""
    folder, split = (path.parent, path.name) if path.name in ("train", "test") else (path, "")
    if not is_file(folder / "data_batch_1"):
        return None
    # Imported here: it brings NumPy and Pillow.
    from pretext.data.cifar10 import unpack_cifar10

    return str(unpack_cifar10(folder, WORK_DIRS / "unpacked") / split)


def _exists(path: Path) -> bool:
    if path.exists():
        return True
    try:
        return any(Path(file).exists() for file in braceexpand(str(path)))
    except UnbalancedBracesError as error:
        raise InputError(f"the pattern has unbalanced braces ({error})", received=str(path)) from error


def ensure_toyworld(data: str) -> str:
    """Render the toy data below WORK_DIRS if ``data`` names it and it is not there yet.

    Returns:
        The path of the toy data, or ``data`` as it is.
    """
    name, _, below = data.partition("/")
    if name != "toyworld" or Path(data).exists():
        return data
    root = os.environ.get("PRETEXT_DATA")
    if root and (Path(root) / data).exists():
        return data
    toyworld = WORK_DIRS / "toyworld"
    if not toyworld.is_dir():
        # Imported here: it brings NumPy and Pillow.
        from pretext.data.toyworld import render_toyworld

        print(f"rendering the toy data into {toyworld} (once)", file=sys.stderr)
        render_toyworld(toyworld)
    return str(toyworld / below)
