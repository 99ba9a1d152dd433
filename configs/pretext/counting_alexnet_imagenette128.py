"""Counting of AlexNet on Imagenette at 128 pixels: 6 epochs, each photo whole and in four tiles."""

from mmengine.config import read_base

with read_base():
    from .colorization_alexnet_imagenette128 import *

method = dict(
    type="counting",
    layer="conv5",
    margin=10.0,
    num_features=1000,
    downsampling=("area", "bilinear", "bicubic"),
    gray=0.67,
    head_size=3,
    head_hidden=512,
)
backbone.update(input_space="rgb")
