"""Colorization (Zhang, Isola, Efros, ECCV 2016): classification over 313 bins, rebalanced."""

base = "_alexnet"

init = "kmeans"  # section 3.1
method = dict(
    type="colorization",
    loss="rebalanced",
    layer="conv5",
    head_channels=0,
    target_stride=8,
    bins="official313",
    neighbors=5,
    sigma=5.0,
    rebalance_mix=0.5,
    prior="data",
    gray_threshold=5.0,
)
backbone.update(input_space="lightness")
