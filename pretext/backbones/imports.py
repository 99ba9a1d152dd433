"""Backbones from other weight files: torchvision's, VGG-16's of Caffe, and those of "Colorful Image Colorization".

The file must have every tensor of the backbone in its shape. Other tensors of the file are left out and listed.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from pretext.backbones.base import Backbone
from pretext.backbones.caffe import read_caffemodel
from pretext.backbones.checkpoint import build
from pretext.backbones.exports import torchvision_blocks
from pretext.checks import check_choice
from pretext.errors import InputError

#: Endings of the files that are read.
ENDINGS = (".pth", ".pt", ".pth.tar", ".safetensors", ".caffemodel")
#: torchvision's AlexNet differs from the papers' in its channels and its padding.
_TORCHVISION_ALEXNET = {
    "input_space": "rgb", "geometry": "evaluation", "groups": 1, "fully_connected": True, "norm": "none",
    "channels": (64, 192, 384, 256, 256), "conv1_padding": 2,
}  # fmt: skip
#: Mean colour, R, G and B, that Simonyan and Zisserman subtract.
VGG_MEAN = (123.68, 116.779, 103.939)
_TORCHVISION_VGG16 = {"input_space": "rgb", "geometry": "evaluation", "fully_connected": True, "norm": "none"}


@dataclass(frozen=True)
class Imported:
    """A backbone from a foreign file.

    Attributes:
        backbone: In eval mode.
        used: Names of the file's tensors that the backbone uses.
        left_out: Names of the others.
    """

    backbone: Backbone
    used: tuple[str, ...]
    left_out: tuple[str, ...]


class Source:
    """The tensors of a foreign file of weights; remembers which were taken.

    Args:
        path: ``.pth``, ``.pt`` or ``.pth.tar`` (code in a pickle is never run), ``.safetensors``, or ``.caffemodel``,
            whose arrays are called ``LAYER.NUMBER``. A checkpoint may hold the state dict as ``state_dict`` or
            ``model``.

    Attributes:
        used: Names of the tensors that were taken, in their order.

    Raises:
        InputError: The file cannot be read, or holds no tensors by name.
    """

    def __init__(self, path: Path):
        self.path, self.tensors, self._used = path, _read(path), dict[str, None]()

    @property
    def used(self) -> tuple[str, ...]:
        """Names of the tensors that were taken."""
        return tuple(self._used)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names of the others."""
        return tuple(name for name in self.tensors if name not in self._used)

    def take(self, name: str, shape: torch.Size, role: str) -> Tensor:
        """Return a tensor in the wanted shape; a matrix may stand for a convolution over its whole input.

        Raises:
            InputError: The file lacks the tensor, or has it in another shape or with values that are not finite.
        """
        self.need({name: role})
        tensor = self.tensors[name]
        self._used[name] = None
        # Arrays of Caffe's old files always have four sides, the first of them ones.
        if tensor.ndim == 4 and tensor.shape[:2] == (1, 1) and shape[:2] != (1, 1):
            tensor = tensor[0, 0]
        while tensor.ndim > len(shape) and tensor.shape[0] == 1:
            tensor = tensor[0]
        flat = tensor.ndim in (2, 4) and len(shape) == 4 and tensor.shape[0] == shape[0]
        if tensor.shape != shape and not (flat and tensor.ndim == 2 and tensor.numel() == shape.numel()):
            raise InputError(
                f"{self.path}: {name} does not have the shape that {role} needs",
                received=tuple(tensor.shape),
                allowed=(tuple(shape),),
            )
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{self.path}: {name} has values that are not finite numbers")
        return tensor.reshape(shape).float()

    def need(self, roles: Mapping[str, str]) -> None:
        """Raise InputError if the file lacks tensors, given by name with what needs them; it names them."""
        missing = [name for name in roles if name not in self.tensors]
        if missing:
            raise InputError(
                f"{self.path} has no {_some(missing)}, which {roles[missing[0]]} needs",
                received=_some(sorted(self.tensors)),
                allowed="it may be of another kind of network",
            )


def import_backbone(path: Path | str, kind: str) -> Imported:
    """Read a foreign file of weights.

    Args:
        path: As for `Source`.
        kind: One of `KINDS`.

    Raises:
        InputError: The file cannot be read, lacks a tensor, or has one in another shape.
    """
    check_choice("kind of weights", kind, KINDS)
    source = Source(Path(path))
    backbone = KINDS[kind](source)
    return Imported(backbone.eval(), source.used, source.left_out)


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".caffemodel":
        layers = read_caffemodel(path)
        return {
            f"{name}.{number}": torch.from_numpy(array)
            for name, arrays in layers.items()
            for number, array in enumerate(arrays)
        }
    # The ImageNet example of PyTorch calls its checkpoints model_best.pth.tar; they are no archives of tar.
    ending = ".pth.tar" if path.name.endswith(".pth.tar") else path.suffix
    check_choice("ending of a file of weights", ending, ENDINGS)
    if not path.is_file():
        raise InputError("no file of weights", received=path)
    try:
        if path.suffix == ".safetensors":
            loaded: Any = load_file(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # about pickles, which are refused anyway
                loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # A damaged file can fail in any way.
        raise InputError(
            f"{path} cannot be read as weights ({type(error).__name__})",
            allowed="name a state dict, as torch.save(model.state_dict(), ...) or safetensors write it; pickled models"
            " are never opened",
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in loaded.items()
    ):
        raise InputError(
            f"{path} does not hold a state dict",
            received=type(loaded).__name__,
            allowed="a state dict maps names to tensors",
        )
    # Data-parallel training adds this to every name, or to those of a part, such as features.module.0.weight.
    return {name.removeprefix("module.").replace(".module.", "."): value for name, value in loaded.items()}


def _load(backbone: Backbone, source: Source, names: Mapping[str, str]) -> Backbone:
    """Fill every weight of a backbone with the tensor that ``names`` gives for it."""
    weights = {}
    wanted = [key for key in backbone.state_dict() if not key.endswith("num_batches_tracked")]
    source.need({names[key]: f"{backbone.architecture}'s {key}" for key in wanted})
    for key, value in backbone.state_dict().items():
        if key.endswith("num_batches_tracked"):
            weights[key] = value
            continue
        weights[key] = source.take(names[key], value.shape, f"{backbone.architecture}'s {key}")
    backbone.load_state_dict(weights)
    return backbone


def _torchvision(
    architecture: str, arguments: dict[str, Any], heads: Mapping[str, str]
) -> Callable[[Source], Backbone]:
    def load(source: Source) -> Backbone:
        backbone = build(architecture, arguments)
        names: dict[str, str] = {}
        for block, (conv, norm) in torchvision_blocks(backbone).items():
            for part, prefix in (("conv", conv), ("norm", norm)):
                if prefix is not None:
                    module = backbone.get_submodule(f"{block}.{part}")
                    names |= {f"{block}.{part}.{key}": f"{prefix}.{key}" for key in module.state_dict()}
        for block, prefix in heads.items():
            names |= {f"{block}.conv.{key}": f"{prefix}.{key}" for key in ("weight", "bias")}
        return _load(backbone, source, names)

    return load


def _vgg16_caffe(source: Source) -> Backbone:
    # Caffe's photos are BGR from 0 to 255, less the mean colour.
    statistics = {"input_mean": [mean / 255 for mean in VGG_MEAN], "input_std": [1 / 255] * 3}
    backbone = build("vgg16", _TORCHVISION_VGG16 | statistics)
    names = {}
    for key in backbone.state_dict():
        block, _, kind = key.split(".")
        names[key] = f"{block}.{('weight', 'bias').index(kind)}"
    loaded = _load(backbone, source, names)
    with torch.no_grad():
        first = loaded.get_parameter("conv1_1.conv.weight")
        first.copy_(first.flip(1))
    return loaded


def _zhang_alexnet_caffe(source: Source) -> Backbone:
    # The file holds the scale and shift of lightness, since the authors' rescaling has changed them.
    scale = float(source.take("data_l.0", torch.Size((1, 1, 1, 1)), "the input"))
    shift = float(source.take("data_l.1", torch.Size((1,)), "the input"))
    statistics = {"input_mean": (-shift / scale,), "input_std": (1 / scale,)}
    backbone = build(
        "alexnet", {"geometry": "evaluation", "fully_connected": True, "norm": "none", **statistics}
    )
    names: dict[str, str] = {}
    for block in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"):
        names |= {f"{block}.conv.weight": f"{block}.0", f"{block}.conv.bias": f"{block}.1"}
    return _load(backbone, source, names)


def _zhang_colornet(source: Source) -> Backbone:
    backbone = build("colornet", {"input_mean": (50.0,), "input_std": (100.0,)})
    names = {key: f"model{key.removeprefix('conv')}" for key in backbone.state_dict()}
    return _load(backbone, source, names)


def _zhang_colornet_caffe(source: Source) -> Backbone:
    backbone = build("colornet", {"norm": "batch_no_affine", "input_mean": (50.0,), "input_std": (1.0,)})
    names: dict[str, str] = {}
    for key in backbone.state_dict():
        block, position, kind = key.split(".")
        number = int(position) // 2 + 1
        if kind in ("weight", "bias"):
            layer = "bw_conv1_1" if (block, number) == ("conv1", 1) else f"{block}_{number}"
            names[key] = f"{layer}.{('weight', 'bias').index(kind)}"
        elif kind != "num_batches_tracked":
            names[key] = f"{block}_{number - 1}norm.{('running_mean', 'running_var').index(kind)}"
    loaded = _load(backbone, source, names)
    # Caffe keeps sums of statistics, and the number to divide them by.
    with torch.no_grad():
        for key, value in loaded.state_dict().items():
            if "running" in key:
                factor = source.take(f"{names[key].rpartition('.')[0]}.2", torch.Size((1,)), key)
                if factor == 0:
                    raise InputError(
                        f"{source.path} has a batch norm without statistics",
                        received=names[key],
                        allowed="name a trained net",
                    )
                value.div_(factor)
    return loaded


#: The kinds of files that can be imported: torchvision's two networks; VGG-16 of Simonyan and Zisserman (2015),
#: ``VGG_ILSVRC_16_layers.caffemodel``; AlexNet without batch norm of Zhang et al.
#: (2016), ``alexnet_release_450000_nobn_rs.caffemodel``, with fc6 and fc7 as convolutions or as inner products; and
#: their colorization net, from PyTorch (``colorization_release_v2-9b330a0b.pth``) or from Caffe
#: (``colorization_release_v2.caffemodel``).
KINDS: Mapping[str, Callable[[Source], Backbone]] = {
    "torchvision-alexnet": _torchvision(
        "alexnet", _TORCHVISION_ALEXNET, {"fc6": "classifier.1", "fc7": "classifier.4"}
    ),
    "torchvision-vgg16": _torchvision(
        "vgg16", _TORCHVISION_VGG16, {"fc6": "classifier.0", "fc7": "classifier.3"}
    ),
    "vgg16-caffe": _vgg16_caffe,
    "zhang2016-alexnet-caffe": _zhang_alexnet_caffe,
    "zhang2016-colornet": _zhang_colornet,
    "zhang2016-colornet-caffe": _zhang_colornet_caffe,
}


def _some(names: list[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
