"""A colorizer as an ONNX model."""

import json

import torch
from torch import Tensor, nn

from pretext.backbones.exports import onnx_bytes
from pretext.color.spaces import Classification, HueChroma, LabMarginals
from pretext.colorize.colorizer import Colorizer, colorizer_sha256
from pretext.colorize.heads import HypercolumnHead
from pretext.errors import InputError

#: Sides in pixels of the photos that are traced; none is special, and they differ.
_TRACED = (192, 224)


class _Colors(nn.Module):
    """A colorizer that returns a plain tuple, without None."""

    def __init__(self, colorizer: Colorizer):
        super().__init__()
        self.colorizer = colorizer

    def forward(self, lightness: Tensor) -> tuple[Tensor, ...]:
        colors = self.colorizer(lightness)
        return tuple(value for value in (colors.ab, colors.distribution) if value is not None)


def onnx_colorizer(colorizer: Colorizer) -> bytes:
    """Return a colorizer as an ONNX model, with its normalisation and decoding.

    The input ``lightness`` is float32 (N, 1, H, W), CIE L 0..100; N, H and W are free. The outputs are those of
    `Colors` at the stride of the layer: ``ab`` (N, 2, h, w) and, unless the output space predicts values,
    ``distribution`` (N, Q, h, w). The model's metadata say how to use them: ``layer``, ``stride`` and ``offset`` in
    pixels (position j is centred on pixel offset + j * stride), ``space``, ``sha256``, and of a distribution
    ``temperature`` and ``bins``, a JSON list of (a, b); of two marginal histograms, whose probabilities follow each
    other, ``centers``, a JSON list of the centres of the bins of either.

    Args:
        colorizer: In eval mode, on the CPU.

    Raises:
        InputError: The colorizer has hypercolumns, or the packages of the extra ``onnx`` are not installed.
    """
    if isinstance(colorizer.head, HypercolumnHead):
        raise InputError(
            "a colorizer with hypercolumns cannot be an ONNX model: how it interpolates depends on the photo's size",
            received=colorizer.head.name,
            allowed="export one whose head stands over one layer",
        )
    layer, space = colorizer.layer, colorizer.space
    metadata = {
        "layer": layer.name,
        "stride": str(colorizer.grid.stride),
        "offset": str(colorizer.grid.offset),
        "space": space.name,
        "sha256": colorizer_sha256(colorizer),
    }
    outputs = ["ab"]
    if space.histograms:
        outputs.append("distribution")
    if isinstance(space, Classification):
        metadata |= {"temperature": str(space.temperature), "bins": json.dumps(space.bins.tolist())}
    elif isinstance(space, (LabMarginals, HueChroma)):
        metadata["centers"] = json.dumps(space.centers.tolist())
    axes = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    lightness = torch.zeros(2, 1, *_TRACED)
    return onnx_bytes(
        _Colors(colorizer).eval(), {"lightness": lightness}, outputs, {"lightness": axes}, metadata
    )
