"""VOC segmentation by FCN-32s as Zhang et al. (ECCV 2016): SBD's train, scored on 736 photos of VOC2011's val.

The protocol's numbers stand in ``transfer/protocols.py``; what is set here besides is the user's choice. ``scale``
shortens the schedule. ``docs/data.md`` says how the folder of VOC and of the Semantic Boundaries Dataset looks.
"""

protocol = "fcn32s_zhang2016"
data = "VOC"
color = False
scale = 1.0
checkpoint_interval = 20_000
workers = 8
