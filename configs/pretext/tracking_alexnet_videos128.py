"""Tracking of AlexNet on tracks of objects (docs/data.md): 128 pixels, hard negatives from epoch 10 on."""

from mmengine.config import read_base

with read_base():
    from .tracking_alexnet_imagenette128 import *

data = "tracks/list.tracks"
view = dict(type="PairCrop", size=128, resize=144)
method.update(window=None)
epochs = 20
