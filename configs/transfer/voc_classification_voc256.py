"""VOC classification: as ``voc_classification.py``, on true VOC2007 photos whose longer side is 256 pixels.

Train on train, score on val: the photos of VOC2007's test are not among them.
"""

from mmengine.config import read_base

with read_base():
    from .voc_classification import *

protocol = "voc-classification-voc256-short"
data = "voc256"
epochs = 12
