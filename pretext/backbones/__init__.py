"""Backbones: AlexNet, VGG-16 and the colorization net; their contract and their file format.

The networks are imported when they are first asked for, so that a file's header can be read without torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pretext.backbones.alexnet import AlexNet
    from pretext.backbones.base import Backbone
    from pretext.backbones.colornet import ColorNet
    from pretext.backbones.vgg import VGG16

__all__ = ["VGG16", "AlexNet", "Backbone", "ColorNet"]

_MODULES = {"AlexNet": "alexnet", "Backbone": "base", "ColorNet": "colornet", "VGG16": "vgg"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
