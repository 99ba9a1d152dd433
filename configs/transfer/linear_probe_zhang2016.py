"""Linear probe as in Colorful Image Colorization (Zhang et al., ECCV 2016), before its test was changed.

The protocol's numbers stand in ``transfer/protocols.py``; what is set here besides is the user's choice. ``scale``
shortens the schedule.
"""

protocol = "zhang2016"
data = "imagenet"
train_split = "train"
test_split = "val"
layers = "all"
scale = 1.0
checkpoint_interval = 1000
workers = 8
