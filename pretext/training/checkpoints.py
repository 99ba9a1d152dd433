"""Checkpoints of interrupted runs: which one to go on from."""

import zipfile
from collections.abc import Iterable
from pathlib import Path

import torch

from pretext.errors import InputError
from pretext.progress import say


def newest_whole(checkpoints: Iterable[Path], weights_only: bool) -> Path | None:
    """Find the newest checkpoint that is not damaged, and say which damaged ones are left out.

    Args:
        checkpoints: Files that torch.save wrote, the newest first.
        weights_only: As torch.load takes it: whether they hold nothing but tensors and plain values.

    Returns:
        The checkpoint; None if there are no checkpoints.

    Raises:
        InputError: All checkpoints are damaged. A run does not begin again unasked: days of work may be in them.
    """
    damaged: dict[Path, str] = {}
    for path in checkpoints:
        reason = _damage(path, weights_only)
        if reason is None:
            for left_out, why in damaged.items():
                say(f"left out {left_out}, which is damaged ({why}); going on from {path.name}")
            return path
        damaged[path] = reason
    if damaged:
        raise InputError(
            "no checkpoint of the run is whole",
            received="; ".join(f"{path} ({why})" for path, why in damaged.items()),
            allowed="restore one, or delete them to begin again at step 0",
        )
    return None


def _damage(path: Path, weights_only: bool) -> str | None:
    """Return what is wrong with a checkpoint, None if nothing is.

    torch.load reads changed weights without an error; but torch.save writes a ZIP archive with a checksum of each part.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            part = archive.testzip()
        if part is not None:
            return f"the checksum of {part} differs"
        torch.load(path, map_location="meta", weights_only=weights_only)
    except Exception as error:  # a damaged archive can hold anything
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return None
