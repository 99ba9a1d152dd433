"""Split-brain autoencoder (Zhang, Isola, Efros, CVPR 2017): the row (cl,cl) of its paper."""

base = "_alexnet"

method = dict(type="split_brain", loss="classification", layer="conv5", target_stride=8, lightness_bins=50)
backbone.update(input_space="lab")
