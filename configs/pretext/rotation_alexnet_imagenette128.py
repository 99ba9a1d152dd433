"""Rotation of AlexNet on Imagenette at 128 pixels: 6 epochs, each photo in all four rotations."""

from mmengine.config import read_base

with read_base():
    from .colorization_alexnet_imagenette128 import *

method = dict(type="rotation", layer="conv5", head_size=3, head_hidden=512)
backbone.update(input_space="rgb")
