"""Colorization of VGG-16: for a GPU; 2 CPU cores see about 8 photos/s at 128 pixels."""

base = "_alexnet"

init = "kmeans"  # section 3.1
method = dict(
    type="colorization",
    loss="rebalanced",
    layer="conv5_3",
    head_channels=0,
    target_stride=8,
    bins="official313",
    neighbors=5,
    sigma=5.0,
    rebalance_mix=0.5,
    prior="data",
    gray_threshold=5.0,
)
backbone = dict(architecture="vgg16", input_space="lightness", fully_connected=False, norm="batch")
epochs = 40
workers = 8
