"""Files that are written whole or not at all, and lists that are read line by line."""

import codecs
import os
import tempfile
from pathlib import Path

from pretext.errors import InputError


def write_whole(path: Path, content: bytes | str) -> None:
    """Write ``content`` to ``path`` so that a reader, or a kill at any moment, finds the old file or the new.

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
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise InputError(
            f"cannot write {path} ({error.strerror or error})",
            allowed=f"it needs {len(data)} bytes on a writable disk",
        ) from error


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
            f"cannot read the list {path} ({error.strerror or error})", allowed="name a file that can be read"
        ) from error
    if b"\0" in data:
        utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        kind = "text in UTF-16" if utf16 else "binary data"
        raise InputError(f"{path} is not a list", received=kind, allowed="save it as text in UTF-8")
    lines = data.removeprefix(codecs.BOM_UTF8).split(b"\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix(b"\r").decode(errors="surrogateescape") for line in lines]
