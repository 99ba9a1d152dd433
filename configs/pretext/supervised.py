"""Supervised classification, the upper bound of the tables; the labels are the photos' folders."""

base = "_alexnet"

method = dict(type="supervised", num_classes=10, layer="conv5", head_size=3, head_hidden=512)
backbone.update(input_space="rgb")
