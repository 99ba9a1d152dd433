"""VOC segmentation of true photos whose longer side is 256 pixels, by a small fully convolutional head on conv5.

Train on train, score on val, of the photos of VOC2012 that are VOC2007's too: 205 and 217.
"""

from torch.optim import AdamW

protocol = "voc12-seg-voc256-short"
data = "voc256"
year = 2012
train_split = "train"
test_split = "val"

# What is trained: all, or the head alone on a frozen backbone.
train = "all"
# absorb (folded into the convolutions, as the papers do), frozen or train.
batch_norm = "absorb"
geometry = "pretrain"
head = dict(channels=128, num_convs=1, kernel_size=3, concat_input=False, dropout_ratio=0.1)

# Photos are scaled by a factor drawn from this range, then cropped to this side in pixels.
scale = (0.5, 2.0)
crop = 192
flip = True

batch_size = 8
# One of the two, the other None.
epochs = None
steps = 600
optimizer = dict(type=AdamW, lr=3e-4, weight_decay=0.01)
head_lr_factor = 3.0
max_grad_norm = 10.0
# warmup is a share of all steps; then the rate falls to zero as (steps left) ** power.
schedule = dict(name="poly", warmup=0.05, power=0.9)
# Steps between two checkpoints, from which an interrupted run goes on.
checkpoint_interval = 500
# bfloat16 in the backbone where the device has instructions for it.
mixed_precision = True
workers = 2
