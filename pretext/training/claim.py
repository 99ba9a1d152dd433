"""Which run a work folder belongs to: the one that its ``config.json`` describes, in one process at a time."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from pretext.distributed import on_first
from pretext.errors import InputError
from pretext.files import write_whole
from pretext.locks import Lock, described_holder, holder_file, try_lock
from pretext.old_names import renamed
from pretext.progress import say

#: Files of a run beside ``config.json``, which is written first and deleted last.
WRITTEN = (
    "backbone.safetensors",
    "colorizer.safetensors",
    "classifier.safetensors",
    "step_*.pth",
    "step_*.pth.partial",
    "last_checkpoint",
    "prior.json",
    "unreadable.txt",
    "color_grids/iter_*.png",
)
#: Date and time, by which mmengine names the folders and files of its logs.
LOG = "[0-9]" * 8 + "_" + "[0-9]" * 6


@contextmanager
def sole_run(path: Path, used: Path) -> Iterator[None]:
    """Keep other runs away from a file or folder. The processes of one run share a lock, which the first holds.

    Args:
        path: The lock's file. Its folder is made if it is missing, and deleted at the end if it was made here and is
            empty.
        used: What the run uses alone; named in the error.

    Raises:
        InputError: Another run uses it, or the lock's file cannot be written.
    """
    with ExitStack() as stack:
        on_first(lambda: stack.enter_context(_locked(path, used)))
        yield


@contextmanager
def _locked(path: Path, used: Path) -> Iterator[None]:
    made = [parent for parent in path.parents if not parent.exists()]
    try:
        lock = _make_and_lock(path)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}",
            allowed="choose a --work-dir on a writable disk",
        ) from error
    if lock is None:
        raise InputError(
            f"another run uses {used}",
            received=described_holder(path),
            allowed="wait for its end or stop it, or choose another --work-dir",
        )
    if lock.descriptor is None:
        say(f"the disk has no locks: {holder_file(path)} keeps other runs away from {used}")
    try:
        yield
    finally:
        lock.release()
        with suppress(OSError):  # of a folder that holds something, or is gone already
            for parent in made:
                parent.rmdir()


def _make_and_lock(path: Path) -> Lock | None:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A run that ends may delete the folder that it has made.
        with suppress(FileNotFoundError):
            return try_lock(path)


def claim(
    folder: Path,
    identity: dict[str, Any],
    needed_bytes: int,
    fresh: bool,
    alike: Callable[[dict[str, Any]], dict[str, Any]] = lambda earlier: earlier,
) -> None:
    """Take a folder for a run, or find that it holds this run already.

    Args:
        folder: Folder of the run; made if it is missing.
        identity: What tells the run from others, as JSON can hold it; written to ``config.json``.
        needed_bytes: Disk space of the run.
        fresh: Delete the run in the folder; other files there stay.
        alike: Gives an earlier identity anew, with what is only spelled otherwise there spelled as in ``identity``.

    Raises:
        InputError: The folder holds another run, files of an unknown run, or a ``config.json`` of something else; or
            the disk has too little room.
    """
    record = folder / "config.json"
    if record.is_file():
        earlier = _read(record, identity)
        if not fresh:
            differing = _differences(alike(earlier), json.loads(json.dumps(identity)))
            if differing:
                raise InputError(
                    f"{folder} holds a run with other settings",
                    received=", ".join(differing),
                    allowed="choose another --work-dir, or --fresh to delete that run",
                )
            return
        _delete_run(folder)
    if strange := _written(folder):
        raise InputError(
            f"{folder} holds {strange[0].name} but no config.json", allowed="choose another --work-dir"
        )
    existing = next(path for path in [folder, *folder.absolute().parents] if path.is_dir())
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise InputError(
            f"no room on the disk of {folder} for the run's checkpoints",
            received=f"{free / 1e6:.0f} MB free",
            allowed=f"make room for {needed_bytes / 1e6:.0f} MB or choose another --work-dir",
        )
    write_whole(record, json.dumps(identity, indent=2) + "\n")


def release(folder: Path) -> None:
    """Give back a folder whose run was refused before its first checkpoint: the mended command may use it."""
    if not any(folder.glob("step_*.pth")):
        _delete_run(folder)


def _read(record: Path, identity: dict[str, Any]) -> dict[str, Any]:
    try:
        earlier = renamed(json.loads(record.read_text()))
    except (OSError, ValueError):
        earlier = None
    if not isinstance(earlier, dict) or not earlier.keys() >= identity.keys():
        raise InputError(
            f"{record} was not written by a run: the folder holds something else",
            allowed="choose another --work-dir",
        )
    return earlier


def _written(folder: Path) -> list[Path]:
    return [path for pattern in WRITTEN for path in folder.glob(pattern)]


def _delete_run(folder: Path) -> None:
    try:
        for path in _written(folder):
            path.unlink()
        for logs in {log.parent for log in folder.glob(f"{LOG}/{LOG}.log")}:
            shutil.rmtree(logs)
        (folder / "config.json").unlink()
    except OSError as error:
        raise InputError(
            f"cannot delete the run in {folder}: {error}",
            allowed="delete it yourself or choose another --work-dir",
        ) from error


def _differences(earlier: Any, now: Any, prefix: str = "") -> list[str]:
    if isinstance(earlier, dict) and isinstance(now, dict):
        keys = sorted(earlier.keys() | now.keys())
        return [
            line for key in keys for line in _differences(earlier.get(key), now.get(key), f"{prefix}.{key}")
        ]
    if earlier == now:
        return []
    return [f"{prefix.removeprefix('.config').removeprefix('.')}={now} ({earlier} there)"]
