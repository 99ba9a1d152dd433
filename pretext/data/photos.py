"""Photos to pretrain on: a folder, a list file, or tar shards, all with random access by index."""

import hashlib
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit

import numpy as np
import webdataset

from pretext.data.decoding import PHOTO_SUFFIXES
from pretext.errors import InputError

URL_SCHEMES = ("file", "http", "https", "gs", "s3", "hf")


@runtime_checkable
class Photos(Protocol):
    """What every source of photos offers."""

    def __len__(self) -> int:
        """How many photos there are."""
        ...

    def name(self, index: int) -> str:
        """A name that finds the photo again: its path, or shard and member."""
        ...

    def read(self, index: int) -> bytes:
        """The photo's bytes; OSError if they cannot be read."""
        ...


class PhotoFiles:
    """Photos in files of their own.

    Args:
        paths: The files, in the order that gives each its index.
    """

    def __init__(self, paths: Sequence[Path]):
        # One array of bytes instead of a list of objects: worker processes share it without copying.
        self._names = np.array([os.fsencode(path) for path in paths], dtype=np.bytes_)

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        """The photo's path."""
        return os.fsdecode(bytes(self._names[index]))

    def read(self, index: int) -> bytes:
        """The photo's bytes; OSError if they cannot be read."""
        return Path(self.name(index)).read_bytes()


class PhotoShards:
    """Photos in tar shards as WebDataset writes them, one photo a member, read at their offsets.

    A shard given as a URL is copied into ``cache`` once, by WebDataset's own opener, and then read like a
    local one, so that order, resuming and speed are the same.

    Args:
        shards: Paths or URLs of uncompressed tar files.
        cache: Folder for copies of shards that are URLs.

    Raises:
        InputError: A shard is missing, cannot be fetched, or is no uncompressed tar file.
    """

    def __init__(self, shards: Sequence[str], cache: Path):
        self._files = [_local_shard(shard, cache) for shard in shards]
        members: list[tuple[int, int, int]] = []
        names: list[bytes] = []
        for number, path in enumerate(self._files):
            try:
                with tarfile.open(path, "r:") as tar:
                    for member in tar:
                        if member.isfile() and Path(member.name).suffix.lower() in PHOTO_SUFFIXES:
                            members.append((number, member.offset_data, member.size))
                            names.append(member.name.encode())
            except (tarfile.TarError, OSError) as error:
                raise InputError(
                    f"{path} cannot be read as a shard ({error}); expected an uncompressed tar file"
                ) from error
        self._members = np.array(members, dtype=np.int64).reshape(-1, 3)
        self._names = np.array(names, dtype=np.bytes_)

    def __len__(self) -> int:
        return len(self._members)

    def name(self, index: int) -> str:
        """The photo's shard and the name of its member."""
        shard = self._files[self._members[index, 0]]
        return f"{shard}/{bytes(self._names[index]).decode()}"

    def read(self, index: int) -> bytes:
        """The photo's bytes; OSError if they cannot be read."""
        shard, offset, size = (int(value) for value in self._members[index])
        with self._files[shard].open("rb") as file:
            file.seek(offset)
            return file.read(size)


def _local_shard(shard: str, cache: Path) -> Path:
    scheme = urlsplit(shard).scheme
    if not scheme:
        if not Path(shard).is_file():
            raise InputError(f"no such shard: received {shard}; name an existing .tar file, pattern or URL")
        return Path(shard)
    if scheme not in URL_SCHEMES:
        raise InputError(
            f"cannot fetch {shard}: received the scheme {scheme}, allowed are {', '.join(URL_SCHEMES)}"
        )
    local = cache / hashlib.sha256(shard.encode()).hexdigest()[:16] / Path(urlsplit(shard).path).name
    if not local.is_file():
        local.parent.mkdir(parents=True, exist_ok=True)
        partial = local.with_name(f"{local.name}.{os.getpid()}.partial")
        try:
            with webdataset.gopen(shard, "rb") as stream, partial.open("wb") as file:
                while chunk := stream.read(1 << 20):
                    file.write(chunk)
            partial.replace(local)
        except (OSError, ValueError) as error:
            partial.unlink(missing_ok=True)
            raise InputError(f"cannot fetch the shard {shard}: {error}") from error
    return local
