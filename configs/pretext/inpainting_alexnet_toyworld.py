"""Inpainting of AlexNet on the toy world at 96 pixels: 6 epochs, random regions and a discriminator."""

from mmengine.config import read_base

with read_base():
    from .inpainting_alexnet_imagenette128 import *

data = "toyworld/unlabeled"
view.update(size=96, resize=96)
method.update(map_size=6, adversarial_weight=0.001)
# Adam's momentum is that of the authors' code.
optimizer.update(betas=(0.5, 0.999))
