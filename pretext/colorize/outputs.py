"""Which photos are coloured, what the results are called, and which are finished. torch is not imported here."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pretext.colorize.settings import PaintingSettings
from pretext.data.walking import listed_files, tell_left_out, walk_files
from pretext.errors import InputError
from pretext.files import is_file, write_whole
from pretext.locks import described_holder, try_lock

#: In the folder of the results: the settings, and a line for each photo that was begun.
RECORD_NAME = "colorized.jsonl"
LOCK_NAME = "colorized.lock"
FORMAT_VERSION = 1
#: Settings that records of earlier versions lack, and what was done then.
_BEFORE = {"decode_at": "map", "reference": None, "transfer": None, "bias": 0.0}
JPEG_SUFFIXES = (".jpg", ".jpeg")


@dataclass(frozen=True)
class Job:
    """A photo to colour.

    Attributes:
        photo: Its path.
        results: Names of the coloured photos in the folder of the results, one for each sample.
        maps: Names of its two maps of uncertainty, a picture and numbers; empty if none are wanted.
        kind: Format of the coloured photos, ``png`` or ``jpeg``.
    """

    photo: Path
    results: tuple[str, ...]
    maps: tuple[str, ...]
    kind: str

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all files that are written."""
        return self.results + self.maps


@dataclass
class Plan:
    """What is to be coloured, and the photos and folders that cannot be, with the reasons."""

    jobs: list[Job] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def plan(places: Sequence[str], out: Path, settings: PaintingSettings) -> Plan:
    """Find all photos, and name their results.

    A photo of a folder is called by its path below the folder, one of a list by its path below the list's folder, any
    other by its name alone. Photos that lie in ``out`` are left out where ``out`` is within a folder that is coloured.
    A photo that is named twice is coloured once; of two photos with the same result the second fails.

    Args:
        places: Files, folders, and lists (.txt).
        out: The folder of the results.
        settings: Decide on formats and numbers of results.

    Raises:
        InputError: A place does not exist or cannot be read, a folder holds no photos, or its results would go where
            its photos are.
    """
    found: dict[Path, Path] = {}
    made = Plan()
    for place in places:
        for photo, name in _photos_of(Path(place), out, made.failed):
            found.setdefault(photo, name)
    takers: dict[str, Path] = {}
    for photo, name in found.items():
        job = _job(photo, name, settings)
        taker = next((takers[name] for name in job.names if name in takers), None)
        if taker is not None:
            made.failed[str(photo)] = f"its result {job.results[0]} would have the name of that of {taker}"
            continue
        takers |= dict.fromkeys(job.names, photo)
        made.jobs.append(job)
    return made


def _photos_of(place: Path, out: Path, failed: dict[str, str]) -> Iterator[tuple[Path, Path]]:
    """Yield the photos of a place, and what they are called in it."""
    if place.is_dir():
        yield from _photos_below(place, out, failed)
    elif place.suffix == ".txt" and is_file(place):
        for photo in listed_files(place):
            name = Path(os.path.relpath(photo, place.parent))
            yield photo, Path(photo.name) if name.parts[0] == ".." else name
    elif is_file(place):
        yield place, Path(place.name)
    else:
        raise InputError("no such photo, folder or list", received=str(place))


def _photos_below(folder: Path, out: Path, failed: dict[str, str]) -> Iterator[tuple[Path, Path]]:
    # Imported here: it brings NumPy and Pillow.
    from pretext.data.decoding import PHOTO_SUFFIXES

    real, results = os.path.realpath(folder), os.path.realpath(out)
    if real == results:
        raise InputError(
            "the results would go where the photos are", received=str(out), allowed="name another --out"
        )
    walked = walk_files(folder, PHOTO_SUFFIXES, skip_unreadable=True)
    tell_left_out(folder, walked.left_out)
    failed |= {str(link): "it is a link to nothing" for link in walked.broken_links}
    failed |= {str(path): f"the folder cannot be read: {why}" for path, why in walked.unreadable.items()}
    within = Path(results).is_relative_to(real)
    photos = [
        photo
        for photo in walked.files
        if not (within and Path(os.path.realpath(photo)).is_relative_to(results))
    ]
    if not (photos or walked.broken_links or walked.unreadable):
        raise InputError(
            f"no photos in {folder}",
            allowed=f"photos end in {', '.join(sorted(PHOTO_SUFFIXES))}, in subfolders too",
        )
    for photo in photos:
        yield photo, photo.relative_to(folder)


def _job(photo: Path, name: Path, settings: PaintingSettings) -> Job:
    suffix = name.suffix.lower()
    is_jpeg = suffix in JPEG_SUFFIXES
    kind = settings.format or ("jpeg" if is_jpeg else "png")
    keeps = is_jpeg if kind == "jpeg" else suffix == ".png"
    stem = str(name.with_suffix("")) if is_jpeg or suffix in (".png", ".webp") else str(name)
    ending = name.suffix if keeps else {"jpeg": ".jpg", "png": ".png"}[kind]
    numbers = [""] if settings.samples == 1 else [f"_sample{n}" for n in range(settings.samples)]
    maps = (f"{stem}_entropy.png", f"{stem}_entropy.npy") if settings.uncertainty else ()
    return Job(photo, tuple(f"{stem}{number}{ending}" for number in numbers), maps, kind)


class Record:
    """Tells the results of this run and of earlier ones with the same settings from other files of a folder.

    A photo's names are claimed before the first of its files is written, each whole or not at all. So a file with a
    claimed name is a finished result, and any other file is somebody else's, which is never overwritten.

    Args:
        out: The folder of the results.
        settings: What made them, as JSON can hold it.

    Raises:
        InputError: The folder holds results of other settings, or its record is damaged.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any]):
        self._out = out
        self._path = out / RECORD_NAME
        self._claimed: dict[str, str] = {}
        first = {"format_version": FORMAT_VERSION, "settings": dict(settings)}
        if not self._path.exists():
            write_whole(self._path, f"{json.dumps(first)}\n")
            return
        lines = self._path.read_bytes().split(b"\n")
        if lines.pop():  # a line that was cut short when the power failed
            write_whole(self._path, b"".join(line + b"\n" for line in lines))
        try:
            earlier, *claims = [json.loads(line) for line in lines]
            if earlier["format_version"] != FORMAT_VERSION:
                raise ValueError(f"format_version {earlier['format_version']}")
            before = {key: value for key, value in _BEFORE.items() if key in settings}
            if claims:
                _check_same(out, {**before, **earlier["settings"]}, settings)
            else:  # nothing could be coloured
                write_whole(self._path, f"{json.dumps(first)}\n")
            for claim in claims:
                self._claimed |= dict.fromkeys(claim["names"], claim["sha256"])
        except (ValueError, TypeError, KeyError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{self._path} is damaged, or of another version: {error}", allowed="name another --out"
            ) from error

    def is_finished(self, names: Iterable[str], sha256: str) -> bool:
        """Return whether all results of a photo are there.

        Args:
            names: Their names in the folder.
            sha256: Hash of the photo's file.

        Raises:
            NameTakenError: One of them is another file, or was made of another photo.
        """
        there = [name for name in names if os.path.lexists(self._out / name)]
        for name in there:
            if name not in self._claimed:
                raise NameTakenError(f"{self._out / name} is there already, and nothing is overwritten")
            if self._claimed[name] != sha256:
                raise NameTakenError(
                    f"{self._out / name} is there already, made of other pixels; take it away first"
                )
        return len(there) == len(list(names))

    def claim(self, names: Sequence[str], sha256: str) -> None:
        """Note that files of these names are results from now on."""
        line = json.dumps({"names": list(names), "sha256": sha256})
        with self._path.open("ab") as file:
            file.write(f"{line}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        self._claimed |= dict.fromkeys(names, sha256)


class NameTakenError(Exception):
    """The name of a result is taken; the message says by what."""


def _check_same(out: Path, earlier: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    differing = [key for key in {**settings, **earlier} if earlier.get(key) != settings.get(key)]
    if differing:
        raise InputError(
            f"{out} holds photos that were coloured otherwise",
            received=", ".join(f"{key}={settings.get(key)}" for key in differing),
            allowed=f"there it is {', '.join(f'{key}={earlier.get(key)}' for key in differing)}; name another --out",
        )


def sha256_of(data: bytes) -> str:
    """Return the SHA-256 of a file's bytes."""
    return hashlib.sha256(data).hexdigest()


@contextmanager
def sole_use(out: Path) -> Iterator[None]:
    """Keep other processes from colouring into the same folder, which is made.

    Raises:
        InputError: One does, or the folder cannot be written.
    """
    path = out / LOCK_NAME
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = try_lock(path)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}", allowed="choose an --out on a writable disk"
        ) from error
    if lock is None:
        raise InputError(f"another process colours photos into {out}", received=described_holder(path))
    try:
        yield
    finally:
        lock.release()
