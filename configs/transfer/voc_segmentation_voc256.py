"""VOC segmentation: as ``voc_segmentation.py``, on true photos whose longer side is 256 pixels.

Train on train, score on val, of the photos of VOC2012 that are VOC2007's too: 205 and 217.
"""

from mmengine.config import read_base

with read_base():
    from .voc_segmentation import *

protocol = "voc12-seg-voc256-short"
data = "voc256"
batch_norm = "train"
scales = (0.75, 1.5)
crop = 192
steps = 1200
optimizer.update(lr=1e-3)
