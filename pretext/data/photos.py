"""Photos with random access by index: in files of their own, or in tar shards."""

import hashlib
import os
import tarfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit

import numpy as np
import webdataset
from PIL import Image

from pretext.data.decoding import PHOTO_SUFFIXES, UnreadablePhotoError, decode_rgb, kind_of_file, read_rgb
from pretext.data.walking import HIDDEN, is_hidden, tell_left_out
from pretext.errors import InputError

URL_SCHEMES = ("file", "http", "https", "gs", "s3", "hf")

#: The kinds of photos, and what gives them; a method says which it takes.
KINDS = {
    "photos": "single photos: a folder, a list (.txt) or shards (.tar)",
    "frames": "pairs of frames and the motion between them: a list (.pairs)",
    "tracks": "tracks of objects: a list (.tracks), which `python -m pretext tracks` makes of videos",
}


@runtime_checkable
class Photos(Protocol):
    """What every source of photos offers."""

    @property
    def kind(self) -> str:
        """One of KINDS."""
        ...

    def __len__(self) -> int:
        """Return how many photos there are."""
        ...

    def name(self, index: int) -> str:
        """Return a name that finds the photo again: its path, or its shard and member."""
        ...

    def key(self, index: int) -> str:
        """Return what stands for the photo in the fingerprint of all, wherever the data lie."""
        ...

    def image(self, index: int) -> Image.Image:
        """Return the photo in RGB and upright.

        Raises:
            UnreadablePhotoError: It cannot be read or decoded.
        """
        ...


class PhotoFiles:
    """Photos in files of their own.

    Args:
        paths: The files, in the order that gives each its index.
        root: The folder that they were found in; however it is spelled, the keys of the photos are the same.
    """

    kind = "photos"

    def __init__(self, paths: Sequence[Path], root: Path):
        # One array of bytes instead of a list of objects: worker processes share it without copying.
        self._names = np.array([os.fsencode(path) for path in paths], dtype=np.bytes_)
        self._root = str(root)
        self._real_root = os.path.realpath(root)

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        """Return the photo's path."""
        return os.fsdecode(bytes(self._names[index]))

    def key(self, index: int) -> str:
        """Return the last two parts of the photo's path."""
        path = self.name(index)
        folder, _, name = path.rpartition("/")
        return last_two(f"{self._real_root}/{name}" if (folder or ".") == self._root else path)

    def image(self, index: int) -> Image.Image:
        """Return the photo in RGB; UnreadablePhotoError if it cannot be read."""
        return read_rgb(Path(self.name(index)))


class PhotoShards:
    """Photos in tar shards as WebDataset writes them, one photo per member, read at their offsets.

    A shard given as a URL is copied into ``cache`` once, by WebDataset's own opener, and then read like a
    local one, so that order, resuming and speed are the same. Hidden members (`is_hidden`) are left out.

    Args:
        shards: Paths or URLs of uncompressed tar files.
        cache: Folder for copies of shards that are URLs.

    Raises:
        InputError: A shard is missing, cannot be fetched, or is not an uncompressed tar file.
    """

    kind = "photos"

    def __init__(self, shards: list[str], cache: Path):
        self._files: list[Path] = []
        members: list[tuple[int, int, int]] = []
        names: list[bytes] = []
        left_out: Counter[str] = Counter()
        for number, shard in enumerate(shards):
            path, listed = _fetched(shard, cache) if urlsplit(shard).scheme else _local(shard)
            self._files.append(path)
            for name, offset, size in listed:
                if any(is_hidden(part) for part in PurePosixPath(name).parts):
                    left_out[HIDDEN] += 1
                else:
                    members.append((number, offset, size))
                    names.append(os.fsencode(name))
        self._members = np.array(members, dtype=np.int64).reshape(-1, 3)
        self._names = np.array(names, dtype=np.bytes_)
        tell_left_out(" ... ".join(shards[:1] + shards[1:][-1:]), left_out)

    def __len__(self) -> int:
        return len(self._members)

    def name(self, index: int) -> str:
        """Return the photo's shard and the name of its member."""
        shard = self._files[self._members[index, 0]]
        return f"{shard}/{os.fsdecode(bytes(self._names[index]))}"

    def key(self, index: int) -> str:
        """Return the last two parts of shard and member."""
        return last_two(self.name(index))

    def image(self, index: int) -> Image.Image:
        """Return the photo in RGB; UnreadablePhotoError if it cannot be read."""
        shard, offset, size = (int(value) for value in self._members[index])
        try:
            with self._files[shard].open("rb") as file:
                file.seek(offset)
                data = file.read(size)
        except OSError as error:
            raise UnreadablePhotoError(error.strerror or str(error)) from error
        return decode_rgb(data)


def try_image(photos: Photos, index: int, unreadable: dict[str, str]) -> Image.Image | None:
    """Read a photo; None, and its name and the reason in ``unreadable``, if it cannot be read."""
    try:
        return photos.image(index)
    except UnreadablePhotoError as error:
        unreadable[photos.name(index)] = str(error)
        return None


def last_two(name: str) -> str:
    """Return the last two parts of a path."""
    return "/".join(name.split("/")[-2:])


#: Name, offset and size of a shard's member.
_Member = tuple[str, int, int]


def _local(shard: str) -> tuple[Path, list[_Member]]:
    if not Path(shard).is_file():
        raise InputError(
            "no such shard", received=shard, allowed="name an existing .tar file, pattern or URL"
        )
    return Path(shard), _photos_in(Path(shard), shard)


def _photos_in(path: Path, shard: str) -> list[_Member]:
    """List the photos in a tar file, which messages call ``shard``."""
    try:
        with tarfile.open(path, "r:") as tar, path.open("rb") as file:
            listed = [
                (member.name, member.offset_data, member.size)
                for member in tar
                if member.isfile() and Path(member.name).suffix.lower() in PHOTO_SUFFIXES
            ]
            # tarfile takes a header that is cut short or damaged for the end.
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
                raise tarfile.ReadError(f"cut short or damaged at byte {tar.offset}")
            return listed
    except (tarfile.TarError, OSError) as error:
        received = f"{kind_at(path)} ({error})"
        raise InputError(
            f"cannot read {shard} as a shard",
            received=received,
            allowed="a shard is an uncompressed tar file",
        ) from error


def kind_at(path: Path) -> str:
    """Return what a file really is, in words, for errors."""
    try:
        with path.open("rb") as file:
            return kind_of_file(file.read(512))
    except OSError:
        return "a file that cannot be read"


def _fetched(shard: str, cache: Path) -> tuple[Path, list[_Member]]:
    """Copy a shard into ``cache`` unless a whole copy is there, and list its photos."""
    scheme = urlsplit(shard).scheme
    if scheme not in URL_SCHEMES:
        raise InputError(f"cannot fetch {shard}: unknown scheme", received=scheme, allowed=URL_SCHEMES)
    local = cache / hashlib.sha256(shard.encode()).hexdigest()[:16] / Path(urlsplit(shard).path).name
    if local.is_file():
        try:
            return local, _photos_in(local, shard)
        except InputError:
            local.unlink()
    local.parent.mkdir(parents=True, exist_ok=True)
    partial = local.with_name(f"{local.name}.{os.getpid()}.partial")
    try:
        with webdataset.gopen(shard, "rb") as stream, partial.open("wb") as file:
            while chunk := stream.read(1 << 20):
                file.write(chunk)
        listed = _photos_in(partial, shard)
        partial.replace(local)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"cannot fetch the shard {shard}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return local, listed
