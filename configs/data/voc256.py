"""Photos of PASCAL VOC2007 and VOC2012 whose longer side is 256 pixels.

Train on train, score on val: the photos of VOC2007's test are not among them. Segmentation has the photos of VOC2012
that are VOC2007's too: 205 and 217.
"""

voc_classification = dict(protocol="voc-classification-voc256-short", data="voc256", epochs=12)
voc_svm = dict(data="voc256")
voc_detection = dict(
    protocol="voc-detection-voc256-short",
    data="voc256",
    fc_channels=512,
    min_sizes=(192,),
    test_min_size=192,
    max_train_proposals=300,
    max_test_proposals=300,
    epochs=5,
)
voc_segmentation = dict(
    protocol="voc12-seg-voc256-short",
    data="voc256",
    batch_norm="train",
    scales=(0.75, 1.5),
    crop=192,
    steps=1200,
    optimizer=dict(lr=1e-3),
)
