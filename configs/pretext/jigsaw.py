"""Jigsaw (Noroozi, Favaro, ECCV 2016): each photo as nine shuffled tiles."""

base = "_alexnet"

method = dict(
    type="jigsaw",
    layer="conv5",
    permutations="64",  # how many, or a file of `python -m pretext permutations`
    tile=0.85,
    channel_shift=1,
    gray=0.3,
    head_size=3,
    tile_features=512,
    head_hidden=512,
)
backbone.update(input_space="rgb")
