"""Backbones: AlexNet, VGG-16 and the colorization net; their contract and their file format."""

from pretext.backbones.alexnet import AlexNet
from pretext.backbones.base import Backbone
from pretext.backbones.colornet import ColorNet
from pretext.backbones.vgg import VGG16

#: Every architecture that a backbone file can hold, by its name in the file's header.
ARCHITECTURES: dict[str, type[Backbone]] = {
    "alexnet": AlexNet,
    "vgg16": VGG16,
    "colornet": ColorNet,
}

__all__ = ["ARCHITECTURES", "VGG16", "AlexNet", "Backbone", "ColorNet"]
