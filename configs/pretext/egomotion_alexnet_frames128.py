"""Ego-motion of AlexNet on pairs of frames with known motion (docs/data.md): 6 epochs at 128 pixels."""

from mmengine.config import read_base

with read_base():
    from .egomotion_alexnet_imagenette128 import *

data = "frames.pairs"
view = dict(type="PairCrop", size=128, resize=128)
