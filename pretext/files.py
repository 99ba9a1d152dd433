"""Files that are written whole or not at all."""

import os
import tempfile
from pathlib import Path

from pretext.errors import InputError


def write_whole(path: Path, content: bytes | str) -> None:
    """Write ``content`` to ``path`` so that a reader, or a kill at any moment, finds the old file or the new.

    Args:
        path: The file; missing folders are made.
        content: Bytes, or text to be encoded as UTF-8.

    Raises:
        InputError: The folder cannot be written, or the disk is full; nothing is left behind.
    """
    data = content.encode() if isinstance(content, str) else content
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
            f"cannot write {path}: {error.strerror or error}; {len(data)} bytes are needed on a writable disk"
        ) from error
