"""Jigsaw of AlexNet on Imagenette at 128 pixels: 6 epochs, each photo as nine shuffled tiles."""

from mmengine.config import read_base

with read_base():
    from .colorization_alexnet_imagenette128 import *

method = dict(
    type="jigsaw",
    layer="conv5",
    permutations="64",  # how many, or a file of `python -m pretext permutations`
    tile=0.85,
    channel_shift=1,
    gray=0.3,
    head_size=3,
    tile_features=512,
    head_hidden=512,
)
backbone.update(input_space="rgb")
