"""Egomotion between two frames, from a list of pairs (docs/data.md)."""

base = "_alexnet"

method = dict(
    type="egomotion",
    layer="conv5",
    bins=10,
    window=0.6,
    max_shift=0.2,
    max_rotation=30.0,
    head_size=6,
    head_hidden=256,
)
backbone.update(input_space="rgb")
data = "frames.pairs"
view = dict(type="PairCrop", size=128, resize=128)
