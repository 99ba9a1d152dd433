"""VOC2007 detection by Fast R-CNN as Kraehenbuehl et al. (ICLR 2016) and Zhang et al. (ECCV 2016) train it.

The protocol's numbers stand in ``transfer/protocols.py``; what is set here besides is the user's choice. ``scale``
shortens the schedule. The proposals are selective search's, whose files ``docs/data.md`` describes.
"""

protocol = "fastrcnn_krahenbuhl2016"
data = "VOC"
train_proposals = "selective_search_msra_voc_2007_trainval.pkl"
test_proposals = "selective_search_msra_voc_2007_test.pkl"
color = False
scale = 1.0
checkpoint_interval = 1000
workers = 8
