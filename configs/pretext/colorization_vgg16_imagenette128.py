"""Colorization of VGG-16 on Imagenette at 128 pixels: for a GPU; 2 CPU cores see about 8 photos/s."""

from mmengine.config import read_base

with read_base():
    from .colorization_alexnet_imagenette128 import *

backbone = dict(architecture="vgg16", input_space="lightness", fully_connected=False, norm="batch")
method.update(layer="conv5_3")
epochs = 40
workers = 8
