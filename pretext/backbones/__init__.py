"""Backbones: AlexNet, VGG-16 and the colorization net, their one contract and their one file format."""

from pretext.backbones.alexnet import AlexNet
from pretext.backbones.base import Backbone
from pretext.backbones.colornet import ColorNet
from pretext.backbones.vgg import VGG16

#: Every architecture a backbone file can hold, by the name that stands in its header.
ARCHITECTURES: dict[str, type[Backbone]] = {
    "alexnet": AlexNet,
    "vgg16": VGG16,
    "colornet": ColorNet,
}

__all__ = ["ARCHITECTURES", "VGG16", "AlexNet", "Backbone", "ColorNet"]
