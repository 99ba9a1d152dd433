"""Context of AlexNet on the toy world, at 96 pixels."""

from mmengine.config import read_base

with read_base():
    from .context_alexnet_imagenette128 import *

data = "toyworld/unlabeled"
view.update(size=96, resize=96)
