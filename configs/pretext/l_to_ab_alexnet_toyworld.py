"""L -> ab(cl), colorization one-hot and not rebalanced, of AlexNet on the toy world."""

from mmengine.config import read_base

with read_base():
    from .l_to_ab_alexnet_imagenette128 import *

data = "toyworld/unlabeled"
view.update(size=96, resize=96)
