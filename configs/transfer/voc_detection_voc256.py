"""VOC detection: as ``voc_detection.py``, on true VOC2007 photos whose longer side is 256 pixels.

Train on train, score on val: the photos of VOC2007's test are not among them.
"""

from mmengine.config import read_base

with read_base():
    from .voc_detection import *

protocol = "voc-detection-voc256-short"
data = "voc256"
fc_channels = 512
min_sizes = (192,)
test_min_size = 192
max_train_proposals = 300
max_test_proposals = 300
epochs = 5
