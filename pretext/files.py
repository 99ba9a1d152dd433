"""Files that are written whole or not at all, and lists that are read line by line."""

import codecs
import errno
import os
import re
import tempfile
from pathlib import Path

from pretext.errors import InputError

#: Where runs, copies of shards and the toy data go, relative to the current folder.
WORK_DIRS = Path("work_dirs")
#: Errors by which a file system says that it cannot sync a folder, or that this user may not open it.
CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.EBADF)


def write_whole(path: Path, content: bytes | str) -> None:
    """Write ``content`` to ``path``; a kill or a power failure at any moment leaves the old file or the new one.

    Args:
        path: The file; missing folders are made.
        content: Bytes, or text to be encoded as UTF-8 (names of files that are not UTF-8 keep their bytes).

    Raises:
        InputError: The folder cannot be written, or the disk is full; nothing is left behind.
    """
    data = content.encode(errors="surrogateescape") if isinstance(content, str) else content
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(temporary).chmod(0o644)
        move_into_place(Path(temporary), path)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}",
            allowed=f"it needs {len(data)} bytes on a writable disk",
        ) from error
    finally:
        # Ctrl-C leaves nothing behind, either.
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def move_into_place(written: Path, path: Path) -> None:
    """Rename a written file to ``path`` in the same folder.

    File and folder are synced to the disk, so that after a power failure the old file or the new one is there, whole.

    Raises:
        OSError: The disk is full or fails; ``path`` is as it was, or is the new file.
    """
    sync(written)
    written.replace(path)
    try:
        sync(path.parent)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise


def sync(path: Path) -> None:
    """Write what the system still holds back of a file, or of a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_lines(path: Path) -> list[str]:
    """Read the lines of a list, in UTF-8 with or without a byte order mark, ended by LF or CR LF.

    No other character ends a line. Names of files that are not UTF-8 keep their bytes: ``os.fsencode`` gives them back.

    Raises:
        InputError: The file cannot be read, or is not text in UTF-8.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read the list {path}: {error.strerror or error}", allowed="name a file that can be read"
        ) from error
    if b"\0" in data:
        utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        kind = "text in UTF-16" if utf16 else "binary data"
        raise InputError(f"{path} is not a list", received=kind, allowed="save it as text in UTF-8")
    lines = data.removeprefix(codecs.BOM_UTF8).split(b"\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix(b"\r").decode(errors="surrogateescape") for line in lines]


def is_file(path: str | Path) -> bool:
    """Return whether there is a file; False too for a name too long, or in a folder that may not be entered."""
    try:
        return Path(path).is_file()
    except OSError:
        return False


def file_name(text: str) -> str:
    """Return a text as part of a file's name, with dashes for what is not a letter, digit, ``_``, ``.`` or ``-``."""
    return re.sub(r"[^\w.-]+", "-", text)
