"""VOC detection by Faster R-CNN, shortened for small photos and small data sets (the toy world by default).

The recipe behind Zhang et al. (ECCV 2016, table 2) is Fast R-CNN as Kraehenbuehl et al. (ICLR 2016) train it:
150,000 steps of 2 photos of 480 to 1,200 pixels, 128 RoIs, a rate of 0.001 that falls by 10 every 50,000 steps.
"""

from torch.optim import AdamW

protocol = "voc-detection-short"
data = "toyworld/VOCdevkit"
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
fc_channels = 256
dropout = 0.5

# Photos are resized so that the shorter side has min_size pixels and the longer one at most max_size.
min_size = 128
max_size = 256
flip = True
anchor_sizes = (24, 48, 96, 192)
aspect_ratios = (0.5, 1.0, 2.0)
proposals = 150
rois_per_image = 64
nms_threshold = 0.3
score_threshold = 0.01

batch_size = 4
epochs = 4
optimizer = dict(type=AdamW, lr=3e-4, weight_decay=0.01)
bias_lr_factor = 1.0
max_grad_norm = 10.0
# warmup is a share of all steps; decay and stages are for name="step" (the papers: 0.1 and 3).
schedule = dict(name="cosine", warmup=0.1, decay=0.1, stages=3)
# bfloat16 where the CPU or GPU has instructions for it.
mixed_precision = True
workers = 2
