"""What three nets for small photos share: a student study of CelebA and Fruits (Conti and Sterpa).

Its presentation has an encoder-decoder, 313 bins and three losses, but neither layers nor schedule. Here: the seven
blocks of Zhang et al. (ECCV 2016) as the encoder, three transposed convolutions to the photo's size as the decoder, and
the numbers of AlexNet's configs.
"""

base = "_alexnet"

view.update(size=64, resize=64)
backbone = dict(architecture="colornet", input_space="lightness", norm="batch", doublings=3, width=1.0)
method = dict(
    type="colorization",
    layer="conv8",
    head_channels=0,
    target_stride=1,
    bins="official313",
    neighbors=5,
    sigma=5.0,
    rebalance_mix=0.5,
    prior="data",
    gray_threshold=5.0,
)
