"""Autoencoder of Lab photos: the row Lab -> Lab of Split-Brain Autoencoders (Zhang et al., CVPR 2017)."""

base = "_alexnet"

method = dict(
    type="autoencoder", layer="conv5", bottleneck=16, target_stride=4, decoder_channels=128, drop=0.0
)
backbone.update(input_space="lab")
