"""Linear probe as in RotNet (Gidaris et al., ICLR 2018).

The protocol's numbers stand in ``transfer/protocols.py``; what is set here besides is the user's choice. ``scale``
shortens the schedule.
"""

protocol = "rotnet2018"
data = "imagenet"
train_split = "train"
test_split = "val"
layers = "all"
scale = 1.0
checkpoint_interval = 1000
workers = 8
