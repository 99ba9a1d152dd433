"""VOC detection by Faster R-CNN on true VOC2007 photos whose longer side is 256 pixels, shortened for a CPU.

Train on train, score on val: the photos of VOC2007's test are not among them. The published schedule stands in
voc_detection.py.
"""

from torch.optim import AdamW

protocol = "voc-detection-voc256-short"
data = "voc256"
year = 2007
train_split = "train"
test_split = "val"

# What is trained: all, or fc6-8, which leaves the convolutions as they are.
train = "all"
# absorb (folded into the convolutions, as the papers do), frozen or train.
batch_norm = "absorb"
geometry = "pretrain"
# Of new layers; a backbone's own fc6 and fc7 keep their sizes. The papers have 4,096 channels.
fc6_size = 6
fc_channels = 512
dropout = 0.5

# Photos are resized so that the shorter side has min_size pixels and the longer one at most max_size.
min_size = 192
max_size = 256
flip = True
anchor_sizes = (24, 48, 96, 192)
aspect_ratios = (0.5, 1.0, 2.0)
proposals = 300
rois_per_image = 64
nms_threshold = 0.3
score_threshold = 0.01

batch_size = 4
epochs = 5
optimizer = dict(type=AdamW, lr=3e-4, weight_decay=0.01)
bias_lr_factor = 1.0
max_grad_norm = 10.0
# warmup is a share of all steps; decay and stages are for name="step" (the papers: 0.1 and 3).
schedule = dict(name="cosine", warmup=0.1, decay=0.1, stages=3)
# bfloat16 where the CPU or GPU has instructions for it.
mixed_precision = True
workers = 2
