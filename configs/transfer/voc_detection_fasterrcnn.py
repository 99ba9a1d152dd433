"""VOC2007 detection by Faster R-CNN, where no proposals are at hand.

The protocol's numbers stand in ``transfer/protocols.py``; what is set here besides is the user's choice. ``scale``
shortens the schedule.
"""

protocol = "fasterrcnn"
data = "VOC"
color = False
scale = 1.0
checkpoint_interval = 1000
workers = 8
