"""One-hot classification over 313 bins: the main model of the study of CIFAR-10 (see _cifar10.py)."""

base = "_cifar10"

name = "cifar10_classification"
method = dict(
    type="colorization",
    loss="classification",
    layer="conv8",
    head_channels=0,
    target_stride=1,
    bins="official313",
    neighbors=1,
    sigma=5.0,
    rebalance_mix=0.5,
    prior="data",
    gray_threshold=0.0,
)
