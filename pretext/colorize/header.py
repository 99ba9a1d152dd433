"""What can be told of a colorizer without loading it: the header of its file. torch is not imported here."""

import os
import sys
from pathlib import Path
from typing import Any

from pretext.backbones.header import read_file_header, read_metadata
from pretext.command_line import LAST_COLORIZER
from pretext.errors import InputError
from pretext.files import is_file

#: Name of the colorizer's file in the folder of a run.
COLORIZER_NAME = "colorizer.safetensors"
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
    return read_file_header(path, HEADER_KEY, FORMAT_VERSION, REQUIRED)


def find_colorizer(model: str | None) -> Path:
    """Find a colorizer file.

    Args:
        model: The file, or the folder of a run; None takes the last colorizer trained, and says so on stderr.

    Raises:
        InputError: There is no such file, the run left no colorizer, or none was trained from this folder.
    """
    if model is None:
        return _last_colorizer()
    path = Path(model)
    if path.is_dir():
        path = path / COLORIZER_NAME
        if not is_file(path):
            raise InputError(
                f"the folder has no {COLORIZER_NAME}",
                received=model,
                allowed="name the folder of a finished run of a method that learns to colour, such as colorization",
            )
    elif not is_file(path):
        raise InputError(
            "no colorizer file", received=model, allowed=f"name the path of a {COLORIZER_NAME} or its folder"
        )
    return path


def _last_colorizer() -> Path:
    if not LAST_COLORIZER.is_file():
        raise InputError(
            f"no colorizer is given, and none was trained from this folder: there is no {LAST_COLORIZER}",
            allowed=f"name a {COLORIZER_NAME}, or run tools/pretrain.sh first",
        )
    path = Path(os.fsdecode(LAST_COLORIZER.read_bytes().strip()))
    if not is_file(path):
        raise InputError(
            f"no colorizer is given, and the last one trained is gone: {LAST_COLORIZER} names it",
            received=str(path),
            allowed=f"name a {COLORIZER_NAME}, or run tools/pretrain.sh again",
        )
    print(f"colorizer: {path} (the last one trained)", file=sys.stderr)
    return path


def is_colorizer(path: Path) -> bool:
    """Tell whether a path leads to a colorizer file, whole or damaged; never raise."""
    try:
        return HEADER_KEY in read_metadata(path)
    except (ValueError, OSError, RecursionError):
        return False
