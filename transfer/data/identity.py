"""What tells data sets apart in results: the name a set is filed under, and the fingerprint of its lists."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

#: Folders that many data sets have, in lower case, so that they do not name one.
PARTS_OF_DATA = frozenset(
    {
        *("vocdevkit", "voc2007", "voc2011", "voc2012", "labeled", "unlabeled"),
        *("train", "training", "val", "validation", "test"),
    }
)


def data_name(given: str) -> str:
    """Return the name a data set is filed under: the last folder of ``given`` that `PARTS_OF_DATA` lacks in any case.

    Args:
        given: The path or name that the user or the config gave. PRETEXT_DATA in front of it does not count. If
            `PARTS_OF_DATA` has all its folders, the first of them is the name.
    """
    path, root = Path(given), os.environ.get("PRETEXT_DATA")
    if root and path.is_relative_to(root):
        path = path.relative_to(root)
    parts = [part for part in path.parts if part not in (path.anchor, "..")]
    names = [part for part in parts if part.lower() not in PARTS_OF_DATA]
    return (names[-1:] or parts[:1] or [Path(given).resolve().name])[0]


def names_fingerprint(names: Iterable[str]) -> str:
    """Return the SHA-256 of names in their order, one per line.

    A line break within a name counts as a zero byte, which no file name has, so that one name never counts as two.
    Names of files that are not UTF-8 count with their own bytes.
    """
    lines = "\n".join(name.replace("\n", "\0") for name in names)
    return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()
