"""Supervised AlexNet on Imagenette at 128 pixels: 6 epochs with its ten labels, the upper bound of the tables."""

from mmengine.config import read_base

with read_base():
    from .colorization_alexnet_imagenette128 import *

method = dict(type="supervised", num_classes=10, layer="conv5", head_size=3, head_hidden=512)
backbone.update(input_space="rgb")
