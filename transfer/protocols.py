"""The protocols by which papers judged backbones, as named presets.

A config of a stage that names one of `PROTOCOLS` gets from it what the paper fixed. A run that departs from its
protocol does not carry its name: `protocol_label` marks it, and `departures` says in what.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pretext.checks import check_at_least, check_choice
from pretext.config import apply_overrides, find_config, load_config, merge, plain, read_config
from pretext.errors import InputError
from transfer.stage import FREE_KEYS


@dataclass(frozen=True)
class Protocol:
    """What one paper fixed about one stage.

    Attributes:
        id: What a score line calls it.
        stage: One of `transfer.scores.score.STAGES`.
        metric: What the paper reports, as the stage calls it.
        source: Where the numbers were read.
        settings: Keys of the stage's config with their values; read only.
        choices: The config's other keys, which are the user's choice, with what they are if nothing is chosen.
    """

    id: str
    stage: str
    metric: str
    source: str
    settings: Mapping[str, Any]
    choices: Mapping[str, Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", _frozen(self.settings))
        object.__setattr__(self, "choices", _frozen(self.choices))

    def config(self) -> dict[str, Any]:
        """A config of the stage that follows the protocol."""
        values: dict[str, Any] = _thawed({**self.choices, **self.settings})
        return values | {"protocol": self.id}


def load_stage_config(
    stage: str,
    data: str | None = None,
    overrides: Sequence[str] = (),
    *,
    protocol: str | None = None,
    file: str | None = None,
) -> dict[str, Any]:
    """A stage's config: short settings for small data sets, a paper's protocol, or a file of the user's.

    Args:
        stage: One of `transfer.stage.STAGES`.
        data: A config of ``data``, as `pretext.config.load_config` takes it; not with a protocol or a file.
        overrides: ``key=value``; the protocol is not overridden.
        protocol: One of `PROTOCOLS`.
        file: A config file. Its ``protocol`` is one of `PROTOCOLS`, which it changes, or another name for what the
            file itself defines whole.

    Raises:
        InputError: As `load_config`; the file or protocol is of another stage or lacks a key; two of protocol, file
            and data are given; or the protocol is overridden.
    """
    _check_words(data, overrides, protocol, file)
    name = stage.replace("-", "_")
    if protocol is not None:
        check_choice(f"protocol of {stage}", protocol, [p.id for p in PROTOCOLS.values() if p.stage == stage])
        config = PROTOCOLS[protocol].config()
    elif file is not None:
        config = _file_config(stage, name, file)
    else:
        return load_config("transfer", name, data, overrides)
    apply_overrides(config, overrides)
    return config


def _check_words(data: str | None, overrides: Sequence[str], protocol: str | None, file: str | None) -> None:
    if any(override.partition("=")[0] == "protocol" for override in overrides):
        raise InputError(
            "a protocol is not a key to override, since it fixes others",
            received=" ".join(overrides),
            allowed="choose it by --protocol ID",
        )
    given = {"--protocol": protocol, "--config": file, "a data set": data}
    named = [f"{option} {value}" for option, value in given.items() if value is not None]
    if len(named) > 1:
        raise InputError(
            "the settings of a stage come from one place",
            received=", ".join(named),
            allowed="give one of --protocol, --config and a data set; --data says where the photos are",
        )


def _file_config(stage: str, name: str, file: str) -> dict[str, Any]:
    config = read_config(find_config("transfer", file))
    protocol = PROTOCOLS.get(config.get("protocol", ""))
    if protocol is not None and protocol.stage != stage:
        raise InputError(f"{file} is not a config of {stage}", received=f"a protocol of {protocol.stage}")
    if protocol is not None:
        config = merge(protocol.config(), config)
    missing = sorted(load_config("transfer", name).keys() - config.keys())
    if missing:
        raise InputError(
            f"{file} is not a config of {stage}",
            received=f"one without {', '.join(missing)}",
            allowed=f"configs like {find_config('transfer', name)}",
        )
    return config


def departures(config: Mapping[str, Any], processes: int = 1) -> dict[str, tuple[Any, Any]]:
    """Where a run departs from the protocol its config names.

    Args:
        config: A stage's resolved config.
        processes: How many shared the run; the batch of a protocol is that of all of them.

    Returns:
        By dotted key, what the protocol says and what was done; empty for a protocol of no paper.
    """
    protocol = PROTOCOLS.get(config["protocol"])
    if protocol is None:
        return {}
    said, done = _flat(plain(protocol.settings)), _flat(plain(config))
    # Photos an update: of all processes, and of all batches whose gradients are added up.
    for each, count in ((said, 1), (done, processes)):
        if "batch_size" in each:
            each["photos an update"] = each.pop("batch_size") * each.pop("accumulate", 1) * count
    # What a config adds to a part that the protocol fixes counts as well.
    fixed = {key for key in done if key.split(".")[0] in {*protocol.settings, "photos an update"}}
    return {
        key: (said.get(key), done.get(key))
        for key in [*said, *sorted(fixed - said.keys())]
        if key.split(".")[0] not in FREE_KEYS and done.get(key) != said.get(key)
    }


def protocol_label(config: Mapping[str, Any], processes: int = 1) -> str:
    """The name a run's scores are filed under.

    The protocol's id; with ``x0.1`` where ``scale=0.1`` shortened the schedule; with ``changed`` where anything else
    is not as the protocol says. A name that is none of `PROTOCOLS` stays as it is.
    """
    label: str = config["protocol"]
    keys = set(departures(config, processes))
    if "scale" in keys:
        label += f" x{config['scale']:g}"
    return label + (" changed" if keys - {"scale"} else "")


def run_length(config: Mapping[str, Any], steps: int) -> int:
    """Steps of a run whose whole schedule has ``steps``, shortened by the config's ``scale``.

    Raises:
        InputError: The scale is not above 0 and at most 1.
    """
    check_at_least("scale", config["scale"], 0.0)
    scale: float = config["scale"]
    if not 0 < scale <= 1:
        raise InputError(f"scale shortens a schedule: received {scale}, allowed are numbers above 0, up to 1")
    return max(1, round(scale * steps))


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _frozen(value: Any) -> Any:
    """A copy that nothing can change."""
    if isinstance(value, Mapping):
        return MappingProxyType({key: _frozen(entry) for key, entry in value.items()})
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple)) else value


def _thawed(value: Any) -> Any:
    """A copy that can be changed; sequences stay tuples."""
    return {k: _thawed(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def get_protocol(name: str) -> Protocol:
    """The protocol of that id; InputError if there is none."""
    check_choice("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


_CROP_227 = {
    "type": "RandomCrop",
    "size": 227,
    "resize": 256,
    "flip": True,
    "min_scale": 1.0,
}
_CROP_224 = _CROP_227 | {"size": 224}

#: What all linear probes of AlexNet share: 55, 27, 13, 13 and 13 positions, reduced to about 9,000 numbers.
_PROBE: dict[str, Any] = {
    "scale": 1.0,
    "geometry": "evaluation",
    "view": _CROP_227,
    "crops": 1,
    "crop_scores": "logits",
    "reduction": {"type": "BilinearResize"},
    "batch_norm": True,
    "classifier_init": "normal",
    "classifier_std": 0.01,
    "steps": None,
    "epochs": None,
    "evaluations": None,
    "epoch_rule": "last",
    "batch_size": 256,
    "optimizer": {
        "type": "SGD", "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": False,
    },
    "bias_lr_factor": 1.0,
    "decay_biases": False,
    "schedule": {"name": "step", "milestones": (), "factors": ()},
    "mixed_precision": False,
}  # fmt: skip

#: 140,000 steps of 256 photos, whose rate falls by 10 every 40,000.
_CAFFE_PROBE = _PROBE | {
    "steps": 140_000,
    "evaluations": 28,
    "schedule": {"name": "step", "milestones": (2 / 7, 4 / 7, 6 / 7), "factors": (0.1, 0.01, 0.001)},
}


#: What is the user's choice in every protocol on PASCAL VOC.
_VOC = {"data": "VOC", "color": False, "checkpoint_interval": 1000, "workers": 8}
#: What is the user's choice in every linear probe.
_IMAGENET = {
    "data": "imagenet",
    "train_split": "train",
    "test_split": "val",
    "layers": "all",
    "checkpoint_interval": 1000,
    "workers": 8,
}


def _windows(pooling: str, **windows: tuple[int, int, int]) -> dict[str, Any]:
    return {"type": f"{pooling}", **windows}


#: (size, stride, padding) that take 55, 27, 13, 13, 13 positions to 10, 6, 5, 5, 6.
_DEEPCLUSTER_WINDOWS = {
    "conv1": (6, 6, 3), "conv2": (4, 4, 0), "conv3": (3, 3, 1), "conv4": (3, 3, 1), "conv5": (2, 2, 0),
}  # fmt: skip
_GOYAL_WINDOWS = {
    "conv1": (19, 4, 0), "conv2": (12, 3, 0), "conv3": (9, 1, 0), "conv4": (9, 1, 0), "conv5": (8, 1, 0),
}  # fmt: skip

_PROBES = (
    Protocol(
        "splitbrain2017",
        "linear-probe",
        "top1",
        "Zhang et al., Split-Brain Autoencoders, CVPR 2017; feature_learning_tests/linear/train_val.prototxt of"
        " richzhang/colorization (8 taps, zero classifiers, biases at twice the rate without decay)",
        _CAFFE_PROBE | {"bias_lr_factor": 2.0, "classifier_std": 0.0},
        _IMAGENET,
    ),
    Protocol(
        "zhang2016",
        "linear-probe",
        "top1",
        "Zhang et al., Colorful Image Colorization, ECCV 2016: as splitbrain2017, with average pooling in place of"
        " the bilinear resize",
        _CAFFE_PROBE
        | {
            "bias_lr_factor": 2.0,
            "classifier_std": 0.0,
            "reduction": {"type": "AdaptiveAveragePool"},
        },
        _IMAGENET,
    ),
    Protocol(
        "goyal2019",
        "linear-probe",
        "top1",
        "Goyal et al., Scaling and Benchmarking Self-Supervised Visual Representation Learning, ICCV 2019; the"
        " AlexNet configs of facebookresearch/fair_self_supervision_benchmark",
        _CAFFE_PROBE
        | {
            "reduction": _windows("AveragePool", **_GOYAL_WINDOWS),
            "optimizer": _PROBE["optimizer"] | {"nesterov": True},
        },
        _IMAGENET,
    ),
    Protocol(
        "rotnet2018",
        "linear-probe",
        "top1",
        "Gidaris et al., Unsupervised Representation Learning by Predicting Image Rotations, ICLR 2018;"
        " ImageNet_LinearClassifiers_ImageNet_RotNet_AlexNet_Features.py",
        _PROBE
        | {
            "view": _CROP_224,
            "reduction": {"type": "AdaptiveMaxPool"},
            "classifier_init": "fan_out",
            "epochs": 35,
            "batch_size": 192,
            "optimizer": _PROBE["optimizer"] | {"nesterov": True},
            "decay_biases": True,
            "schedule": {
                "name": "step",
                "milestones": (5 / 35, 15 / 35, 25 / 35),
                "factors": (0.2, 0.04, 0.008),
            },
        },
        _IMAGENET,
    ),
    Protocol(
        "deepcluster2018",
        "linear-probe",
        "top1_best",
        "Caron et al., Deep Clustering for Unsupervised Learning of Visual Features, ECCV 2018; eval_linear.py and"
        " .sh of facebookresearch/deepcluster (the script for conv3 sets a weight decay of 1e-7, the default is 1e-4)",
        _PROBE
        | {
            "view": _CROP_224 | {"square": True},
            "crops": 10,
            "crop_scores": "probabilities",
            "reduction": _windows("AveragePool", **_DEEPCLUSTER_WINDOWS),
            "batch_norm": False,
            "classifier_std": 0.0059,
            "epochs": 90,
            "epoch_rule": "best",
            "optimizer": _PROBE["optimizer"] | {"weight_decay": 1e-4},
            "decay_biases": True,
            "schedule": {"name": "bottou", "milestones": (), "factors": ()},
        },
        _IMAGENET,
    ),
    Protocol(
        "asano2020",
        "linear-probe",
        "top1",
        "Asano et al., A Critical Analysis of Self-Supervision, ICLR 2020; eval_linear_probes.py of"
        " yukimasano/linear-probes",
        _PROBE
        | {
            "view": {
                "type": "RandomResizedCrop",
                "size": 224,
                "resize": 256,
                "flip": True,
            },
            "crops": 10,
            "reduction": _windows("MaxPool", **_DEEPCLUSTER_WINDOWS),
            "classifier_init": "xavier",
            "epochs": 36,
            "batch_size": 192,
            "optimizer": _PROBE["optimizer"] | {"weight_decay": 1e-5},
            "decay_biases": True,
            "schedule": {
                "name": "step",
                "milestones": (10 / 36, 20 / 36, 30 / 36),
                "factors": (0.1, 0.01, 0.001),
            },
        },
        _IMAGENET,
    ),
)

#: What the fine-tuning of AlexNet on VOC2007 shares: photos of 227 pixels, ten random crops at test.
_CLASSIFICATION: dict[str, Any] = {
    "scale": 1.0,
    "year": 2007,
    "train_split": "trainval",
    "test_split": "test",
    "geometry": "evaluation",
    "batch_norm": "absorb",
    "rescale": True,
    "reinit_from": "fc8",
    "fc6_size": 6,
    "fc_channels": 4096,
    "new_std": 0.01,
    "new_bias": 0.1,
    "dropout": 0.5,
    "view": {
        "type": "RandomScaleCrop", "size": 227, "resize": 256, "flip": True, "scale": (0.5, 2.0),
    },
    "crops": 10,
    "batch_size": 16,
    "steps": 80_000,
    "epochs": None,
    "optimizer": {"type": "SGD", "lr": 0.001, "momentum": 0.9, "weight_decay": 1e-6},
    "bias_lr_factor": 2.0,
    "decay_biases": True,
    "max_grad_norm": 10.0,
    "schedule": {"name": "step", "warmup": 0.0, "decay": 0.5, "stages": 8},
    "mixed_precision": False,
}  # fmt: skip

_DEEPCLUSTER = (
    "Caron et al., Deep Clustering for Unsupervised Learning of Visual Features, ECCV 2018; the Caffe scripts of"
    " facebookresearch/deepcluster: new fc6, fc7 and fc8, 150,000 steps"
)

_CLASSIFICATIONS = (
    Protocol(
        "krahenbuhl2016",
        "voc-classification",
        "mean_ap_sklearn",
        "Kraehenbuehl et al., Data-dependent Initializations of Convolutional Neural Networks, ICLR 2016, as Zhang et"
        " al. 2016 use it; src/train_cls.py of philkr/voc-classification",
        _CLASSIFICATION,
        _VOC | {"train": "all"},
    ),
    Protocol(
        "deepcluster2018_fc6-8",
        "voc-classification",
        "mean_ap_sklearn",
        _DEEPCLUSTER,
        _CLASSIFICATION
        | {
            "train": "fc6-8",
            "reinit_from": "fc6",
            "rescale": False,
            "steps": 150_000,
            "optimizer": _CLASSIFICATION["optimizer"] | {"lr": 0.003},
            "schedule": _CLASSIFICATION["schedule"] | {"stages": 30},
        },
        _VOC,
    ),
    Protocol(
        "deepcluster2018_all",
        "voc-classification",
        "mean_ap_sklearn",
        _DEEPCLUSTER,
        _CLASSIFICATION
        | {
            "train": "all",
            "reinit_from": "fc6",
            "rescale": False,
            "steps": 150_000,
            # The rate is halved every 20,000 steps.
            "schedule": _CLASSIFICATION["schedule"] | {"stages": 7.5},
        },
        _VOC,
    ),
)

_SVM = Protocol(
    "goyal2019_svm",
    "voc-svm",
    "mean_ap_voc10",
    "Goyal et al., Scaling and Benchmarking Self-Supervised Visual Representation Learning, ICCV 2019; tools/svm of"
    " facebookresearch/fair_self_supervision_benchmark",
    {
        "scale": 1.0,
        "year": 2007,
        "train_split": "trainval",
        "test_split": "test",
        "geometry": "evaluation",
        "size": 227,
        "reduction": _windows("AveragePool", **_GOYAL_WINDOWS),
        "costs": (*(10.0**power for power in range(-7, 3)), *(0.5**power for power in range(4, 20))),
        "folds": 3,
        "positive_weight": 2.0,
        "tolerance": 1e-4,
        "max_iterations": 2000,
        "batch_size": 32,
        "mixed_precision": False,
    },
    {"data": "VOC", "layers": "all", "workers": 8},
)

#: Fast R-CNN of AlexNet: 128 RoIs of two photos a step, the rate falls by 10 twice.
_DETECTION: dict[str, Any] = {
    "scale": 1.0,
    "year": 2007,
    "train_split": "trainval",
    "test_split": "test",
    "train": "all",
    "geometry": "pretrain",
    "batch_norm": "absorb",
    "rescale": True,
    "reinit_from": "fc8",
    "fc6_size": 6,
    "fc_channels": 4096,
    "new_std": 0.005,
    "new_bias": 0.1,
    "dropout": 0.5,
    "min_sizes": (480, 576, 688, 864, 1200),
    "max_size": 2000,
    "test_min_size": 600,
    "test_max_size": 1000,
    "flip": True,
    "anchor_sizes": (128, 256, 512),
    "aspect_ratios": (0.5, 1.0, 2.0),
    "max_train_proposals": 2000,
    "max_test_proposals": 2000,
    "roi_pool": "max",
    "background_iou": 0.1,
    "rois_per_image": 64,
    "nms_threshold": 0.3,
    "score_threshold": 0.05,
    "batch_size": 2,
    "steps": 150_000,
    "epochs": None,
    "optimizer": {"type": "SGD", "lr": 0.001, "momentum": 0.9, "weight_decay": 5e-4},
    "bias_lr_factor": 2.0,
    "decay_biases": False,
    "max_grad_norm": None,
    "schedule": {"name": "step", "warmup": 0.0, "decay": 0.1, "stages": 3},
    "mixed_precision": False,
}

_DETECTIONS = (
    Protocol(
        "fastrcnn_krahenbuhl2016",
        "voc-detection",
        "mean_ap_voc07",
        "Girshick, Fast R-CNN, ICCV 2015, with the schedule and scales of Kraehenbuehl et al., ICLR 2016, whom Zhang et"
        " al. 2016 follow; nothing frozen",
        _DETECTION,
        _VOC
        | {
            "train_proposals": "selective_search_msra_voc_2007_trainval.pkl",
            "test_proposals": "selective_search_msra_voc_2007_test.pkl",
        },
    ),
    Protocol(
        "fasterrcnn",
        "voc-detection",
        "mean_ap_voc07",
        "Ren et al., Faster R-CNN, NIPS 2015: as fastrcnn_krahenbuhl2016, with a region proposal network trained along"
        " in place of the file of proposals",
        _DETECTION | {"max_test_proposals": 300, "train_proposals": None, "test_proposals": None},
        _VOC,
    ),
)

_SEGMENTATION: dict[str, Any] = {
    "scale": 1.0,
    "train": "all",
    "batch_norm": "absorb",
    "rescale": True,
    "reinit_from": "fc8",
    "fc6_size": 6,
    "fc_channels": 4096,
    "dropout": 0.5,
    "check_counts": True,
    "epochs": None,
    "decay_biases": False,
    "mixed_precision": False,
}

_SEGMENTATIONS = (
    Protocol(
        "fcn32s_zhang2016",
        "voc-segmentation",
        "mean_iou",
        "Zhang et al., Colorful Image Colorization, ECCV 2016; feature_learning_tests/segmentation of"
        " richzhang/colorization: SBD train, scored on what VOC2011's val has besides (736 photos)",
        _SEGMENTATION
        | {
            "year": 2011,
            "train_split": "sbd_train",
            "test_split": "seg11valid",
            "geometry": "evaluation",
            "network": "fcn32s",
            "head": None,
            "new_std": 0.005,
            "new_bias": 1.0,
            "crop": None,
            "scales": (1.0, 1.0),
            "flip": False,
            "batch_size": 1,
            "accumulate": 20,
            # 150,000 updates of 20 photos each.
            "steps": 3_000_000,
            "optimizer": {"type": "SGD", "lr": 1e-4, "momentum": 0.9, "weight_decay": 5e-4},
            "head_lr_factor": 1.0,
            "bias_lr_factor": 2.0,
            "max_grad_norm": None,
            "schedule": {
                "name": "step",
                "warmup": 0.0,
                "power": 0.9,
                "milestones": ((1_000_000, 0.1), (2_000_000, 0.1)),
            },
        },
        _VOC | {"checkpoint_interval": 20_000},
    ),
    Protocol(
        "voc12_modern",
        "voc-segmentation",
        "mean_iou",
        "mmsegmentation's schedule of 40,000 steps for VOC2012 with added photos (configs/_base_/schedules/"
        "schedule_40k.py), to a rate of zero, with an FCN head on conv5; not the papers' test, and never in one column"
        " with it",
        _SEGMENTATION
        | {
            "year": 2012,
            "train_split": "train_aug",
            "test_split": "val",
            "geometry": "pretrain",
            "network": "head",
            "head": {
                "channels": 256,
                "num_convs": 1,
                "kernel_size": 3,
                "concat_input": False,
                "dropout_ratio": 0.1,
            },
            "new_std": None,
            "new_bias": 0.0,
            "crop": 512,
            "scales": (0.5, 2.0),
            "flip": True,
            "batch_size": 16,
            "accumulate": 1,
            "steps": 40_000,
            "optimizer": {"type": "SGD", "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4},
            "head_lr_factor": 1.0,
            "bias_lr_factor": 1.0,
            "max_grad_norm": None,
            "decay_biases": True,
            "rescale": False,
            "schedule": {"name": "poly", "warmup": 0.0, "power": 0.9, "milestones": ()},
        },
        _VOC,
    ),
)

#: Every protocol by its id.
PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {protocol.id: protocol for protocol in (*_PROBES, *_CLASSIFICATIONS, _SVM, *_DETECTIONS, *_SEGMENTATIONS)}
)
