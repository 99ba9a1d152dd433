"""A classifier on the net of the study of CIFAR-10, for its colorizers to start from (see _cifar10.py).

`init=BACKBONE` then starts a colorizer from its blocks conv1..conv7; conv8 is as random as ever.

Differences from the study: there the blocks are those of VGG-16, which saw ImageNet at 224 pixels, and they stay as
they are.
"""

base = "_cifar10"

name = "cifar10_classifier"
method = dict(type="supervised", num_classes=10, layer="conv7", head_size=2, head_hidden=512)
