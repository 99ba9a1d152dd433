"""Context (Doersch, Gupta, Efros, ICCV 2015): each photo as eight pairs of patches."""

base = "_alexnet"

method = dict(type="context", layer="conv5", gap=0.5, jitter=0.07, color="drop", head_size=3, head_hidden=512)
backbone.update(input_space="rgb")
