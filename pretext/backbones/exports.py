"""A backbone's weights under the names of other libraries, and as an ONNX model."""

import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from pretext.backbones.base import Backbone, ConvBlock
from pretext.backbones.checkpoint import weights_of
from pretext.backbones.surgery import absorb_batch_norm
from pretext.checks import check_at_least, check_choice, room_for
from pretext.errors import InputError
from pretext.files import write_whole


def torchvision_blocks(backbone: Backbone) -> dict[str, tuple[str, str | None]]:
    """Return torchvision's names of each convolution and of the norm after it, in ``alexnet``, ``vgg16``, ``vgg16_bn``.

    Raises:
        InputError: torchvision has no such architecture (colornet).
    """
    check_choice("architecture for torchvision's names", backbone.architecture, ("alexnet", "vgg16"))
    names: dict[str, tuple[str, str | None]] = {}
    position, previous = 0, ""
    for name, block in backbone.named_children():
        if not (name.startswith("conv") and isinstance(block, ConvBlock)):
            continue
        # A pool takes up one number: between VGG's blocks, and after AlexNet's conv1 and conv2.
        pooled = previous in ("conv1", "conv2") or ("_" in name and previous[:5] not in ("", name[:5]))
        position += int(pooled)
        normed = backbone.norm != "none"
        names[name] = (f"features.{position}", f"features.{position + 1}" if normed else None)
        position += 3 if normed else 2
        previous = name
    return names


def torchvision_state_dict(backbone: Backbone) -> dict[str, Tensor]:
    """Return the weights under the keys of torchvision's ``alexnet``, ``vgg16`` or ``vgg16_bn`` (``features.*``).

    AlexNet's batch norm is absorbed, since torchvision's AlexNet has none; its channels are kept (torchvision's are
    64-192-384-256-256), and so are its groups. fc6 and fc7 become the matrices of ``classifier.*``, unless they have
    batch norm, which torchvision's never have.

    Raises:
        InputError: As for :func:`torchvision_blocks`.
    """
    names = torchvision_blocks(backbone)
    if backbone.architecture == "alexnet":
        backbone = absorb_batch_norm(backbone)
        names = torchvision_blocks(backbone)
    weights: dict[str, Tensor] = {}
    for name, (conv, norm) in names.items():
        block = backbone.get_submodule(name)
        assert isinstance(block, ConvBlock)
        weights |= {f"{conv}.{key}": value for key, value in weights_of(block.conv).items()}
        if block.conv.bias is None:  # torchvision's convolutions always have one
            weights[f"{conv}.bias"] = torch.zeros(block.conv.out_channels)
        if norm is not None:
            weights |= {f"{norm}.{key}": value for key, value in weights_of(block.norm).items()}
    if "fc6" in backbone.layer_names and backbone.norm == "none":
        # Dropout takes up a number before each of AlexNet's layers, and after each of VGG-16's.
        first = 1 if backbone.architecture == "alexnet" else 0
        for name, position in (("fc6", first), ("fc7", first + 3)):
            fc = weights_of(backbone.get_submodule(f"{name}.conv"))
            weights[f"classifier.{position}.weight"] = fc["weight"].flatten(1)
            weights[f"classifier.{position}.bias"] = fc["bias"]
    return weights


def openmmlab_checkpoint(backbone: Backbone) -> dict[str, Any]:
    """Return a checkpoint that models of mmdetection and mmsegmentation load.

    Its ``state_dict`` has ``backbone.features.*``, the names of mmcv's ``VGG``; AlexNet's follow the same rule.

    Raises:
        InputError: As for :func:`torchvision_blocks`.
    """
    weights = torchvision_state_dict(backbone)
    kept = {f"backbone.{key}": value for key, value in weights.items() if key.startswith("features.")}
    return {"meta": {"architecture": backbone.architecture}, "state_dict": kept}


class _Features(nn.Module):
    """A backbone with fixed layers: photos in, a tuple of features out."""

    def __init__(self, backbone: Backbone, layers: Sequence[str]):
        super().__init__()
        self.backbone, self.layers = backbone, list(layers)

    def forward(self, photos: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.backbone(photos, self.layers).values())


def onnx_model(backbone: Backbone, layers: Sequence[str], size: int) -> bytes:
    """Return a backbone as an ONNX model, with its colour conversion and normalisation.

    Args:
        backbone: In eval mode, on the CPU.
        layers: Names of the layers that it outputs.
        size: Side of the photos in pixels. The input ``photos`` is float32 (N, 3, size, size) with values 0..255; N is
            free.

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
    module = _Features(backbone, names).eval()
    return onnx_bytes(module, {"photos": photos}, names, {"photos": {0: torch.export.Dim("n")}})


def onnx_bytes(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    dynamic_shapes: Mapping[str, Mapping[int, Any]],
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> bytes:
    """Return a module as an ONNX model.

    Args:
        module: In eval mode, on the CPU; it returns a tuple of tensors.
        inputs: An example of each argument by its name, in their order.
        outputs: Names of what the module returns.
        dynamic_shapes: The axes of each argument that are free, as `torch.export.export` takes them.
        metadata: Texts by key that the model carries.

    Raises:
        InputError: The packages of the extra ``onnx`` are not installed.
    """
    # It tells of every inequality of sizes that it leaves unsolved, with tracebacks; pools have such.
    logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        program = torch.onnx.export(
            module,
            tuple(inputs.values()),
            dynamo=True,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes={name: dict(axes) for name, axes in dynamic_shapes.items()},
            verbose=False,
        )
    except ImportError as error:
        raise InputError(
            f"ONNX needs more packages: {error}",
            allowed="pip install 'pretext-transfer[onnx]'",
        ) from error
    finally:
        logger.setLevel(level)
    assert program is not None
    program.model.metadata_props.update(metadata)
    content: bytes = program.model_proto.SerializeToString()
    return content


def save_state_dict(weights: dict[str, Any], path: Path) -> None:
    """Write a plain state dict, whole or not at all, as ``.safetensors`` or as torch's ``.pth``.

    OpenMMLab's checkpoints hold more than tensors, so they must be ``.pth``.

    Raises:
        InputError: The file name has another ending, or the file cannot be written.
    """
    endings = (".pth",) if "state_dict" in weights else (".safetensors", ".pth")
    check_choice("ending of a state dict's file", path.suffix, endings)
    if path.suffix == ".safetensors":
        write_whole(path, save(weights))
        return
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    write_whole(path, buffer.getvalue())
