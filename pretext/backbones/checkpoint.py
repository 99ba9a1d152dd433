"""The backbone file: safetensors weights, and a header with everything needed to use and trace them."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from pretext.backbones.alexnet import AlexNet
from pretext.backbones.base import Backbone
from pretext.backbones.colornet import ColorNet
from pretext.backbones.header import FORMAT_VERSION, HEADER_KEY, read_header, untrained
from pretext.backbones.initializers import he_normal_
from pretext.backbones.vgg import VGG16
from pretext.checks import check_choice
from pretext.errors import InputError
from pretext.files import write_whole

T = TypeVar("T")

#: Every architecture that a backbone file can hold, by its name in the file's header.
ARCHITECTURES: Mapping[str, type[Backbone]] = MappingProxyType(
    {"alexnet": AlexNet, "vgg16": VGG16, "colornet": ColorNet}
)


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
        init_sha256: Hash of the backbone file that training started from; None if it started from none.
        init: Provenance of that file; None without one, or in files of earlier versions.
        config: The resolved config.
        versions: Versions of the packages, and the git commit, that wrote the weights.
    """

    method: str
    seed: int | None = None
    step: int = 0
    processes: int = 1
    data: str | None = None
    data_fingerprint: str | None = None
    init_sha256: str | None = None
    init: dict[str, Any] | None = None
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
    return described_sha256([backbone.architecture, arguments], backbone)


def described_sha256(description: Any, module: nn.Module) -> str:
    """Return the SHA-256 of a description, which JSON must be able to hold, and the bytes of every weight."""
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name, value in sorted(weights_of(module).items()):
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
            version, damaged, or its weights differ from its architecture in any key or shape or are not finite.
    """
    spec = str(spec)
    if spec.startswith("random:"):
        loaded = _random_backbone(spec.removeprefix("random:"), geometry, seed)
    else:
        loaded = _load_file(Path(spec), geometry)
    loaded.backbone.eval()
    return loaded


def build(architecture: str, arguments: dict[str, Any], geometry: str | None = None) -> Backbone:
    """Build the architecture of that name, with uninitialised weights.

    Raises:
        InputError: The architecture is unknown, or does not take these arguments.
    """
    check_choice("architecture", architecture, ARCHITECTURES)
    if geometry is not None:
        arguments = arguments | {"geometry": geometry}
    return build_from_header(architecture, ARCHITECTURES[architecture], arguments)


def build_from_header(name: str, kind: Callable[..., T], arguments: dict[str, Any]) -> T:
    """Build what a header names from its arguments there; raise InputError if it does not take them."""
    try:
        return kind(**arguments)
    except InputError:
        raise
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        raise InputError(f"{name} cannot be built from its arguments: {error}", received=arguments) from error


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's state dict as files hold it: detached, contiguous and on the CPU."""
    return {k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}


def _random_backbone(name: str, geometry: str | None, seed: int) -> LoadedBackbone:
    backbone = build(*untrained(name), geometry)
    he_normal_(backbone, seed)
    return LoadedBackbone(backbone, Provenance("random", seed), weights_sha256(backbone))


def _load_file(path: Path, geometry: str | None) -> LoadedBackbone:
    header = read_header(path)
    backbone = build(header["architecture"], header["arguments"], geometry)
    load_weights(backbone, path, header["architecture"])
    sha256 = weights_sha256(backbone)
    check_sha256(path, sha256, header["sha256"])
    return LoadedBackbone(backbone, read_provenance(header), sha256)


def load_weights(module: nn.Module, path: Path, name: str) -> None:
    """Load the weights of a file of safetensors.

    Args:
        module: Gets the weights; it must have the keys and shapes of the file.
        path: The file.
        name: What has these weights, for errors.

    Raises:
        InputError: The file is damaged, its weights differ from the module's in any key or shape, or one is not a
            finite number.
    """
    try:
        weights = load(path.read_bytes())
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} is damaged ({error})",
            allowed="copy the file again: its header can be read, its weights cannot",
        ) from error
    expected = {k: tuple(v.shape) for k, v in module.state_dict().items()}
    received = {k: tuple(v.shape) for k, v in weights.items()}
    missing, unexpected = sorted(expected.keys() - received), sorted(received.keys() - expected)
    misshapen = [k for k in sorted(expected.keys() & received) if expected[k] != received[k]]
    if missing or unexpected or misshapen:
        shapes = [f"{k} {received[k]} instead of {expected[k]}" for k in misshapen]
        wrong = f"missing {_listed(missing)}; unexpected {_listed(unexpected)}; of a wrong shape {_listed(shapes)}"
        raise InputError(
            f"{path} does not hold the weights of {name}",
            received=wrong,
            allowed="every key and shape must match",
        )
    not_finite = [name for name, weight in weights.items() if not bool(weight.isfinite().all())]
    if not_finite:
        raise InputError(
            f"{path} has weights that are not finite numbers",
            received=_listed(not_finite),
            allowed="name another file",
        )
    module.load_state_dict(weights, strict=True)


def check_sha256(path: Path, received: str, expected: str) -> None:
    """Raise InputError unless the SHA-256 of loaded weights is that of their file's header."""
    if received != expected:
        raise InputError(
            f"{path} is damaged: its weights do not have the SHA-256 of its header",
            received=received[:12],
            allowed=f"the header says {expected[:12]}; copy the file again",
        )


def read_provenance(header: dict[str, Any]) -> Provenance:
    """Return the provenance in a file's header."""
    return provenance_of(header["provenance"])


def provenance_of(values: Mapping[str, Any]) -> Provenance:
    """Return a provenance from its fields' values."""
    # A newer version may have added fields, which are not needed here.
    known = {entry.name for entry in fields(Provenance)}
    return Provenance(**{key: value for key, value in values.items() if key in known})


def _listed(items: list[str], most: int = 8) -> str:
    if not items:
        return "none"
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
