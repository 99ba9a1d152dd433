"""Linear probe as in Split-Brain Autoencoders (Zhang et al., CVPR 2017): the default for AlexNet tables.

The protocol's numbers stand in ``transfer/protocols.py``; what is set here besides is the user's choice. ``scale``
shortens the schedule.
"""

protocol = "splitbrain2017"
data = "imagenet"
train_split = "train"
test_split = "val"
layers = "all"
scale = 1.0
checkpoint_interval = 1000
workers = 8
