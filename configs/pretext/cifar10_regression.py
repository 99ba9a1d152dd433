"""Regression through a sigmoid: the baseline of the study of CIFAR-10 (see _cifar10.py)."""

base = "_cifar10"

name = "cifar10_regression"
method = dict(
    type="colorization",
    loss="l2_sigmoid",
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
