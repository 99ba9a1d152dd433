"""From the name of a data set to its photos: what ``--data`` takes."""

import hashlib
import os
import sys
from pathlib import Path

from braceexpand import UnbalancedBracesError, braceexpand  # type: ignore[attr-defined]  # not exported

from pretext.data.decoding import PHOTO_SUFFIXES
from pretext.data.pairs.frames import FramePairs
from pretext.data.pairs.pair_list import PairList
from pretext.data.pairs.tracks import Tracks
from pretext.data.photos import PhotoFiles, Photos, PhotoShards
from pretext.data.toyworld import render_toyworld
from pretext.errors import InputError
from pretext.files import WORK_DIRS

PAIR_LISTS = (".pairs", ".tracks")


def open_photos(source: str | Path, cache: Path = Path("work_dirs/shards")) -> Photos:
    """Open photos by path, pattern or URL.

    Args:
        source: A folder (searched through all its subfolders for .jpg, .jpeg, .png and .webp; if it holds
            none, for .tar shards), a list file (.txt, one path a line, relative to the file's folder), a list of
            pairs (.pairs, :class:`pretext.data.pairs.frames.FramePairs`; .tracks,
            :class:`pretext.data.pairs.tracks.Tracks`), a .tar shard, or shards as a brace pattern or URL
            (``https://host/photos-{000..127}.tar``).
        cache: Folder for copies of shards that are URLs.

    Raises:
        InputError: Nothing is there, or it holds no photos.
    """
    source = str(source)
    path = Path(source)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in PHOTO_SUFFIXES and p.is_file())
        shards = [] if files else sorted(str(p) for p in path.rglob("*.tar"))
        photos: Photos = PhotoShards(shards, cache) if shards else PhotoFiles(files)
    elif path.suffix == ".txt" and path.is_file():
        photos = PhotoFiles(_read_list(path))
    elif path.suffix in PAIR_LISTS and path.is_file():
        photos = _open_pairs(path)
    elif source.endswith(".tar"):
        try:
            photos = PhotoShards(list(braceexpand(source)), cache)
        except UnbalancedBracesError as error:
            raise InputError(f"the pattern {source} has unbalanced braces: {error}") from error
    else:
        raise InputError(
            f"no photos: received {source}, which is neither a folder, a list file (.txt, .pairs, .tracks)"
            " nor a shard (.tar)"
        )
    if len(photos) == 0:
        raise InputError(
            f"no photos in {source}: allowed are files ending in {', '.join(sorted(PHOTO_SUFFIXES))},"
            " in subfolders too, or tar shards of such files"
        )
    return photos


def _open_pairs(path: Path) -> Photos:
    return {".pairs": FramePairs, ".tracks": Tracks}[path.suffix](path)


def _read_list(path: Path) -> list[Path]:
    try:
        lines = path.read_text().splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a list of photos: it is no text in UTF-8 ({error})") from error
    files = [path.parent / line.strip() for line in lines if line.strip()]
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise InputError(
            f"{path} lists {len(missing)} files that do not exist, first {', '.join(missing[:3])};"
            " write one path a line, relative to the list's own folder"
        )
    return files


def fingerprint(photos: Photos) -> str:
    """SHA-256 over the number and the names of the photos (folders above the last two left out).

    Of a list of pairs the lines count as they are.
    """
    digest = hashlib.sha256(str(len(photos)).encode())
    for index in range(len(photos)):
        name = photos.line(index) if isinstance(photos, PairList) else _last_two(photos.name(index))
        digest.update(name.encode() + b"\n")
    return digest.hexdigest()


def _last_two(name: str) -> str:
    return "/".join(name.split("/")[-2:])


def data_path(name: str) -> str:
    """Find a data set: an existing path or a URL as it is, else a name below the folder PRETEXT_DATA.

    A brace pattern is where at least one of its files is.

    Raises:
        InputError: It is in neither place.
    """
    if "://" in name or _exists(Path(name)):
        return name
    root = os.environ.get("PRETEXT_DATA")
    if root and _exists(Path(root) / name):
        return str(Path(root) / name)
    below = f"below PRETEXT_DATA={root}" if root else "and PRETEXT_DATA is not set"
    raise InputError(
        f"no such data: received {name}, which is no path {below}; give a path, or a name below PRETEXT_DATA"
    )


def _exists(path: Path) -> bool:
    if path.exists():
        return True
    try:
        return any(Path(file).exists() for file in braceexpand(str(path)))
    except UnbalancedBracesError as error:
        raise InputError(f"the pattern {path} has unbalanced braces: {error}") from error


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
        print(f"rendering the toy data into {toyworld} (once)", file=sys.stderr)
        render_toyworld(toyworld)
    return str(toyworld / below)
