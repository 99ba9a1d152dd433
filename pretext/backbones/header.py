"""What can be told of a backbone without loading it: the header of its file, its architecture, its layers.

Neither torch nor safetensors is imported here, so that a wrong backbone or layer is told at once.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pretext.checks import check_choice
from pretext.errors import InputError
from pretext.files import is_file
from pretext.old_names import renamed

FORMAT_VERSION = 1
HEADER_KEY = "pretext_transfer"
#: The file of the pretrained backbone, the last that a run writes.
BACKBONE_NAME = "backbone.safetensors"
#: Files that a run leaves, by the key of their header.
FILES = MappingProxyType(
    {HEADER_KEY: "backbone", "pretext_colorizer": "colorizer", "pretext_classifier": "classifier"}
)
#: Keys that a header must have, and the types of their values.
REQUIRED = {"architecture": str, "arguments": dict, "layers": list, "provenance": dict, "sha256": str}
#: Longest header of safetensors in bytes, as its own reader allows.
MAX_HEADER = 100_000_000
INPUT_SPACES = ("lightness", "lab", "rgb")
#: Layers of the architectures that can be built untrained by their names, from the photo upwards.
LAYERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "alexnet": ("conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5"),
        "vgg16": (
            *("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3"),
            *("conv4_1", "conv4_2", "conv4_3", "conv5_1", "conv5_2", "conv5_3", "pool5"),
        ),
        "colornet": tuple(f"conv{number}" for number in range(1, 9)),
    }
)


def read_header(path: Path) -> dict[str, Any]:
    """Read the header of a backbone file.

    Raises:
        InputError: The file is not a backbone file, its header is damaged, or its format is another version's.
    """
    if not path.is_file():
        raise InputError(
            "no backbone file",
            received=str(path),
            allowed="name the path of a backbone.safetensors; where a backbone is judged, random:NAME with NAME one"
            f" of {', '.join(LAYERS)} is allowed, too",
        )
    return read_file_header(path, HEADER_KEY, FORMAT_VERSION, REQUIRED)


def read_file_header(path: Path, key: str, version: int, required: Mapping[str, type]) -> dict[str, Any]:
    """Read the header of a file of safetensors that pretraining wrote.

    Args:
        path: An existing file.
        key: Key of the header in the metadata, one of `FILES`.
        version: Version of the format that can be read.
        required: Keys that the header must have, and the types of their values.

    Raises:
        InputError: The file is of another kind, its header is damaged, or its format is another version's.
    """
    kind = FILES[key]
    try:
        metadata = read_metadata(path)
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(
            f"{path} is not a {kind} file: {error}",
            allowed=f"name a {kind}.safetensors, as pretraining leaves it; pickled checkpoints are never opened",
        ) from error
    if key not in metadata:
        raise InputError(
            f"{path} is not a {kind} file",
            received=f"a {next((FILES[k] for k in metadata if k in FILES), 'safetensors')} file",
            allowed=f"name a {kind}.safetensors, as pretraining leaves it",
        )
    try:
        header = renamed(json.loads(metadata[key]))
        found_version = header["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path} has a damaged header: {type(error).__name__}: {error}", allowed="copy the file again"
        ) from error
    if found_version != version:
        raise InputError(
            f"{path} has a format that this version cannot read", received=found_version, allowed=(version,)
        )
    wrong = [name for name, wanted in required.items() if not isinstance(header.get(name), wanted)]
    if not wrong and "method" not in header["provenance"]:
        wrong = ["provenance.method"]
    if wrong:
        raise InputError(
            f"{path} has a damaged header: keys are missing or of a wrong type",
            received=", ".join(wrong),
            allowed="copy the file again",
        )
    found: dict[str, Any] = header
    return found


def backbone_file(spec: str) -> str:
    """Return the backbone file of a run whose folder is named, and any other name as it is."""
    path = Path(spec) / BACKBONE_NAME
    return str(path) if is_file(path) else spec


def layers_of(spec: str) -> tuple[str, ...]:
    """Return the names of a backbone's layers.

    Args:
        spec: As for `pretext.backbones.checkpoint.load_backbone`.

    Raises:
        InputError: As for `load_backbone`, except that damaged weights go unnoticed.
    """
    name = spec.removeprefix("random:")
    if name == spec or name.endswith(".safetensors"):
        return tuple(layer["name"] for layer in read_header(Path(name))["layers"])
    return LAYERS[untrained(name)[0]]


def parse_name(name: str) -> tuple[str, dict[str, Any]]:
    """Split ``NAME`` or ``NAME:INPUT_SPACE`` into an architecture and its arguments."""
    architecture, colon, input_space = name.partition(":")
    return architecture, {"input_space": input_space} if colon else {}


def untrained(name: str) -> tuple[str, dict[str, Any]]:
    """Return the architecture and the arguments of what follows ``random:``.

    Raises:
        InputError: There is no such architecture or input space, or the file is not a backbone file.
    """
    if name.endswith(".safetensors"):
        header = read_header(Path(name))
        return header["architecture"], header["arguments"]
    architecture, arguments = parse_name(name)
    if architecture not in LAYERS:
        raise InputError(
            "unknown untrained backbone",
            received=f"random:{name}",
            allowed=f"allowed are random:NAME and random:NAME:INPUT_SPACE with NAME one of {', '.join(LAYERS)},"
            " or random:FILE.safetensors for the untrained twin of a backbone file",
        )
    if arguments:
        check_choice("input_space", arguments["input_space"], INPUT_SPACES)
    return architecture, arguments


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a file of safetensors: eight bytes give the length of the JSON that follows them.

    Raises:
        ValueError: The file is of another kind, or has no metadata.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= MAX_HEADER:
            raise ValueError("it does not begin as a file of safetensors does")
        listed = json.loads(file.read(length))
    if not isinstance(listed, dict) or not isinstance(listed.get("__metadata__"), dict):
        raise ValueError("it has no metadata")
    metadata: dict[str, str] = listed["__metadata__"]
    return metadata
