"""Egomotion of AlexNet on Imagenette at 128 pixels: 6 epochs, two windows of each photo."""

from mmengine.config import read_base

with read_base():
    from .colorization_alexnet_imagenette128 import *

method = dict(
    type="egomotion",
    layer="conv5",
    bins=10,
    window=0.6,
    max_shift=0.2,
    max_rotation=30.0,
    head_size=6,
    head_hidden=256,
)
backbone.update(input_space="rgb")
