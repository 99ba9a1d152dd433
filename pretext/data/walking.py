"""One walk through folders, for photos, shards, videos and classes."""

import json
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from pretext.errors import InputError
from pretext.files import is_file, read_lines

#: Names, in lower case, of what systems put beside photos: thumbnails, trash, archives' metadata.
SYSTEM_NAMES = frozenset(
    {
        "@eadir",
        "#recycle",
        "$recycle.bin",
        "__macosx",
        "desktop.ini",
        "lost+found",
        "recycler",
        "system volume information",
        "thumbs.db",
    }
)
#: The folder of a run's pictures, beside its ``config.json``.
RUN_PICTURES = "color_grids"

# What is left out, as messages call it.
HIDDEN = "hidden or system entries"
LINKS = "links to folders that are read already"
BROKEN_LINKS = "links to nothing"
PICTURES = "folders of a run's own pictures"


@dataclass
class Walked:
    """What `walk_files` found.

    Attributes:
        files: The files in the order of their paths.
        left_out: How many files and folders were left out, by what they are.
        broken_links: The links to nothing among them.
        unreadable: The folders that could not be read, and why.
    """

    files: list[Path] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    broken_links: list[Path] = field(default_factory=list)
    unreadable: dict[Path, str] = field(default_factory=dict)


def walk_files(folder: Path, suffixes: Collection[str], skip_unreadable: bool = False) -> Walked:
    """Find all files below a folder that end in one of ``suffixes``.

    Links to folders are followed, each real folder once: by its own path if it lies below ``folder``, and else by the
    first link to it. Left out are hidden and system entries (`is_hidden`), links to a folder above, links to nothing,
    and the pictures that a run has written (``color_grids`` beside its ``config.json``).

    Args:
        folder: Where to look; it may itself be hidden, or a link.
        suffixes: Endings in lower case, with the dot; they match in any case.
        skip_unreadable: Leave out folders below ``folder`` that cannot be read.

    Raises:
        InputError: ``folder``, or one below it that is not left out, cannot be read.
    """
    walked = Walked()
    root = os.path.realpath(folder)
    seen: set[str] = set()
    # Folders come before links, so that a folder is found by its own path where it has one here.
    links = [(str(folder), root)]
    while links:
        found: list[tuple[str, str]] = []
        for path, target in links:
            if target in seen:
                walked.left_out[LINKS] += 1
            else:
                found += _walk_tree(path, target, suffixes, seen, walked)
        links = []
        for path, parent in sorted(found):
            target = os.path.realpath(path)
            if Path(root).is_relative_to(target) or Path(parent).is_relative_to(target):
                walked.left_out[LINKS] += 1
            else:
                links.append((path, target))
    for unread, reason in walked.unreadable.items():
        if unread == folder or not skip_unreadable:
            raise InputError(
                f"cannot read the folder {unread}: {reason}",
                allowed="make it readable, or take it away from there",
            )
    walked.files.sort()
    return walked


def listed_files(path: Path) -> list[Path]:
    """Return the files of a list (.txt, one path per line, relative to the list's folder).

    A name may begin or end with blanks if there is such a file.

    Raises:
        InputError: The list cannot be read, or lists files that do not exist.
    """
    files = [
        path.parent / (line if is_file(path.parent / line) else line.strip())
        for line in read_lines(path)
        if line.strip()
    ]
    missing = [str(file) for file in files if not is_file(file)]
    if missing:
        raise InputError(
            f"{path} lists {len(missing)} files that do not exist",
            received=", ".join(missing[:3]),
            allowed="write one path per line, relative to the list's own folder",
        )
    return files


def is_hidden(name: str) -> bool:
    """Return True for names of hidden and system files and folders, which are not read as data."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def tell_left_out(where: object, left_out: Counter[str]) -> None:
    """Say on stderr, once per process and only on the first of several, what was left out of a place."""
    kinds = ", ".join(f"{kind} ({count})" for kind, count in sorted(left_out.items()) if count)
    if kinds and os.environ.get("RANK", "0") == "0" and multiprocessing.parent_process() is None:
        _tell(f"{where}: left out {kinds}")


@cache
def _tell(line: str) -> None:
    print(line.encode(errors="backslashreplace").decode(), file=sys.stderr)


def _walk_tree(
    path: str, real: str, suffixes: Collection[str], seen: set[str], walked: Walked
) -> list[tuple[str, str]]:
    """Walk a folder without following links; give each link to a folder with the real folder that it lies in."""
    links: list[tuple[str, str]] = []
    folders = [(path, real)]
    while folders:
        path, real = folders.pop()
        if real in seen:
            continue
        seen.add(real)
        for entry in _entries(path, walked):
            is_folder = _is_folder(entry)
            wanted = not is_folder and Path(entry.name).suffix.lower() in suffixes
            if is_hidden(entry.name):
                walked.left_out[HIDDEN] += is_folder or wanted
            elif is_folder and entry.name == RUN_PICTURES and _is_run(path):
                walked.left_out[PICTURES] += 1
            elif is_folder and entry.is_symlink():
                links.append((entry.path, real))
            elif is_folder:
                folders.append((entry.path, f"{real.rstrip('/')}/{entry.name}"))
            elif wanted and is_file(entry.path):
                walked.files.append(Path(entry.path))
            elif wanted and entry.is_symlink():
                walked.left_out[BROKEN_LINKS] += 1
                walked.broken_links.append(Path(entry.path))
    return links


def _entries(folder: str, walked: Walked) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        walked.unreadable[Path(folder)] = error.strerror or str(error)
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that cannot be followed
        return False


def _is_run(folder: str) -> bool:
    """Return True if the folder's ``config.json`` is one that a pretraining run writes."""
    try:
        record = json.loads((Path(folder) / "config.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and "data_fingerprint" in record
