"""Autoencoder of which half of the input is dropped: Lab(drop50) -> Lab of Split-Brain Autoencoders (CVPR 2017)."""

base = "_alexnet"

name = "autoencoder_drop50"
method = dict(
    type="autoencoder", layer="conv5", bottleneck=16, target_stride=4, decoder_channels=128, drop=0.5
)
backbone.update(input_space="lab")
