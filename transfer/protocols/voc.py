"""The protocols on PASCAL VOC: classification, support vector machines, detection and segmentation."""

import math
from dataclasses import replace

from pretext.training.fields import Spec
from pretext.training.schedules import Poly, Step
from transfer.protocols.linear_probe import GOYAL_WINDOWS, PUBLISHED_FEATURES, windows
from transfer.protocols.protocol import Protocol
from transfer.protocols.settings import (
    ClassificationSettings,
    DetectionSettings,
    SegmentationSettings,
    SvmSettings,
)

#: What is the user's choice on VOC.
_CHOICES = frozenset({"data", "color"})


def _parts(decay: float, number: int | float) -> Step:
    """Return a schedule of equal parts, each at ``decay`` times the rate before; the last may be shorter."""
    parts = range(1, math.ceil(number))
    return Step(
        milestones=tuple(part / number for part in parts),
        factors=tuple(decay**part for part in parts),
        rounding="up",
    )


#: What the fine-tuning of AlexNet on VOC2007 shares: photos of 227 pixels, ten random crops at test.
CLASSIFICATION = ClassificationSettings(
    protocol="krahenbuhl2016",
    data="VOC",
    color=False,
    train="all",
    scale=1.0,
    year=2007,
    train_split="trainval",
    test_split="test",
    geometry="evaluation",
    batch_norm="absorb",
    rescale=True,
    reinit_from="fc8",
    fc6_size=6,
    fc_channels=4096,
    new_std=0.01,
    new_bias=0.1,
    dropout=0.5,
    view=Spec(type="RandomWindowCrop", size=227, resize=256, flip=True, scale=(0.5, 2.0)),
    crops=10,
    batch_size=16,
    steps=80_000,
    epochs=None,
    optimizer=Spec(type="SGD", lr=0.001, momentum=0.9, weight_decay=1e-6),
    bias_lr_factor=2.0,
    decay_biases=True,
    max_grad_norm=10.0,
    schedule=_parts(0.5, 8),
    mixed_precision=None,
    checkpoint_interval=1000,
    workers=8,
)

_DEEPCLUSTER = (
    "Caron et al., Deep Clustering for Unsupervised Learning of Visual Features, ECCV 2018; the Caffe scripts of"
    " facebookresearch/deepcluster: new fc6, fc7 and fc8, 150,000 steps"
)

CLASSIFICATIONS = (
    Protocol(
        "krahenbuhl2016",
        "voc-classification",
        "mean_ap_sklearn",
        "Kraehenbuehl et al., Data-dependent Initializations of Convolutional Neural Networks, ICLR 2016, as Zhang et"
        " al. 2016 use it; src/train_cls.py of philkr/voc-classification, with the transformation layer of"
        " philkr/caffe",
        CLASSIFICATION,
        _CHOICES | {"train"},
    ),
    Protocol(
        "deepcluster2018_fc6-8",
        "voc-classification",
        "mean_ap_sklearn",
        _DEEPCLUSTER,
        replace(
            CLASSIFICATION,
            protocol="deepcluster2018_fc6-8",
            train="fc6-8",
            reinit_from="fc6",
            rescale=False,
            steps=150_000,
            optimizer=CLASSIFICATION.optimizer | {"lr": 0.003},
            schedule=_parts(0.5, 30),
        ),
        _CHOICES,
    ),
    Protocol(
        "deepcluster2018_all",
        "voc-classification",
        "mean_ap_sklearn",
        _DEEPCLUSTER,
        replace(
            CLASSIFICATION,
            protocol="deepcluster2018_all",
            reinit_from="fc6",
            rescale=False,
            steps=150_000,
            # The rate is halved every 20,000 steps.
            schedule=_parts(0.5, 7.5),
        ),
        _CHOICES,
    ),
)

SVM = Protocol(
    "goyal2019_svm",
    "voc-svm",
    "mean_ap_voc10",
    "Goyal et al., Scaling and Benchmarking Self-Supervised Visual Representation Learning, ICCV 2019; tools/svm of"
    " facebookresearch/fair_self_supervision_benchmark",
    SvmSettings(
        protocol="goyal2019_svm",
        data="VOC",
        layers="all",
        scale=1.0,
        year=2007,
        train_split="trainval",
        test_split="test",
        geometry="evaluation",
        size=227,
        reduction=windows("AveragePool", GOYAL_WINDOWS),
        costs=(*(10.0**power for power in range(-7, 3)), *(0.5**power for power in range(4, 20))),
        folds=3,
        positive_weight=2.0,
        tolerance=1e-4,
        max_iterations=2000,
        batch_size=32,
        mixed_precision=None,
        workers=8,
    ),
    frozenset({"data", "layers"}),
    PUBLISHED_FEATURES,
)

#: Fast R-CNN of AlexNet: 128 RoIs of two photos a step, the rate falls by 10 twice.
DETECTION = DetectionSettings(
    protocol="fastrcnn_krahenbuhl2016",
    data="VOC",
    color=False,
    scale=1.0,
    year=2007,
    train_split="trainval",
    test_split="test",
    train="all",
    geometry="pretrain",
    batch_norm="absorb",
    rescale=True,
    reinit_from="fc8",
    fc6_size=6,
    fc_channels=4096,
    new_std=0.005,
    new_bias=0.1,
    dropout=0.5,
    min_sizes=(480, 576, 688, 864, 1200),
    max_size=2000,
    test_min_size=600,
    test_max_size=1000,
    flip=True,
    train_proposals="selective_search_msra_voc_2007_trainval.pkl",
    test_proposals="selective_search_msra_voc_2007_test.pkl",
    anchor_sizes=(128, 256, 512),
    aspect_ratios=(0.5, 1.0, 2.0),
    max_train_proposals=2000,
    max_test_proposals=2000,
    roi_pool="max",
    background_iou=0.1,
    rois_per_image=64,
    nms_threshold=0.3,
    score_threshold=0.05,
    batch_size=2,
    steps=150_000,
    epochs=None,
    optimizer=Spec(type="SGD", lr=0.001, momentum=0.9, weight_decay=5e-4),
    bias_lr_factor=2.0,
    decay_biases=False,
    max_grad_norm=None,
    schedule=_parts(0.1, 3),
    mixed_precision=None,
    checkpoint_interval=1000,
    workers=8,
)

DETECTIONS = (
    Protocol(
        "fastrcnn_krahenbuhl2016",
        "voc-detection",
        "mean_ap_voc07",
        "Girshick, Fast R-CNN, ICCV 2015, with the schedule and scales of Kraehenbuehl et al., ICLR 2016, whom Zhang et"
        " al. 2016 follow; nothing frozen",
        DETECTION,
        _CHOICES | {"train_proposals", "test_proposals"},
    ),
    Protocol(
        "fasterrcnn",
        "voc-detection",
        "mean_ap_voc07",
        "Ren et al., Faster R-CNN, NIPS 2015: as fastrcnn_krahenbuhl2016, with a region proposal network trained along"
        " in place of the file of proposals",
        replace(
            DETECTION,
            protocol="fasterrcnn",
            max_test_proposals=300,
            train_proposals=None,
            test_proposals=None,
        ),
        _CHOICES,
    ),
)

#: AlexNet as FCN-32s.
SEGMENTATION = SegmentationSettings(
    protocol="fcn32s_zhang2016",
    data="VOC",
    color=False,
    scale=1.0,
    year=2011,
    train_split="sbd_train",
    test_split="seg11valid",
    train="all",
    geometry="evaluation",
    batch_norm="absorb",
    rescale=True,
    network="fcn32s",
    head=None,
    reinit_from="fc8",
    fc6_size=6,
    fc_channels=4096,
    new_std=0.005,
    new_bias=1.0,
    dropout=0.5,
    crop=None,
    scales=(1.0, 1.0),
    flip=False,
    check_counts=True,
    batch_size=1,
    accumulate=20,
    # 150,000 updates of 20 photos each.
    steps=3_000_000,
    epochs=None,
    optimizer=Spec(type="SGD", lr=1e-4, momentum=0.9, weight_decay=5e-4),
    head_lr_factor=1.0,
    bias_lr_factor=2.0,
    decay_biases=False,
    max_grad_norm=None,
    schedule=Step(milestones=(1 / 3, 2 / 3), factors=(0.1, 0.1 * 0.1)),
    mixed_precision=None,
    checkpoint_interval=20_000,
    workers=8,
)

#: Hypercolumns of all layers, trained on 128 pixels of each photo.
HYPERCOLUMN = replace(
    SEGMENTATION,
    year=2012,
    train_split="train_aug",
    test_split="val",
    geometry="pretrain",
    rescale=False,
    network="hypercolumn",
    head=Spec(channels=1024, dropout=0.5, points=128, edge=32, stride=4),
    new_std=None,
    new_bias=0.0,
    crop=448,
    flip=True,
    batch_size=10,
    accumulate=1,
    steps=40_000,
    optimizer=Spec(type="SGD", lr=1e-3, momentum=0.9, weight_decay=5e-4),
    bias_lr_factor=1.0,
    # The rate falls by 10 after 22,500 and 30,000 steps.
    schedule=Step(milestones=(22_500 / 40_000, 30_000 / 40_000), factors=(0.1, 0.1 * 0.1)),
    checkpoint_interval=1000,
    early_stopping=Spec(share=0.1, evaluations=40),
)

_LARSSON = (
    "Larsson et al., Learning Representations for Automatic Colorization, ECCV 2016, table 6: VOC2012's train with"
    " added photos, val, early stopping by cross-validation. The numbers of network and training are those of"
    " selfsup/evaluate/voc_segmentation.py of gustavla/self-supervision (Larsson et al., CVPR 2017), which also holds"
    " a tenth of the training photos out"
)

SEGMENTATIONS = (
    Protocol(
        "fcn32s_zhang2016",
        "voc-segmentation",
        "mean_iou",
        "Zhang et al., Colorful Image Colorization, ECCV 2016; feature_learning_tests/segmentation of"
        " richzhang/colorization: SBD train, scored on what VOC2011's val has besides (736 photos)",
        SEGMENTATION,
        _CHOICES,
    ),
    Protocol(
        "voc12_modern",
        "voc-segmentation",
        "mean_iou",
        "mmsegmentation's schedule of 40,000 steps for VOC2012 with added photos (configs/_base_/schedules/"
        "schedule_40k.py), to a rate of zero, with an FCN head on conv5; not the papers' test, and never in one column"
        " with it",
        replace(
            SEGMENTATION,
            protocol="voc12_modern",
            year=2012,
            train_split="train_aug",
            test_split="val",
            geometry="pretrain",
            network="head",
            head=Spec(channels=256, num_convs=1, kernel_size=3, concat_input=False, dropout_ratio=0.1),
            new_std=None,
            new_bias=0.0,
            crop=512,
            scales=(0.5, 2.0),
            flip=True,
            batch_size=16,
            accumulate=1,
            steps=40_000,
            optimizer=Spec(type="SGD", lr=0.01, momentum=0.9, weight_decay=5e-4),
            bias_lr_factor=1.0,
            decay_biases=True,
            rescale=False,
            schedule=Poly(power=0.9),
            checkpoint_interval=1000,
        ),
        _CHOICES,
    ),
    *(
        Protocol(
            f"larsson2016_{kind}",
            "voc-segmentation",
            "mean_iou",
            f"{_LARSSON}. Photos are in {what}",
            replace(HYPERCOLUMN, protocol=f"larsson2016_{kind}", gray=kind == "gray"),
            _CHOICES,
        )
        for kind, what in (("gray", "gray"), ("color", "colour"))
    ),
)
