"""Tracking of AlexNet on the toy world, two windows of each photo in place of a track: a few minutes on 2 CPU cores."""

from mmengine.config import read_base

with read_base():
    from .tracking_alexnet_imagenette128 import *

data = "toyworld/unlabeled"
view.update(size=96, resize=96)
