"""Linear probe of frozen features: as ``linear_probe.py``, for Imagenette at 128 pixels."""

from mmengine.config import read_base

with read_base():
    from .linear_probe import *

protocol = "linear-probe-imagenette128"
data = "imagenette128"
view.update(size=128, resize=128)
epochs = 6
