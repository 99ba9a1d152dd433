"""Changed copies of a backbone: batch norm absorbed, colour channels added or summed up, the top dropped."""

from typing import Any

import torch
from torch import Tensor, nn

from pretext.backbones.base import INPUT_STATISTICS, Backbone, ConvBlock
from pretext.backbones.checkpoint import build
from pretext.errors import InputError

#: Scale of ab relative to lightness in `add_color_channels`: the weight of ``data_ab`` in
#: feature_learning_tests/segmentation/train_val.prototxt of richzhang/colorization.
AB_SCALE = 0.69308239


def drop_fully_connected(backbone: Backbone) -> Backbone:
    """Return a new backbone with the same weights but without fc6 and fc7."""
    changes = {"fully_connected": False} if "fully_connected" in backbone.arguments else {}
    kept = {k: v for k, v in backbone.state_dict().items() if not k.startswith(("fc6.", "fc7."))}
    return _rebuilt(backbone, changes, kept)


def add_color_channels(backbone: Backbone) -> Backbone:
    """Return a new backbone that takes Lab instead of lightness and computes the same features.

    In its first convolution the weights of a and b are zero, to be learned. Relative to lightness, ab are scaled by
    0.693, as in the segmentation test of Zhang et al. (ECCV 2016).

    Raises:
        InputError: The backbone takes another input space than lightness.
    """
    if backbone.input_space != "lightness":
        raise InputError(
            "colour channels can only be added to a backbone that sees lightness: wrong input_space",
            received=backbone.input_space,
            allowed=("lightness",),
        )
    (mean,), (std,) = backbone.arguments["input_mean"], backbone.arguments["input_std"]
    statistics = {"input_mean": (mean, 0.0, 0.0), "input_std": (std, std / AB_SCALE, std / AB_SCALE)}
    weights = backbone.state_dict()
    first = next(name for name, value in weights.items() if value.ndim == 4)
    zeros = torch.zeros_like(weights[first])
    weights[first] = torch.cat([weights[first], zeros, zeros], dim=1)
    return _rebuilt(backbone, {"input_space": "lab"} | statistics, weights)


@torch.no_grad()
def make_gray(backbone: Backbone, mean: float | None = None, std: float | None = None) -> Backbone:
    """Return a new backbone that takes lightness instead of RGB and computes the same features of gray photos.

    The filters of the first convolution are summed over colour: those that Larsson et al. (ECCV 2016) average of a
    classifier, in the scale in which the other layers know their outputs. Each colour's filter is first divided by its
    ``input_std``; what the means differ by goes into the bias, or into the statistics of the batch norm behind a
    convolution without one.

    The features are equal for a photo of gray values g in [0, 1] that is seen as lightness 100 g; CIE's lightness is up
    to 3.4 units above that, at g = 0.5, and 1.6 below it, at g = 0.07. A padded first convolution sees the mean colour
    beyond the border, now lightness ``mean``, and its outputs there differ.

    Args:
        backbone: Takes RGB.
        mean: ``input_mean`` of the new one, in units of lightness; None for that of INPUT_STATISTICS.
        std: Its ``input_std``.

    Raises:
        InputError: The backbone takes another input space than RGB.
    """
    if backbone.input_space != "rgb":
        raise InputError(
            "only a backbone that sees RGB can be made gray: wrong input_space",
            received=backbone.input_space,
            allowed=("rgb",),
        )
    (usual_mean,), (usual_std,) = INPUT_STATISTICS["lightness"]
    mean, std = usual_mean if mean is None else mean, usual_std if std is None else std
    weights = backbone.state_dict()
    first = next(name for name, value in weights.items() if value.ndim == 4)
    means, stds = (
        torch.tensor(backbone.arguments[name], dtype=torch.float64).view(-1, 1, 1)
        for name in ("input_mean", "input_std")
    )
    filters = weights[first].cpu().double() / stds
    weights[first] = (filters.sum(1, keepdim=True) * std / 100).float()
    shift = (filters * (mean / 100 - means)).sum((1, 2, 3)).float()
    bias = first.removesuffix("weight") + "bias"
    if bias in weights:
        weights[bias] = weights[bias] + shift.to(weights[bias])
    else:
        seen = first.removesuffix("conv.weight") + "norm.running_mean"
        weights[seen] = weights[seen] - shift.to(weights[seen])
    return _rebuilt(
        backbone, {"input_space": "lightness", "input_mean": (mean,), "input_std": (std,)}, weights
    )


@torch.no_grad()
def absorb_batch_norm(backbone: Backbone) -> Backbone:
    """Return a new backbone without batch norm that computes the same features as ``backbone`` in eval mode.

    Every convolution takes over the scale ``s = weight / sqrt(running_var + eps)`` and the shift
    ``bias - running_mean * s`` of its batch norm.

    Raises:
        InputError: Batch norm does not directly follow the convolutions (colornet: it follows the ReLU, and the zero
            padding of the next convolution makes absorbing inexact).
    """
    if backbone.norm == "none":
        return _rebuilt(backbone, {}, backbone.state_dict())
    blocks = {name: m for name, m in backbone.named_modules() if isinstance(m, ConvBlock)}
    if not blocks:
        raise InputError(
            "cannot absorb the batch norm of this architecture: it follows the ReLU, not the convolution",
            received=backbone.architecture,
            allowed="allowed are alexnet and vgg16; keep batch norm with batch_norm=frozen or batch_norm=train",
        )
    weights: dict[str, Tensor] = {}
    for name, block in blocks.items():
        norm = block.norm
        assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
        assert norm.running_var is not None
        assert norm.running_mean is not None
        scale = torch.rsqrt(norm.running_var.double() + norm.eps)
        if norm.affine:
            scale = scale * norm.weight.double()
        weights[f"{name}.conv.weight"] = block.conv.weight * scale.view(-1, 1, 1, 1)
        shift = norm.bias.double() if norm.affine else torch.zeros_like(scale)
        weights[f"{name}.conv.bias"] = shift - norm.running_mean.double() * scale
    return _rebuilt(backbone, {"norm": "none"}, weights)


def _rebuilt(backbone: Backbone, changes: dict[str, Any], weights: dict[str, Tensor]) -> Backbone:
    """Build a backbone again with some other arguments and weights, in the mode and on the device of the old one."""
    rebuilt = build(backbone.architecture, backbone.arguments | changes)
    rebuilt.load_state_dict(weights)
    return rebuilt.train(backbone.training).to(backbone.input_mean.device)
