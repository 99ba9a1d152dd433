"""Split-brain autoencoder of AlexNet on Imagenette at 128 pixels: the row (cl,cl) of its paper, 6 epochs."""

from mmengine.config import read_base

with read_base():
    from .colorization_alexnet_imagenette128 import *

method = dict(type="split_brain", loss="classification", layer="conv5", target_stride=8, lightness_bins=50)
backbone.update(input_space="lab")
