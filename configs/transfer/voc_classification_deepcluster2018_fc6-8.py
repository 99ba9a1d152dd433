"""VOC2007 classification as DeepCluster (Caron et al., ECCV 2018) with frozen convolutions.

The protocol's numbers stand in ``transfer/protocols.py``; what is set here besides is the user's choice. ``scale``
shortens the schedule.
"""

protocol = "deepcluster2018_fc6-8"
data = "VOC"
color = False
scale = 1.0
checkpoint_interval = 1000
workers = 8
