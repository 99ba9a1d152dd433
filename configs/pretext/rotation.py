"""Rotation (Gidaris, Singh, Komodakis, ICLR 2018): each photo in all four rotations."""

base = "_alexnet"

method = dict(type="rotation", layer="conv5", head_size=3, head_hidden=512)
backbone.update(input_space="rgb")
