"""Autoencoder of AlexNet on the toy world with half of its input dropped."""

from mmengine.config import read_base

with read_base():
    from .autoencoder_drop50_alexnet_imagenette128 import *

data = "toyworld/unlabeled"
view.update(size=96, resize=96)
