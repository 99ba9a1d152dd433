"""Files that a list names: all of them must be there before anything is trained."""

from collections.abc import Sequence
from pathlib import Path

from pretext.errors import InputError
from pretext.files import is_file


def check_files(listed_by: str, paths: Sequence[Path], allowed: str) -> None:
    """Raise InputError unless all files are there.

    Args:
        listed_by: What lists them, for the message.
        paths: The files.
        allowed: How to mend it.
    """
    missing = [path for path in paths if not is_file(path)]
    if missing:
        first = ", ".join(map(str, missing[:3]))
        raise InputError(
            f"{len(missing)} of {len(paths)} files of {listed_by} are missing",
            received=f"no {first}",
            allowed=allowed,
        )
