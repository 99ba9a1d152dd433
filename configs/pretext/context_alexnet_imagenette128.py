"""Context of AlexNet on Imagenette at 128 pixels: 6 epochs, each photo as eight pairs of patches."""

from mmengine.config import read_base

with read_base():
    from .colorization_alexnet_imagenette128 import *

method = dict(type="context", layer="conv5", gap=0.5, jitter=0.07, color="drop", head_size=3, head_hidden=512)
backbone.update(input_space="rgb")
