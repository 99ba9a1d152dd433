"""Backbones' weights under the names of other libraries."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from pretext.backbones.base import Backbone, ConvBlock
from pretext.backbones.checkpoint import absorb_batch_norm
from pretext.checks import check_at_least, check_choice, room_for
from pretext.errors import InputError
from pretext.files import write_whole


def torchvision_blocks(backbone: Backbone) -> dict[str, tuple[str, str | None]]:
    """What torchvision's ``alexnet``, ``vgg16`` and ``vgg16_bn`` call each convolution, and the norm after it.

    Raises:
        InputError: torchvision has no such architecture (colornet).
    """
    if backbone.architecture not in ("alexnet", "vgg16"):
        raise InputError(
            f"torchvision has no counterpart: received {backbone.architecture}, allowed are alexnet, vgg16"
        )
    names: dict[str, tuple[str, str | None]] = {}
    position, previous = 0, ""
    for name, block in backbone.named_children():
        if not (name.startswith("conv") and isinstance(block, ConvBlock)):
            continue
        # A pool takes one place: between VGG's blocks, and after AlexNet's conv1 and conv2.
        pooled = previous in ("conv1", "conv2") or ("_" in name and previous[:5] not in ("", name[:5]))
        position += int(pooled)
        normed = backbone.norm != "none"
        names[name] = (f"features.{position}", f"features.{position + 1}" if normed else None)
        position += 3 if normed else 2
        previous = name
    return names


def torchvision_state_dict(backbone: Backbone) -> dict[str, Tensor]:
    """Weights under the keys of torchvision's ``alexnet``, ``vgg16`` or ``vgg16_bn`` (``features.*``).

    AlexNet's batch norm is absorbed, since torchvision's has none; its channels stay what they are (torchvision's are
    64-192-384-256-256), and grouped convolutions stay grouped. fc6 and fc7 become the matrices of ``classifier.*``,
    unless they have batch norm, which torchvision's never have.

    Raises:
        InputError: As :func:`torchvision_blocks`.
    """
    names = torchvision_blocks(backbone)
    if backbone.architecture == "alexnet":
        backbone = absorb_batch_norm(backbone)
        names = torchvision_blocks(backbone)
    weights: dict[str, Tensor] = {}
    for name, (conv, norm) in names.items():
        block = backbone.get_submodule(name)
        assert isinstance(block, ConvBlock)
        weights |= {f"{conv}.{key}": value for key, value in _weights(block.conv).items()}
        if block.conv.bias is None:  # torchvision's always have one
            weights[f"{conv}.bias"] = torch.zeros(block.conv.out_channels)
        if norm is not None:
            weights |= {f"{norm}.{key}": value for key, value in _weights(block.norm).items()}
    if "fc6" in backbone.layer_names and backbone.norm == "none":
        # Dropout takes a place before AlexNet's layers and after VGG-16's.
        first = 1 if backbone.architecture == "alexnet" else 0
        for name, position in (("fc6", first), ("fc7", first + 3)):
            fc = _weights(backbone.get_submodule(f"{name}.conv"))
            weights[f"classifier.{position}.weight"] = fc["weight"].flatten(1)
            weights[f"classifier.{position}.bias"] = fc["bias"]
    return weights


def openmmlab_checkpoint(backbone: Backbone) -> dict[str, Any]:
    """A checkpoint as mmdetection and mmsegmentation load it for a model: ``state_dict`` with ``backbone.features.*``.

    The names are those of mmcv's ``VGG``; AlexNet's follow the same rule.

    Raises:
        InputError: As :func:`torchvision_blocks`.
    """
    weights = torchvision_state_dict(backbone)
    kept = {f"backbone.{key}": value for key, value in weights.items() if key.startswith("features.")}
    return {"meta": {"architecture": backbone.architecture}, "state_dict": kept}


class _Features(nn.Module):
    """A backbone with its layers chosen: photos in, a tuple of features out."""

    def __init__(self, backbone: Backbone, layers: Sequence[str]):
        super().__init__()
        self.backbone, self.layers = backbone, list(layers)

    def forward(self, photos: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.backbone(photos, self.layers).values())


def onnx_model(backbone: Backbone, layers: Sequence[str], size: int) -> bytes:
    """A backbone as an ONNX model, colour conversion and normalisation included.

    Args:
        backbone: In eval mode, on the CPU.
        layers: Its outputs, by their names.
        size: Side of the photos in pixels; how many there are in a batch is open. The input ``photos`` is
            float32 (N, 3, size, size) with values 0..255.

    Raises:
        InputError: A layer is unknown; the packages of the extra ``onnx`` are not installed; or the photos are too
            small for the network.
    """
    names = [
        name for name in backbone.layer_names if name in {backbone.layer(layer).name for layer in layers}
    ]
    check_at_least("size", size, 1)
    photos = torch.zeros(2, 3, size, size)
    with torch.no_grad(), room_for(backbone.architecture, f"{size} pixels"):
        backbone(photos, names)
    try:
        program = torch.onnx.export(
            _Features(backbone, names).eval(),
            (photos,),
            dynamo=True,
            input_names=["photos"],
            output_names=names,
            dynamic_shapes={"photos": {0: torch.export.Dim("n")}},
            verbose=False,
        )
    except ImportError as error:
        raise InputError(
            f"ONNX needs more packages ({error}): pip install 'pretext-transfer[onnx]'"
        ) from error
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content


def save_state_dict(weights: dict[str, Any], path: Path) -> None:
    """Write a plain state dict, whole or not at all, as ``.safetensors`` or as torch's ``.pth``.

    A checkpoint of OpenMMLab, which holds more than tensors, is a ``.pth``.

    Raises:
        InputError: The file name ends otherwise, or the file cannot be written.
    """
    endings = (".pth",) if "state_dict" in weights else (".safetensors", ".pth")
    check_choice("ending of a state dict's file", path.suffix, endings)
    if path.suffix == ".safetensors":
        write_whole(path, save(weights))
        return
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    write_whole(path, buffer.getvalue())


def _weights(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
