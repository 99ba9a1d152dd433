"""Colorizers from the published weights of "Colorful Image Colorization" (Zhang, Isola, Efros, ECCV 2016).

The backbone is read as `pretext.backbones.imports` does; above it the file has a 1x1 convolution to 313 bins, and
perhaps a table of their colours.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from pretext.backbones.imports import KINDS, Source
from pretext.checks import check_choice
from pretext.color.bins import ab_bins
from pretext.color.spaces import AbBins
from pretext.colorize.colorizer import Colorizer
from pretext.colorize.heads import ColorHead
from pretext.errors import InputError

#: What the layer ``conv8_313_rh`` of the authors' ``colorization_deploy_v2.prototxt`` multiplies the logits by: 1 / T.
CAFFE_SCALE = 2.606
#: Colours of the file within this distance of the official bins, in CIE units, are these.
SAME_COLOR = 0.01
#: The torch file's colours are multiples of this, in CIE units.
AB_NORM = 110.0
LAYER = "conv8"


@dataclass(frozen=True)
class ImportedColorizer:
    """A colorizer from a foreign file.

    Attributes:
        colorizer: In eval mode.
        used: Names of the file's tensors that the colorizer uses.
        left_out: Names of the others.
    """

    colorizer: Colorizer
    used: tuple[str, ...]
    left_out: tuple[str, ...]


def import_colorizer(path: Path | str, kind: str) -> ImportedColorizer:
    """Read a colorizer from a foreign file of weights.

    Args:
        path: As for `pretext.backbones.imports.Source`.
        kind: One of `COLORIZER_KINDS`.

    Raises:
        InputError: The file cannot be read, lacks a tensor, or has one in another shape; or its layer
            ``conv8_313_rh`` does not have one scale above 0 for all bins.
    """
    check_choice("kind of weights with a colorizer", kind, COLORIZER_KINDS)
    source = Source(Path(path))
    backbone = KINDS[kind](source)
    weight, bias, read_space = COLORIZER_KINDS[kind]
    space = read_space(source)
    head = ColorHead(backbone.layer(LAYER).channels, space.channels)
    own = head.state_dict()
    head.load_state_dict(
        {
            key: source.take(name, own[key].shape, "the classifier")
            for key, name in (("0.weight", weight), ("0.bias", bias))
        }
    )
    colorizer = Colorizer(backbone, head, space, LAYER).eval()
    return ImportedColorizer(colorizer, source.used, source.left_out)


def _torch_space(source: Source) -> AbBins:
    """The colours of ``model_out``, which maps the softmax to ab / 110. The network has no temperature: T is 1."""
    official = ab_bins()
    table = source.take("model_out.weight", torch.Size((2, len(official), 1, 1)), "the table of colours")
    return AbBins(_official_if_close(table.flatten(1).T * AB_NORM), temperature=1.0)


def _caffe_space(source: Source) -> AbBins:
    """The official bins, as the authors' code writes them into ``class8_ab`` whatever the file has there."""
    bins = ab_bins()
    scale = CAFFE_SCALE
    if "conv8_313_rh.0" in source.tensors:
        scales = source.take("conv8_313_rh.0", torch.Size((len(bins),)), "the temperature")
        scale = float(scales[0])
        if not scale > 0 or not bool((scales == scale).all()):
            raise InputError(
                f"{source.path}: conv8_313_rh is not a temperature",
                received=(float(scales.min()), float(scales.max())),
                allowed="it has one scale above 0 for all bins",
            )
    return AbBins(bins, temperature=1 / scale)


def _official_if_close(bins: Tensor) -> Tensor:
    official = ab_bins()
    return official if bool(((bins - official).abs() < SAME_COLOR).all()) else bins


#: The kinds of `pretext.backbones.imports.KINDS` whose files hold a colorizer: the names of the classifier's weights
#: and biases, and the reader of the output space.
COLORIZER_KINDS: Mapping[str, tuple[str, str, Callable[[Source], AbBins]]] = MappingProxyType(
    {
        "zhang2016-colornet": ("model8.6.weight", "model8.6.bias", _torch_space),
        "zhang2016-colornet-caffe": ("conv8_313.0", "conv8_313.1", _caffe_space),
    }
)
