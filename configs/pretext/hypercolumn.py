"""Colorization from hypercolumns (Larsson, Maire, Shakhnarovich, ECCV 2016), of a size for small machines."""

base = "_alexnet"

method = dict(
    type="hypercolumn",
    loss="hue_chroma",
    layers=("data", "conv1", "conv2", "conv3", "conv4", "conv5"),
    hidden_channels=256,  # 1024 in the paper
    dropout=0.5,
    places=128,
    border=0,
    window=1,
    stride=4,
    bins="official313",
    neighbors=5,
    sigma=5.0,
    rebalance_mix=0.5,
    prior="data",
    gray_threshold=5.0,
)
backbone.update(input_space="lightness")
