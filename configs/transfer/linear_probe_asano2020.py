"""Linear probe as in Asano et al. (ICLR 2020).

The protocol's numbers stand in ``transfer/protocols.py``; what is set here besides is the user's choice. ``scale``
shortens the schedule.
"""

protocol = "asano2020"
data = "imagenet"
train_split = "train"
test_split = "val"
layers = "all"
scale = 1.0
checkpoint_interval = 1000
workers = 8
