"""VOC2012 segmentation by an FCN head, with mmsegmentation's schedule: train_aug, scored on val.

The protocol's numbers stand in ``transfer/protocols.py``; what is set here besides is the user's choice. ``scale``
shortens the schedule. ``docs/data.md`` says how the folder of VOC and of the Semantic Boundaries Dataset looks.
"""

protocol = "voc12_modern"
data = "VOC"
color = False
scale = 1.0
checkpoint_interval = 1000
workers = 8
