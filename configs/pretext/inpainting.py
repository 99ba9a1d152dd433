"""Inpainting (Pathak et al., CVPR 2016) of random regions, by the squared error alone."""

base = "_alexnet"

# The paper trains AlexNet without the adversarial loss; where it has one, its weight is 0.001.
method = dict(
    type="inpainting",
    layer="conv5",
    mask="random",
    map_size=8,
    dropout=0.5,
    doublings=4,
    decoder_channels=128,
    overlap_weight=10.0,
    adversarial_weight=0.0,
    adversarial_loss="nonsaturating",
    discriminator_rate=0.1,
    discriminator_channels=32,
)
backbone.update(input_space="rgb")
