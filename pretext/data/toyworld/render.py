"""Renders the whole toy world into a folder, on several processes, whole or not at all."""

import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pretext.data.toyworld.classes import CLASSES, TOY_CLASSES
from pretext.data.toyworld.layouts import PhotoRecord, make_folders, write_lists, write_photo
from pretext.data.toyworld.noise import NoiseBank
from pretext.data.toyworld.plan import Split, ToyworldSizes, splits
from pretext.data.toyworld.scenes import render_scene
from pretext.errors import InputError

#: Raised with every change that changes a photo.
RENDERER_VERSION = 1

#: Written last: a folder that has it is complete.
MANIFEST = "toyworld.json"

_PHOTO_SIZE = (96, 96)
_VOC_SIZES = ((128, 128), (112, 128), (128, 112), (128, 144))
_OBJECTS_SHARE = (0.25, 0.35, 0.25, 0.15)
_CHUNK = 50

_Task = tuple[Path, int, Split, range]


def render_toyworld(
    out: Path, seed: int = 0, sizes: ToyworldSizes | None = None, workers: int | None = None
) -> None:
    """Render the toy data set: unlabeled photos, an ImageFolder and two VOC devkits.

    Write `unlabeled/*.jpg`, `labeled/{train,val}/<class>/*.jpg`, `VOCdevkit/VOC2007` (boxes),
    `VOCdevkit/VOC2012` (boxes and masks), and last `toyworld.json`. The same seed and sizes give the same bytes,
    whatever the number of workers. All is rendered into a hidden folder beside `out`, which takes its name at the
    end. Where `out` already holds this very data set, nothing is done.

    Args:
        out: folder to make; may exist if it is empty or holds this data set.
        seed: non-negative; decides every photo.
        sizes: numbers of photos; by default about 9,000 in all.
        workers: processes, 1 to render in this one; by default one for each available core, at most 8.

    Raises:
        InputError: `out` holds something else or cannot be written, or `seed` or `workers` is out of range.
    """
    sizes = sizes or ToyworldSizes()
    if seed < 0:
        raise InputError(
            "seed of the toy world is negative", received=seed, allowed="whole numbers from 0 up"
        )
    if workers is not None and workers < 1:
        raise InputError(
            "workers of the toy world are too few", received=workers, allowed="whole numbers from 1 up"
        )
    manifest = _manifest(seed, sizes)
    if _is_complete(out, manifest):
        return
    partial = out.absolute().with_name(f".{out.absolute().name}.partial-{os.getpid()}")
    try:
        make_folders(partial)
        write_lists(partial, sizes, _render(partial, seed, sizes, workers or min(_available_cores(), 8)))
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        partial.rename(out.absolute())
    except OSError as error:
        if _is_complete(out, manifest):  # another process was rendering the same and came first
            return
        raise InputError(
            f"cannot write the toy world to {out}",
            received=error.strerror or str(error),
            allowed="name a new or empty folder on a disk with about 120 MB free",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _manifest(seed: int, sizes: ToyworldSizes) -> dict[str, Any]:
    """Return the content of toyworld.json."""
    return {
        "renderer_version": RENDERER_VERSION,
        "seed": seed,
        "sizes": asdict(sizes),
        "classes": list(TOY_CLASSES),
        "color_modes": {
            kind.name: [{"name": m.name, "hue": m.hue, "chroma": m.chroma} for m in kind.modes]
            for kind in CLASSES
        },
    }


def _is_complete(out: Path, manifest: dict[str, Any]) -> bool:
    """Return True if `out` holds the data set of `manifest`; False if it is missing or empty.

    Raises:
        InputError: `out` is a file, holds another toy world, or holds something else.
    """
    if not out.exists():
        return False
    if not out.is_dir():
        raise InputError(
            "the toy world's output is not a folder", received=str(out), allowed="name a new or empty folder"
        )
    if not any(out.iterdir()):
        return False
    found = _read_manifest(out / MANIFEST)
    if found is None:
        raise InputError(
            "the toy world's output folder holds something else",
            received=str(out),
            allowed="name a new or empty folder, or one that holds the same toy world",
        )
    differing = [key for key in ("renderer_version", "seed", "sizes") if found.get(key) != manifest[key]]
    if differing:
        had = ", ".join(f"{key}={found.get(key)} instead of {manifest[key]}" for key in differing)
        raise InputError(
            f"{out} holds another toy world",
            received=had,
            allowed="name a new or empty folder, or delete this one to render it again",
        )
    return True


def _read_manifest(path: Path) -> dict[str, Any] | None:
    """Return the manifest at `path`, or None if there is no readable one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _render(root: Path, seed: int, sizes: ToyworldSizes, workers: int) -> dict[int, list[PhotoRecord]]:
    """Render all photos; return their records in order, by split number."""
    tasks = list(_tasks(root, seed, sizes))
    records: dict[int, list[PhotoRecord]] = {split.number: [] for split in splits(sizes)}
    if workers == 1:
        for task in tasks:
            records[task[2].number] += _render_chunk(task)
        return records
    # Spawned, not forked: the caller may hold threads (torch) that do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=context) as pool:
        try:
            for task, chunk in zip(tasks, pool.map(_render_chunk, tasks), strict=True):
                records[task[2].number] += chunk
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return records


def _tasks(root: Path, seed: int, sizes: ToyworldSizes) -> Iterator[_Task]:
    """Return the work in chunks small enough to keep all workers busy to the end."""
    for split in splits(sizes):
        for start in range(0, split.count, _CHUNK):
            yield root, seed, split, range(start, min(start + _CHUNK, split.count))


def _render_chunk(task: _Task) -> list[PhotoRecord]:
    """Render and write a few photos of one split; runs in a worker."""
    root, seed, split, indices = task
    bank = _bank(seed)
    records = []
    for index in indices:
        rng = split.rng(seed, index)
        labels, size = _subject(rng, split, index)
        scene = render_scene(bank, rng, size, labels)
        records.append(write_photo(root, split, index, scene, labels[0]))
    return records


def _subject(rng: np.random.Generator, split: Split, index: int) -> tuple[list[int], tuple[int, int]]:
    """Classes of the objects in a photo and its (H, W); the first class goes round, so that classes are even."""
    labels = [index % len(TOY_CLASSES)]
    if split.place == "labeled":
        return labels, _PHOTO_SIZE
    if split.place == "unlabeled":
        count = int(rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1]))
        size = _PHOTO_SIZE
    else:
        count = int(rng.choice([1, 2, 3, 4], p=_OBJECTS_SHARE))
        size = _VOC_SIZES[rng.integers(len(_VOC_SIZES))]
    labels += rng.integers(len(TOY_CLASSES), size=count - 1).tolist()
    return labels, size


@lru_cache(maxsize=1)
def _bank(seed: int) -> NoiseBank:
    """Return the noise of this process."""
    return NoiseBank.from_seed(seed)


def _available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
