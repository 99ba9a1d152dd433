"""Colorization by one-hot classification: L -> ab of Split-Brain Autoencoders (Zhang et al., CVPR 2017).

As the paper's appendix B says. The stride of conv5, at which the paper predicts, is target_stride=16. Gray photos add no
loss here; the paper does not mention them.
"""

base = "_alexnet"

name = "l_to_ab"
method = dict(
    type="colorization",
    loss="classification",
    layer="conv5",
    head_channels=0,
    target_stride=8,
    bins="official313",
    neighbors=1,
    sigma=5.0,
    rebalance_mix=0.5,
    prior="data",
    gray_threshold=5.0,
)
backbone.update(input_space="lightness")
