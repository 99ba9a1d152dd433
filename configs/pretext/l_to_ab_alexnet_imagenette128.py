"""The row L -> ab(cl) of Split-Brain Autoencoders (Zhang et al., CVPR 2017): colorization one-hot and not rebalanced.

As the paper's appendix B says. Its prediction at the stride of conv5 is target_stride=16; of gray photos, which add no
loss here, it says nothing.
"""

from mmengine.config import read_base

with read_base():
    from .colorization_alexnet_imagenette128 import *

name = "l_to_ab"
method.update(loss="classification", neighbors=1)
