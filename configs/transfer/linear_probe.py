"""Linear probe of frozen features on the toy world: a very short schedule at 96 pixels.

Pooling, batch norm and optimiser are those of Split-Brain Autoencoders (CVPR 2017), which updated the test of
Zhang et al. (ECCV 2016); its schedule on ImageNet is 28 epochs at batch 256.
"""

from torch.optim import SGD

from pretext.data.views import RandomCrop

protocol = "linear-probe-toyworld"
data = "toyworld/labeled"
train_split = "train"
test_split = "val"
layers = "conv5"

view = dict(type=RandomCrop, size=96, resize=96, flip=True, min_scale=1.0)
geometry = "evaluation"
pooling = "bilinear"
batch_norm = True

batch_size = 64
epochs = 5
# On ImageNet 0.01 at batch 256. 0.001 was best of 0.0001 to 0.03 on a held-out part of Imagenette's train
# split, for an untrained AlexNet and a pretrained one alike.
optimizer = dict(type=SGD, lr=0.001, momentum=0.9, weight_decay=5e-4)
bias_lr_factor = 2.0
# Shares of all steps after which the rate is multiplied by gamma.
milestones = (0.5, 0.8)
gamma = 0.1
# bfloat16 for the frozen features, where the device has instructions for it.
mixed_precision = True
workers = 2
