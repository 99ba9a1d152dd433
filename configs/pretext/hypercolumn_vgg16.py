"""Colorization from hypercolumns (Larsson et al., ECCV 2016) of a VGG-16 with a quarter of the channels."""

base = "_alexnet"

method = dict(
    type="hypercolumn",
    loss="hue_chroma",
    layers=None,  # data, conv1_1 to conv5_3, fc6 and fc7
    hidden_channels=256,
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
backbone = dict(
    architecture="vgg16",
    input_space="lightness",
    fully_connected=True,
    width=0.25,
    pool5_stride=2,
    norm="batch_no_affine",  # before the ReLU, as the release has it
)
