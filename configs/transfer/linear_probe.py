"""Linear probe of frozen features on the toy world: a very short schedule at 96 pixels.

Pooling, batch norm and optimiser are those of Split-Brain Autoencoders (CVPR 2017), which updated the test of
Zhang et al. (ECCV 2016); its schedule on ImageNet is 28 epochs at batch 256.
"""

protocol = "linear-probe-toyworld"
data = "toyworld/labeled"
train_split = "train"
test_split = "val"
layers = "conv5"

view = dict(type="RandomCrop", size=96, resize=96, flip=True, min_scale=1.0)
geometry = "evaluation"
reduction = dict(type="TentResize")
batch_norm = True
# Rule of the classifier's first weights: normal (of classifier_std), fan_out or xavier_uniform.
classifier_init = "normal"
classifier_std = 0.01

batch_size = 64
# One of the two, the other None.
epochs = 5
steps = None
scale = 1.0
# How often the test split is scored; None is after each epoch.
evaluations = None
epoch_rule = "last"
# 1, the central one, or 10, with the corners, and all of them mirrored.
crops = 1
# What is averaged over crops: logits or probabilities.
crop_scores = "logits"
# On ImageNet 0.01 at batch 256. 0.001 was best of 0.0001 to 0.03 on a held-out part of Imagenette's train
# split, for an untrained AlexNet and a pretrained one alike.
optimizer = dict(type="SGD", lr=0.001, momentum=0.9, weight_decay=5e-4)
bias_lr_factor = 2.0
decay_biases = False
# From which share of all steps on the rate is multiplied by which factor.
schedule = dict(type="Step", milestones=(0.5, 0.8), factors=(0.1, 0.01))
# bfloat16 for the frozen features, where the device has instructions for it, or None.
mixed_precision = "bfloat16"
# Steps between two states, from which an interrupted run goes on.
checkpoint_interval = 1000
workers = 2
