"""VOC detection by Faster R-CNN, shortened for small photos and small data sets (the toy world by default).

The recipe behind Zhang et al. (ECCV 2016, table 2) is Fast R-CNN as Kraehenbuehl et al. (ICLR 2016) train it:
150,000 steps of 2 photos of 480 to 1,200 pixels, 128 RoIs, a rate of 0.001 that falls by 10 every 50,000 steps.
"""

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
# Whether all layers are scaled to change at the same relative rate before they are trained (Kraehenbuehl et al.).
rescale = False
# Whether a backbone that sees lightness alone gets the ab channels, with weights of zero, to learn them.
color = False
# fc8: a backbone's own fc6 and fc7 are used, if it has them; fc6: they are new.
reinit_from = "fc8"
# Of new layers; a backbone's own fc6 and fc7 keep their sizes. The papers have 4,096 channels.
fc6_size = 6
fc_channels = 256
# Standard deviation of new fc6 and fc7, None for that of He et al.; their bias.
new_std = None
new_bias = 0.0
dropout = 0.5

# Photos are resized so that the shorter side has one of min_sizes, at random, and the longer at most max_size pixels.
min_sizes = (128,)
max_size = 256
test_min_size = 128
test_max_size = 256
flip = True
# Files of proposals (docs/data.md), or None for a region proposal network, which has the anchors.
train_proposals = None
test_proposals = None
anchor_sizes = (24, 48, 96, 192)
aspect_ratios = (0.5, 1.0, 2.0)
# At the most, of one photo.
max_train_proposals = 150
max_test_proposals = 150
# max: RoI max pooling, as in Fast R-CNN; align: RoIAlign.
roi_pool = "align"
# IoU with an object from which a proposal, up to 0.5, is background; Fast R-CNN has 0.1.
background_iou = 0.0
rois_per_image = 64
nms_threshold = 0.3
score_threshold = 0.01

batch_size = 4
# One of the two, the other None; scale shortens either.
epochs = 4
steps = None
scale = 1.0
optimizer = dict(type="AdamW", lr=3e-4, weight_decay=0.01)
bias_lr_factor = 1.0
decay_biases = False
max_grad_norm = 10.0
# warmup is a share of all steps.
schedule = dict(type="Cosine", warmup=0.1)
# bfloat16 where the CPU or GPU has instructions for it, or None.
mixed_precision = "bfloat16"
# Steps between two states, from which an interrupted run goes on.
checkpoint_interval = 1000
workers = 2
