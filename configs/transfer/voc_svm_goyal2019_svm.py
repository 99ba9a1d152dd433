"""VOC2007 classification by linear SVMs as Goyal et al. (ICCV 2019).

The protocol's numbers stand in ``transfer/protocols.py``; what is set here besides is the user's choice. ``scale``
shortens the iterations of every machine.
"""

protocol = "goyal2019_svm"
data = "VOC"
layers = "all"
scale = 1.0
workers = 8
