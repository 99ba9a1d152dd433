"""What can be told of a colorizer without loading it: the header of its file. torch is not imported here."""

from pathlib import Path
from typing import Any

from pretext.backbones.header import read_file_header, read_metadata
from pretext.errors import InputError

FORMAT_VERSION = 1
HEADER_KEY = "pretext_colorizer"
#: Keys that a header must have, and the types of their values. ``architecture`` and ``arguments`` are the backbone's.
REQUIRED = {
    "architecture": str,
    "arguments": dict,
    "layer": str,
    "head": dict,
    "space": str,
    "space_arguments": dict,
    "provenance": dict,
    "sha256": str,
}


def read_colorizer_header(path: Path) -> dict[str, Any]:
    """Read the header of a colorizer file.

    Raises:
        InputError: The file is missing or not a colorizer file, its header is damaged, or its format is another
            version's.
    """
    if not path.is_file():
        raise InputError(
            "no colorizer file", received=str(path), allowed="name the path of a colorizer.safetensors"
        )
    return read_file_header(path, "a colorizer file", HEADER_KEY, FORMAT_VERSION, REQUIRED)


def is_colorizer(path: Path) -> bool:
    """Tell whether a path leads to a colorizer file, whole or damaged; never raise."""
    try:
        return HEADER_KEY in read_metadata(path)
    except (ValueError, OSError, RecursionError):
        return False
