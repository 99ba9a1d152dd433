"""BiGAN of AlexNet on Imagenette at 128 pixels: 6 epochs, photos of 16 pixels generated."""

from mmengine.config import read_base

with read_base():
    from .colorization_alexnet_imagenette128 import *

method = dict(
    type="bigan",
    layer="conv5",
    code_length=100,
    head_size=3,
    head_hidden=512,
    generator_channels=256,
    doublings=2,
    adversarial_loss="nonsaturating",
    discriminator_rate=1.0,
    discriminator_channels=32,
    discriminator_norm=3.0,
)
backbone.update(input_space="rgb")
# Momentum of the authors' code, whose rate for many more epochs is 2e-4.
optimizer.update(lr=5e-4, betas=(0.5, 0.999))
