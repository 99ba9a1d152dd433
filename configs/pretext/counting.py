"""Counting (Noroozi, Pirsiavash, Favaro, ICCV 2017): each photo whole and in four tiles."""

base = "_alexnet"

method = dict(
    type="counting",
    layer="conv5",
    margin=10.0,
    num_features=1000,
    downsampling=("area", "bilinear", "bicubic"),
    gray=0.67,
    head_size=3,
    head_hidden=512,
)
backbone.update(input_space="rgb")
