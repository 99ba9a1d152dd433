"""Supervised AlexNet on the labelled photos of the toy world: a few minutes on 2 CPU cores."""

from mmengine.config import read_base

with read_base():
    from .supervised_alexnet_imagenette128 import *

data = "toyworld/labeled/train"
view.update(size=96, resize=96)
