"""BiGAN of AlexNet on Imagenette at 128 pixels: 6 epochs, photos of 64 pixels generated."""

from mmengine.config import read_base

from pretext.methods.bigan import BiGAN

with read_base():
    from .colorization_alexnet_imagenette128 import *

method = dict(
    type=BiGAN,
    layer="conv5",
    code_length=100,
    head_size=3,
    head_hidden=512,
    generator_channels=256,
    doublings=4,
    adversarial_loss="nonsaturating",
    discriminator_rate=1.0,
    discriminator_channels=32,
)
backbone.update(input_space="rgb")
# Rate and momentum of the authors' code.
optimizer.update(lr=2e-4, betas=(0.5, 0.999))
