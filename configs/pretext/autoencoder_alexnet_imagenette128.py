"""Autoencoder of AlexNet on Imagenette at 128 pixels: Lab -> Lab of Split-Brain Autoencoders, 6 epochs."""

from mmengine.config import read_base

with read_base():
    from .colorization_alexnet_imagenette128 import *

method = dict(
    type="autoencoder", layer="conv5", bottleneck=16, target_stride=4, decoder_channels=128, drop=0.0
)
backbone.update(input_space="lab")
