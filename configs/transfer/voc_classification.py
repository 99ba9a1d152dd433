"""VOC classification, shortened for small photos and small data sets (the toy world by default).

Kraehenbuehl et al. (ICLR 2016) train 80,000 steps of 16 photos of 227 pixels at a rate of 0.001 that is halved
in 8 equal parts, and Zhang et al. (ECCV 2016, table 2) follow them.
"""

protocol = "voc-classification-short"
data = "toyworld/VOCdevkit"
year = 2007
train_split = "train"
test_split = "val"

# What is trained: fc8, fc6-8 or all (the columns of Zhang et al., table 2); the rest stays as it is.
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
fc_channels = 512
# Standard deviation of new fc6 and fc7, None for that of He et al.; bias of all new layers.
new_std = None
new_bias = 0.0
dropout = 0.5

view = dict(type="RandomCrop", size=128, resize=128, flip=True, min_scale=0.8)
# 1: the central crop; more: as many random crops, whose logits are added up (the papers: 10).
crops = 1

batch_size = 16
# One of the two, the other None; scale shortens either.
epochs = 10
steps = None
scale = 1.0
# AdamW learns in short schedules what the papers' SGD takes 80,000 steps and more for.
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
