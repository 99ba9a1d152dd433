"""Autoencoder of AlexNet on Imagenette, half of its input dropped: Lab(drop50) -> Lab of Split-Brain Autoencoders."""

from mmengine.config import read_base

with read_base():
    from .autoencoder_alexnet_imagenette128 import *

name = "autoencoder_drop50"
method.update(drop=0.5)
