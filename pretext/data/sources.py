"""From the name of a data set to its photos: what ``--data`` takes."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from braceexpand import UnbalancedBracesError, braceexpand  # type: ignore[attr-defined]  # not exported

from pretext.data.decoding import PHOTO_SUFFIXES
from pretext.data.pairs.frames import FramePairs
from pretext.data.pairs.tracks import Tracks
from pretext.data.photos import PhotoFiles, Photos, PhotoShards, last_two
from pretext.data.walking import listed_files, tell_left_out, walk_files
from pretext.errors import InputError
from pretext.files import WORK_DIRS

PAIR_LISTS = {".pairs": FramePairs, ".tracks": Tracks}


def open_photos(source: str | Path, cache: Path = WORK_DIRS / "shards") -> Photos:
    """Open photos by path, pattern or URL.

    Args:
        source: A folder (searched by `walk_files` for .jpg, .jpeg, .png and .webp; if it holds none, for .tar shards),
            a list file (.txt, one path per line, relative to the file's folder), a list of pairs (.pairs,
            :class:`pretext.data.pairs.frames.FramePairs`; .tracks, :class:`pretext.data.pairs.tracks.Tracks`), a .tar
            shard, or shards as a brace pattern or URL (``https://host/photos-{000..127}.tar``).
        cache: Folder for copies of shards that are URLs.

    Raises:
        InputError: Nothing is there, it holds no photos, or it cannot be read.
    """
    source = str(source)
    path = Path(source)
    photos: Photos
    if path.is_dir():
        photos = _open_folder(path, cache)
    elif path.suffix == ".txt" and path.is_file():
        photos = PhotoFiles(listed_files(path), path.parent)
    elif path.suffix in PAIR_LISTS and path.is_file():
        photos = PAIR_LISTS[path.suffix](path)
    elif source.endswith(".tar"):
        try:
            photos = PhotoShards(list(braceexpand(source)), cache)
        except UnbalancedBracesError as error:
            raise InputError(f"the pattern {source} has unbalanced braces: {error}") from error
    else:
        raise InputError(
            "no photos",
            received=source,
            allowed="name a folder, a list (.txt, .pairs, .tracks) or a shard (.tar)",
        )
    if len(photos) == 0:
        endings = ", ".join(sorted(PHOTO_SUFFIXES))
        raise InputError(
            f"no photos in {source}",
            allowed=f"photos end in {endings}, in subfolders too, or are in tar shards",
        )
    return photos


def _open_folder(folder: Path, cache: Path) -> Photos:
    walked = walk_files(folder, PHOTO_SUFFIXES | {".tar"})
    tell_left_out(folder, walked.left_out)
    shards = [path for path in walked.files if path.suffix.lower() == ".tar"]
    if len(shards) == len(walked.files):
        return PhotoShards([str(path) for path in shards], cache)
    return PhotoFiles([path for path in walked.files if path.suffix.lower() != ".tar"], folder)


def fingerprint(photos: Photos) -> str:
    """Return the SHA-256 of the number of photos and their keys, in their order."""
    return _hashed(photos.key(index) for index in range(len(photos)))


def spelled_fingerprint(photos: Photos) -> str:
    """Return the fingerprint that work folders may hold in which the data's own folder had the name it was given by."""
    return _hashed(
        last_two(photos.name(index)) if photos.kind == "photos" else photos.key(index)
        for index in range(len(photos))
    )


def _hashed(keys: Iterable[str]) -> str:
    listed = [key.encode(errors="surrogateescape") for key in keys]
    digest = hashlib.sha256(str(len(listed)).encode())
    for key in listed:
        digest.update(key + b"\n")
    return digest.hexdigest()
