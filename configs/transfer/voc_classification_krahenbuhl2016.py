"""VOC2007 classification as Kraehenbuehl et al. (ICLR 2016), whom Zhang et al. (ECCV 2016, table 2) follow.

The protocol's numbers stand in ``transfer/protocols.py``; what is set here besides is the user's choice. ``scale``
shortens the schedule.
"""

protocol = "krahenbuhl2016"
data = "VOC"
# The columns of table 2: fc8, fc6-8 or all.
train = "all"
color = False
scale = 1.0
checkpoint_interval = 1000
workers = 8
