"""Colorization by one-hot classification: L -> ab of Split-Brain Autoencoders (Zhang et al., CVPR 2017).

The recipe of the appendix B. The paper predicts at the stride of conv5, which is target_stride=16. Gray photos add no
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
