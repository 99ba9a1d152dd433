"""The backbone file: safetensors weights, and a header with all that is needed to use and to trace them."""

import hashlib
import json
import struct
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from pretext.backbones import ARCHITECTURES
from pretext.backbones.base import Backbone, ConvBlock
from pretext.checks import check_choice
from pretext.errors import InputError
from pretext.files import write_whole
from pretext.initializers import he_normal_
from pretext.old_names import renamed

FORMAT_VERSION = 1
HEADER_KEY = "pretext_transfer"
#: What a header must hold to be loaded.
REQUIRED = {"architecture": str, "arguments": dict, "provenance": dict, "sha256": str}


#: ab relative to lightness where a backbone is given colour: the weight of ``data_ab`` in
#: feature_learning_tests/segmentation/train_val.prototxt of richzhang/colorization.
AB_SCALE = 0.69308239


@dataclass(frozen=True)
class Provenance:
    """Where a backbone's weights come from.

    Attributes:
        method: Pretext method, for instance ``colorization``, or ``random``.
        seed: Seed of the run; None if unknown.
        step: Optimiser steps taken.
        processes: How many processes shared the run; the config's batch size is that of each.
        data: Name of the photos trained on; None if none were.
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
    """SHA-256 over the architecture, its arguments (but for the geometry) and every weight's bytes."""
    arguments = {k: v for k, v in backbone.arguments.items() if k != "geometry"}
    digest = hashlib.sha256(json.dumps([backbone.architecture, arguments], sort_keys=True).encode())
    for name, value in sorted(_weights(backbone).items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def save_backbone(backbone: Backbone, path: Path | str, provenance: Provenance) -> str:
    """Write a backbone file, whole or not at all.

    Args:
        backbone: Any backbone, on any device.
        path: Where to; should end in ``.safetensors``.
        provenance: What goes into the header beside the architecture.

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
    write_whole(Path(path), save(_weights(backbone), metadata={HEADER_KEY: json.dumps(header)}))
    return sha256


def load_backbone(
    spec: str | Path, *, geometry: str | None = None, seed: int = 0, norm: str = "keep"
) -> LoadedBackbone:
    """Load a backbone whole, or make an untrained one.

    Args:
        spec: Path of a backbone file; or ``random:NAME`` for an untrained backbone of that architecture, with
            ``random:NAME:INPUT_SPACE`` for other colours than its own (``random:alexnet:rgb``); or
            ``random:PATH`` for the untrained twin (same architecture and arguments) of a backbone file.
        geometry: ``pretrain`` or ``evaluation``; None keeps the file's.
        seed: Seed of an untrained backbone's weights; not used for a file.
        norm: ``keep``, or ``absorb`` to fold batch norm into the convolutions.

    Returns:
        The backbone in eval mode, with provenance and hash. The hash is that of the weights as stored.

    Raises:
        InputError: The file is missing, not a backbone file, of a newer format, damaged, or its weights do
            not match its architecture to the last key and shape; or the architecture is unknown.
    """
    check_choice("norm policy", norm, ("keep", "absorb"))
    spec = str(spec)
    if spec.startswith("random:"):
        loaded = _random_backbone(spec.removeprefix("random:"), geometry, seed)
    else:
        loaded = _load_file(Path(spec), geometry)
    if norm == "absorb":
        loaded = LoadedBackbone(absorb_batch_norm(loaded.backbone), loaded.provenance, loaded.sha256)
    loaded.backbone.eval()
    return loaded


def read_header(path: Path) -> dict[str, Any]:
    """The header of a backbone file; InputError if the file is none. Pickles are never opened."""
    header, _ = _read(path, with_weights=False)
    return header


def drop_fully_connected(backbone: Backbone) -> None:
    """Take fc6 and fc7 out of a backbone, in place, if it has them."""
    for name in ("fc6", "fc7"):
        if name in backbone.layer_names:
            delattr(backbone, name)
    backbone.layers = tuple(layer for layer in backbone.layers if layer.name not in ("fc6", "fc7"))
    if "fully_connected" in backbone.arguments:
        backbone.arguments["fully_connected"] = False


def add_color_channels(backbone: Backbone) -> Backbone:
    """A new backbone that sees Lab where ``backbone`` sees lightness, and computes the same.

    The first convolution's weights of a and b are zero, to be learned. Relative to lightness ab are scaled as in the
    segmentation test of Zhang et al. (ECCV 2016), by 0.693.

    Raises:
        InputError: The backbone sees something else than lightness.
    """
    if backbone.input_space != "lightness":
        raise InputError(
            f"only a backbone that sees lightness can be given colour: received input_space={backbone.input_space}"
        )
    (mean,), (std,) = backbone.arguments["input_mean"], backbone.arguments["input_std"]
    statistics = {"input_mean": (mean, 0.0, 0.0), "input_std": (std, std / AB_SCALE, std / AB_SCALE)}
    colored = build(backbone.architecture, backbone.arguments | {"input_space": "lab"} | statistics)
    weights = _weights(backbone)
    first = next(name for name, value in weights.items() if value.ndim == 4)
    zeros = torch.zeros_like(weights[first])
    colored.load_state_dict(weights | {first: torch.cat([weights[first], zeros, zeros], dim=1)})
    return colored.train(backbone.training)


def absorb_batch_norm(backbone: Backbone) -> Backbone:
    """A copy of ``backbone`` without batch norm whose features in eval mode are the same.

    Every convolution takes over its batch norm's scale ``s = weight / sqrt(running_var + eps)`` and shift
    ``bias - running_mean * s``.

    Raises:
        InputError: Batch norm does not follow directly on a convolution (colornet: it follows the ReLU, and
            the zero padding of the next convolution makes absorbing inexact).
    """
    if backbone.norm == "none":
        return backbone
    blocks = {name: m for name, m in backbone.named_modules() if isinstance(m, ConvBlock)}
    if not blocks:
        raise InputError(
            f"batch norm of {backbone.architecture} cannot be absorbed: it follows the ReLU, not the convolution;"
            " allowed are alexnet and vgg16; a stage keeps it with batch_norm=frozen or batch_norm=train"
        )
    absorbed = build(backbone.architecture, backbone.arguments | {"norm": "none"})
    for name, block in blocks.items():
        norm, conv = block.norm, absorbed.get_submodule(f"{name}.conv")
        assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
        assert isinstance(conv, nn.Conv2d)
        assert norm.running_var is not None
        assert norm.running_mean is not None
        assert conv.bias is not None
        scale = torch.rsqrt(norm.running_var.double() + norm.eps)
        if norm.affine:
            scale = scale * norm.weight.double()
        shift = (norm.bias.double() if norm.affine else 0) - norm.running_mean.double() * scale
        with torch.no_grad():
            conv.weight.copy_(block.conv.weight * scale.view(-1, 1, 1, 1))
            conv.bias.copy_(shift)
    return absorbed.train(backbone.training).to(backbone.input_mean.device)


def build(architecture: str, arguments: dict[str, Any], geometry: str | None = None) -> Backbone:
    """Build the architecture of that name, with uninitialised weights.

    Raises:
        InputError: Unknown architecture, or arguments or values it does not take.
    """
    check_choice("architecture", architecture, ARCHITECTURES)
    if geometry is not None:
        arguments = arguments | {"geometry": geometry}
    try:
        return ARCHITECTURES[architecture](**arguments)
    except InputError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{architecture} cannot be built from {arguments}: {error}") from error


def _weights(module: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}


def layers_of(spec: str) -> tuple[str, ...]:
    """Names of the layers of what `load_backbone` takes, which is not loaded.

    Raises:
        InputError: As `load_backbone`, but for damaged weights.
    """
    if spec.startswith("random:"):
        return build(*_untrained(spec.removeprefix("random:"))).layer_names
    return tuple(layer["name"] for layer in read_header(Path(spec))["layers"])


def parse_name(name: str) -> tuple[str, dict[str, Any]]:
    """``NAME`` or ``NAME:INPUT_SPACE`` as the architecture and the arguments that `build` takes."""
    architecture, colon, input_space = name.partition(":")
    return architecture, {"input_space": input_space} if colon else {}


def _untrained(name: str) -> tuple[str, dict[str, Any]]:
    """Architecture and arguments of what stands behind ``random:``."""
    if name.endswith(".safetensors"):
        header = read_header(Path(name))
        return header["architecture"], header["arguments"]
    architecture, arguments = parse_name(name)
    if architecture not in ARCHITECTURES:
        raise InputError(
            f"unknown untrained backbone: received 'random:{name}', allowed are random:NAME and random:NAME:INPUT_SPACE"
            f" with NAME one of {', '.join(ARCHITECTURES)}, or random:FILE.safetensors for the twin of a backbone file"
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
        raise InputError(
            f"{path} does not hold the weights of {header['architecture']}: missing {_listed(missing)};"
            f" unexpected {_listed(unexpected)}; of a wrong shape {_listed(shapes)}. Every key must match."
        )
    backbone.load_state_dict(weights, strict=True)
    sha256 = weights_sha256(backbone)
    if sha256 != header["sha256"]:
        raise InputError(
            f"{path} is damaged: its weights have SHA-256 {sha256[:12]}, its header says"
            f" {header['sha256'][:12]}; copy it again"
        )
    # What a newer version may have added is not needed here.
    known = {entry.name for entry in fields(Provenance)}
    provenance = {key: value for key, value in header["provenance"].items() if key in known}
    return LoadedBackbone(backbone, Provenance(**provenance), sha256)


def _read(path: Path, *, with_weights: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise InputError(
            f"no backbone file: received {path}; allowed are the path of a backbone.safetensors"
            f" or random:NAME with NAME one of {', '.join(ARCHITECTURES)}"
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()} if with_weights else {}  # noqa: SIM118
        header = renamed(json.loads(metadata[HEADER_KEY]))
        version = header["format_version"]
    except (SafetensorError, struct.error, json.JSONDecodeError, KeyError, TypeError, OSError) as error:
        raise InputError(
            f"{path} is not a backbone file ({type(error).__name__}: {error}); expected safetensors with a"
            f" {HEADER_KEY} header, as `pretext train` writes it. Pickled checkpoints are never opened."
        ) from error
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path} is a backbone file of format {version}; this version reads format {FORMAT_VERSION}"
        )
    wrong = [key for key, kind in REQUIRED.items() if not isinstance(header.get(key), kind)]
    if not wrong and "method" not in header["provenance"]:
        wrong = ["provenance.method"]
    if wrong:
        raise InputError(
            f"{path} has a damaged header: missing or of a wrong type are {', '.join(wrong)}; copy the file again"
        )
    return header, weights


def _listed(items: list[str], most: int = 8) -> str:
    if not items:
        return "none"
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
