"""The protocols of linear probes on ImageNet."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pretext.training.fields import Spec
from pretext.training.schedules import Bottou, Step
from transfer.protocols.protocol import Protocol
from transfer.protocols.settings import ProbeSettings

_CROP_227 = Spec(type="RandomCrop", size=227, resize=256, flip=True, min_scale=1.0)
_CROP_224 = _CROP_227 | {"size": 224}
#: As FAIR probes its jigsaw AlexNet: centred, with the colour noise of Krizhevsky et al.
_CENTRE_227 = Spec(type="CentralCrop", size=227, resize=256, flip=True, lighting=0.1)

#: What all linear probes of AlexNet share: 55, 27, 13, 13 and 13 positions, reduced to about 9,000 numbers;
#: and Caffe's schedule, 140,000 steps of 256 photos.
PROBE = ProbeSettings(
    protocol="",
    data="imagenet",
    train_split="train",
    test_split="val",
    layers="all",
    scale=1.0,
    geometry="evaluation",
    view=_CROP_227,
    crops=1,
    crop_scores="logits",
    reduction=Spec(type="TentResize"),
    batch_norm=True,
    classifier_init="normal",
    classifier_std=0.01,
    steps=140_000,
    epochs=None,
    evaluations=28,
    epoch_rule="last",
    batch_size=256,
    optimizer=Spec(type="SGD", lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=False),
    bias_lr_factor=1.0,
    decay_biases=False,
    # The rate falls by 10 every 40,000 steps.
    schedule=Step(milestones=(2 / 7, 4 / 7, 6 / 7), factors=(0.1, 0.01, 0.001)),
    mixed_precision=None,
    checkpoint_interval=1000,
    workers=8,
)

_NESTEROV = PROBE.optimizer | {"nesterov": True}
#: (size, stride, padding) that take 55, 27, 13, 13, 13 positions to 10, 6, 5, 5, 6.
_DEEPCLUSTER_WINDOWS = {
    "conv1": (6, 6, 3), "conv2": (4, 4, 0), "conv3": (3, 3, 1), "conv4": (3, 3, 1), "conv5": (2, 2, 0),
}  # fmt: skip
GOYAL_WINDOWS = {
    "conv1": (19, 4, 0), "conv2": (12, 3, 0), "conv3": (9, 1, 0), "conv4": (9, 1, 0), "conv5": (8, 1, 0),
}  # fmt: skip
#: Numbers that these windows leave of the papers' AlexNet.
PUBLISHED_FEATURES = Spec(conv1=9600, conv2=9216, conv3=9600, conv4=9600, conv5=9216)
_GOYAL = (
    "Goyal et al., Scaling and Benchmarking Self-Supervised Visual Representation Learning, ICCV 2019; of"
    " facebookresearch/fair_self_supervision_benchmark"
)


def windows(pooling: str, by_layer: Mapping[str, Sequence[int]]) -> Spec:
    """Return a reduction by one window per layer."""
    return Spec(by_layer, type=pooling)


def _protocol(id: str, source: str, settings: ProbeSettings) -> Protocol:
    metric = "top1_best" if settings.epoch_rule == "best" else "top1"
    choices = frozenset({"data", "train_split", "test_split", "layers"})
    features: Mapping[str, int] = PUBLISHED_FEATURES if "conv1" in settings.reduction else {}
    return Protocol(id, "linear-probe", metric, source, replace(settings, protocol=id), choices, features)


PROBES = (
    _protocol(
        "splitbrain2017",
        "Zhang et al., Split-Brain Autoencoders, CVPR 2017; feature_learning_tests/linear/train_val.prototxt of"
        " richzhang/colorization (8 taps, zero classifiers, biases at twice the rate without decay), with the layer"
        " Resize of philkr/caffe",
        replace(PROBE, bias_lr_factor=2.0, classifier_std=0.0),
    ),
    _protocol(
        "zhang2016",
        "Zhang et al., Colorful Image Colorization, ECCV 2016: as splitbrain2017, with average pooling in place of"
        " the bilinear resize",
        replace(
            PROBE,
            bias_lr_factor=2.0,
            classifier_std=0.0,
            reduction=Spec(type="AdaptiveAveragePool"),
        ),
    ),
    _protocol(
        "goyal2019_colorization",
        f"{_GOYAL} alexnet_colorization_finetune_linear.yaml, by which model_builder.py decays nothing and doubles the"
        " gradients of biases",
        replace(
            PROBE,
            reduction=windows("AveragePool", GOYAL_WINDOWS),
            optimizer=_NESTEROV | {"weight_decay": 0.0},
            bias_lr_factor=2.0,
        ),
    ),
    _protocol(
        "goyal2019_jigsaw",
        f"{_GOYAL} alexnet_jigsaw_finetune_linear.yaml, by which model_builder.py decays biases, too; windows of"
        " caffenet_bvlc_supervised_finetune_linear.py, whose conv1 has the stride 4",
        replace(
            PROBE,
            view=_CENTRE_227,
            reduction=windows("AveragePool", GOYAL_WINDOWS),
            decay_biases=True,
        ),
    ),
    _protocol(
        "rotnet2018",
        "Gidaris et al., Unsupervised Representation Learning by Predicting Image Rotations, ICLR 2018;"
        " ImageNet_LinearClassifiers_ImageNet_RotNet_AlexNet_Features.py",
        replace(
            PROBE,
            view=_CROP_224,
            reduction=Spec(type="AdaptiveMaxPool"),
            classifier_init="fan_out",
            steps=None,
            evaluations=None,
            epochs=35,
            batch_size=192,
            optimizer=_NESTEROV,
            decay_biases=True,
            schedule=Step(milestones=(5 / 35, 15 / 35, 25 / 35), factors=(0.2, 0.04, 0.008)),
        ),
    ),
    _protocol(
        "deepcluster2018",
        "Caron et al., Deep Clustering for Unsupervised Learning of Visual Features, ECCV 2018; eval_linear.py and"
        " .sh of facebookresearch/deepcluster (the script for conv3 sets a weight decay of 1e-7, the default is 1e-4)",
        replace(
            PROBE,
            view=_CROP_224 | {"square": True},
            crops=10,
            crop_scores="probabilities",
            reduction=windows("AveragePool", _DEEPCLUSTER_WINDOWS),
            batch_norm=False,
            classifier_std=0.0059,
            steps=None,
            evaluations=None,
            epochs=90,
            epoch_rule="best",
            optimizer=PROBE.optimizer | {"weight_decay": 1e-4},
            decay_biases=True,
            schedule=Bottou(),
        ),
    ),
    _protocol(
        "asano2020",
        "Asano et al., A Critical Analysis of Self-Supervision, ICLR 2020; eval_linear_probes.py of"
        " yukimasano/linear-probes",
        replace(
            PROBE,
            view=Spec(type="RandomResizedCrop", size=224, resize=256, flip=True),
            crops=10,
            reduction=windows("MaxPool", _DEEPCLUSTER_WINDOWS),
            classifier_init="xavier_uniform",
            steps=None,
            evaluations=None,
            epochs=36,
            batch_size=192,
            optimizer=PROBE.optimizer | {"weight_decay": 1e-5},
            decay_biases=True,
            schedule=Step(milestones=(10 / 36, 20 / 36, 30 / 36), factors=(0.1, 0.01, 0.001)),
        ),
    ),
)
