"""A work folder belongs to one run: the one that its ``config.json`` describes."""

import json
import shutil
from pathlib import Path
from typing import Any

from pretext.errors import InputError
from pretext.files import write_whole
from pretext.runner import latest_checkpoint


def claim(folder: Path, identity: dict[str, Any], needed_bytes: int, fresh: bool) -> None:
    """Take a folder for a run, or find that it holds this run already.

    Args:
        folder: Made if it is missing.
        identity: What makes another run the same run, as JSON can hold it; written to ``config.json``.
        needed_bytes: Room that the run takes.
        fresh: Delete the run that the folder holds.

    Raises:
        InputError: The folder holds another run, or checkpoints of an unknown one; or the disk has no room.
    """
    record = folder / "config.json"
    if fresh and record.is_file():
        shutil.rmtree(folder)
    if record.is_file():
        differing = list(_differences(json.loads(record.read_text()), json.loads(json.dumps(identity))))
        if differing:
            raise InputError(
                f"{folder} holds another run: it differs in {', '.join(differing)};"
                " choose another --work-dir, or --fresh to delete that run"
            )
        return
    if latest_checkpoint(folder):
        raise InputError(f"{folder} holds checkpoints but no config.json; choose another --work-dir")
    existing = next(path for path in [folder, *folder.absolute().parents] if path.is_dir())
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise InputError(
            f"no room on the disk of {folder}: {free / 1e6:.0f} MB are free, the run's checkpoints need"
            f" {needed_bytes / 1e6:.0f} MB; make room or choose another --work-dir"
        )
    write_whole(record, json.dumps(identity, indent=2) + "\n")


def _differences(earlier: Any, now: Any, prefix: str = "") -> list[str]:
    if isinstance(earlier, dict) and isinstance(now, dict):
        keys = sorted(earlier.keys() | now.keys())
        return [
            line for key in keys for line in _differences(earlier.get(key), now.get(key), f"{prefix}.{key}")
        ]
    if earlier == now:
        return []
    return [f"{prefix.removeprefix('.config').removeprefix('.')} ({earlier} there, {now} here)"]
