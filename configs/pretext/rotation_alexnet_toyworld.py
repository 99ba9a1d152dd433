"""Rotation of AlexNet on the toy world: a few minutes on 2 CPU cores."""

from mmengine.config import read_base

with read_base():
    from .rotation_alexnet_imagenette128 import *

data = "toyworld/unlabeled"
view.update(size=96, resize=96)
