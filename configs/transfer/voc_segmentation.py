"""VOC segmentation by a small fully convolutional head on conv5, a short schedule for small data sets."""

protocol = "voc12-seg-short"
data = "toyworld/VOCdevkit"
year = 2012
train_split = "train"
test_split = "val"

# What is trained: all, or the head alone on a frozen backbone.
train = "all"
# absorb (folded into the convolutions, as the papers do), frozen or train.
batch_norm = "absorb"
geometry = "pretrain"
# Whether all layers are scaled to change at the same relative rate before they are trained (Kraehenbuehl et al.).
rescale = False
# Whether a backbone that sees lightness alone gets the ab channels, with weights of zero, to learn them.
color = False
# Whether photos lose their colour before the backbone sees them.
gray = False
# head: mmsegmentation's FCNHead on conv5; fcn32s: the papers' network, which has fc6 and fc7; hypercolumn: all layers.
network = "head"
head = dict(channels=128, num_convs=1, kernel_size=3, concat_input=False, dropout_ratio=0.1)

# Of fcn32s: fc6 if fc6 and fc7 are new even where the backbone has its own; their sizes, first weights and dropout.
reinit_from = "fc8"
fc6_size = 6
fc_channels = 512
new_std = None
new_bias = 0.0
dropout = 0.5

# Photos are scaled by a factor drawn from this range, then cropped to this side in pixels; None takes them whole.
scales = (0.5, 2.0)
crop = 128
flip = True
# Whether the lists that are computed (sbd_train, seg11valid, train_aug) must be as long as the papers'.
check_counts = True

batch_size = 8
# One of the two, the other None.
epochs = None
steps = 400
# Shortens either.
scale = 1.0
# dict(share=0.1, evaluations=40) holds out a tenth of the training photos to choose after which step to stop.
early_stopping = None
# The weights are updated after so many batches.
accumulate = 1
optimizer = dict(type="AdamW", lr=3e-4, weight_decay=0.01)
head_lr_factor = 3.0
bias_lr_factor = 1.0
decay_biases = False
max_grad_norm = 10.0
# warmup is a share of all steps, and begins at a hundredth; then the rate falls to zero as (steps left) ** power.
schedule = dict(type="Poly", warmup=0.05, warmup_start=0.01, power=0.9)
# Steps between two checkpoints, from which an interrupted run goes on.
checkpoint_interval = 500
# bfloat16 in the backbone where the device has instructions for it, or None.
mixed_precision = "bfloat16"
workers = 2
