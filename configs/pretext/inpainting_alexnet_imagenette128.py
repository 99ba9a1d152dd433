"""Inpainting of AlexNet on Imagenette at 128 pixels: 6 epochs, random regions, squared error alone."""

from mmengine.config import read_base

with read_base():
    from .colorization_alexnet_imagenette128 import *

# The paper's AlexNet is trained without the adversarial loss; with it, 0.001 is the weight.
method = dict(
    type="inpainting",
    layer="conv5",
    mask="random",
    map_size=8,
    dropout=0.5,
    doublings=4,
    decoder_channels=128,
    overlap_weight=10.0,
    adversarial_weight=0.0,
    adversarial_loss="nonsaturating",
    discriminator_rate=0.1,
    discriminator_channels=32,
)
backbone.update(input_space="rgb")
