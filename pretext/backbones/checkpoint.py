"""The backbone file: safetensors weights, and a header with everything needed to use and trace them."""

import hashlib
import json
import struct
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from pretext.backbones import ARCHITECTURES
from pretext.backbones.base import Backbone
from pretext.backbones.initializers import he_normal_
from pretext.checks import check_choice
from pretext.errors import InputError
from pretext.files import write_whole
from pretext.old_names import renamed

FORMAT_VERSION = 1
HEADER_KEY = "pretext_transfer"
#: Keys that a header must have, and the types of their values.
REQUIRED = {"architecture": str, "arguments": dict, "provenance": dict, "sha256": str}


@dataclass(frozen=True)
class Provenance:
    """Where a backbone's weights come from.

    Attributes:
        method: Pretext method, for instance ``colorization``, or ``random``.
        seed: Seed of the run; None if unknown.
        step: Number of optimiser steps.
        processes: Number of processes that shared the run; the config's batch size is per process.
        data: Name of the photos it was trained on; None if there were none.
        data_fingerprint: SHA-256 of their listing.
        config: The resolved config.
        versions: Versions of the packages, and the git commit, that wrote the weights.
    """

    method: str
    seed: int | None = None
    step: int = 0
    processes: int = 1
    data: str | None = None
    data_fingerprint: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadedBackbone:
    """A backbone with its provenance and the SHA-256 of its architecture and weights."""

    backbone: Backbone
    provenance: Provenance
    sha256: str


def weights_sha256(backbone: Backbone) -> str:
    """Return the SHA-256 of the architecture, its arguments (except the geometry) and the bytes of every weight."""
    arguments = {k: v for k, v in backbone.arguments.items() if k != "geometry"}
    digest = hashlib.sha256(json.dumps([backbone.architecture, arguments], sort_keys=True).encode())
    for name, value in sorted(weights_of(backbone).items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def save_backbone(backbone: Backbone, path: Path | str, provenance: Provenance) -> str:
    """Write a backbone file, whole or not at all.

    Args:
        backbone: Any backbone, on any device.
        path: File to write; should end in ``.safetensors``.
        provenance: Goes into the header, beside the architecture.

    Returns:
        The SHA-256 that :func:`load_backbone` will report.
    """
    sha256 = weights_sha256(backbone)
    header = {
        "format_version": FORMAT_VERSION,
        "architecture": backbone.architecture,
        "arguments": backbone.arguments,
        "input": {
            "space": backbone.input_space,
            "channels": backbone.in_channels,
            "mean": backbone.arguments["input_mean"],
            "std": backbone.arguments["input_std"],
        },
        "layers": [asdict(layer) for layer in backbone.layers],
        "batch_norm": "absorbed" if backbone.norm == "none" else "kept",
        "provenance": asdict(provenance),
        "sha256": sha256,
    }
    write_whole(Path(path), save(weights_of(backbone), metadata={HEADER_KEY: json.dumps(header)}))
    return sha256


def load_backbone(spec: str | Path, *, geometry: str | None = None, seed: int = 0) -> LoadedBackbone:
    """Load a backbone from its file, or make an untrained one.

    Args:
        spec: Path of a backbone file; or ``random:NAME`` for an untrained backbone of that architecture, with
            ``random:NAME:INPUT_SPACE`` for another input space than its default (``random:alexnet:rgb``); or
            ``random:PATH`` for the untrained twin (same architecture and arguments) of a backbone file.
        geometry: ``pretrain`` or ``evaluation``; None keeps the file's.
        seed: Seed of an untrained backbone's weights; files ignore it.

    Returns:
        The backbone in eval mode, with its provenance and the hash of the weights as stored.

    Raises:
        InputError: The architecture is unknown; or the file is missing, not a backbone file, of another format
            version, damaged, or its weights differ from its architecture in any key or shape.
    """
    spec = str(spec)
    if spec.startswith("random:"):
        loaded = _random_backbone(spec.removeprefix("random:"), geometry, seed)
    else:
        loaded = _load_file(Path(spec), geometry)
    loaded.backbone.eval()
    return loaded


def read_header(path: Path) -> dict[str, Any]:
    """Return the header of a backbone file; raise InputError if it is not one. Pickles are never opened."""
    header, _ = _read(path, with_weights=False)
    return header


def build(architecture: str, arguments: dict[str, Any], geometry: str | None = None) -> Backbone:
    """Build the architecture of that name, with uninitialised weights.

    Raises:
        InputError: The architecture is unknown, or does not take these arguments.
    """
    check_choice("architecture", architecture, ARCHITECTURES)
    if geometry is not None:
        arguments = arguments | {"geometry": geometry}
    try:
        return ARCHITECTURES[architecture](**arguments)
    except InputError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{architecture} cannot be built from its arguments: {error}", received=arguments
        ) from error


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's state dict as files hold it: detached, contiguous and on the CPU."""
    return {k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}


def layers_of(spec: str) -> tuple[str, ...]:
    """Return the names of a backbone's layers without loading it; ``spec`` is that of `load_backbone`.

    Raises:
        InputError: As for `load_backbone`, except that damaged weights go unnoticed.
    """
    if spec.startswith("random:"):
        return build(*_untrained(spec.removeprefix("random:"))).layer_names
    return tuple(layer["name"] for layer in read_header(Path(spec))["layers"])


def parse_name(name: str) -> tuple[str, dict[str, Any]]:
    """Split ``NAME`` or ``NAME:INPUT_SPACE`` into the architecture and the arguments that `build` takes."""
    architecture, colon, input_space = name.partition(":")
    return architecture, {"input_space": input_space} if colon else {}


def _untrained(name: str) -> tuple[str, dict[str, Any]]:
    """Return the architecture and the arguments that follow ``random:``."""
    if name.endswith(".safetensors"):
        header = read_header(Path(name))
        return header["architecture"], header["arguments"]
    architecture, arguments = parse_name(name)
    if architecture not in ARCHITECTURES:
        raise InputError(
            "unknown untrained backbone",
            received=f"random:{name}",
            allowed=f"allowed are random:NAME and random:NAME:INPUT_SPACE with NAME one of {', '.join(ARCHITECTURES)},"
            " or random:FILE.safetensors for the untrained twin of a backbone file",
        )
    return architecture, arguments


def _random_backbone(name: str, geometry: str | None, seed: int) -> LoadedBackbone:
    backbone = build(*_untrained(name), geometry)
    he_normal_(backbone, seed)
    return LoadedBackbone(backbone, Provenance("random", seed), weights_sha256(backbone))


def _load_file(path: Path, geometry: str | None) -> LoadedBackbone:
    header, weights = _read(path, with_weights=True)
    backbone = build(header["architecture"], header["arguments"], geometry)
    expected = {k: tuple(v.shape) for k, v in backbone.state_dict().items()}
    received = {k: tuple(v.shape) for k, v in weights.items()}
    missing, unexpected = sorted(expected.keys() - received), sorted(received.keys() - expected)
    misshapen = [k for k in sorted(expected.keys() & received) if expected[k] != received[k]]
    if missing or unexpected or misshapen:
        shapes = [f"{k} {received[k]} instead of {expected[k]}" for k in misshapen]
        wrong = f"missing {_listed(missing)}; unexpected {_listed(unexpected)}; of a wrong shape {_listed(shapes)}"
        raise InputError(
            f"{path} does not hold the weights of {header['architecture']}",
            received=wrong,
            allowed="every key and shape must match",
        )
    backbone.load_state_dict(weights, strict=True)
    sha256 = weights_sha256(backbone)
    if sha256 != header["sha256"]:
        raise InputError(
            f"{path} is damaged: its weights do not have the SHA-256 of its header",
            received=sha256[:12],
            allowed=f"the header says {header['sha256'][:12]}; copy the file again",
        )
    # A newer version may have added fields, which are not needed here.
    known = {entry.name for entry in fields(Provenance)}
    provenance = {key: value for key, value in header["provenance"].items() if key in known}
    return LoadedBackbone(backbone, Provenance(**provenance), sha256)


def _read(path: Path, *, with_weights: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise InputError(
            "no backbone file",
            received=path,
            allowed="allowed are the path of a backbone.safetensors or random:NAME with NAME one of"
            f" {', '.join(ARCHITECTURES)}",
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()} if with_weights else {}  # noqa: SIM118
        header = renamed(json.loads(metadata[HEADER_KEY]))
        version = header["format_version"]
    except (SafetensorError, struct.error, json.JSONDecodeError, KeyError, TypeError, OSError) as error:
        raise InputError(
            f"{path} is not a backbone file ({type(error).__name__}: {error})",
            allowed=f"name a file of safetensors with a {HEADER_KEY} header, as `pretext train` writes it. Pickled"
            " checkpoints are never opened",
        ) from error
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path} has a format that this version cannot read", received=version, allowed=(FORMAT_VERSION,)
        )
    wrong = [key for key, kind in REQUIRED.items() if not isinstance(header.get(key), kind)]
    if not wrong and "method" not in header["provenance"]:
        wrong = ["provenance.method"]
    if wrong:
        raise InputError(
            f"{path} has a damaged header: keys are missing or of a wrong type",
            received=", ".join(wrong),
            allowed="copy the file again",
        )
    return header, weights


def _listed(items: list[str], most: int = 8) -> str:
    if not items:
        return "none"
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
