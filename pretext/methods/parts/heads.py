"""Heads that pretext methods put on a backbone: classifiers of whole maps, and decoders back to pixels."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from pretext.backbones.heads import MapHead, perceptron
from pretext.checks import check_at_least

__all__ = ["Decoder", "MapHead", "accuracy", "perceptron"]


class Decoder(nn.Sequential):
    """Head from feature map back to pixels: blocks of upsampling by 2, 3x3 convolution, batch norm and ReLU.

    Args:
        in_channels: Channels of the map.
        out_channels: Channels of the output.
        doublings: How often the sides are doubled.
        channels: Channels of the first block; each further one has half as many, but at least 16.

    Raises:
        InputError: A number is out of range.
    """

    def __init__(self, in_channels: int, out_channels: int, *, doublings: int, channels: int = 128):
        check_at_least("decoder doublings", doublings, 0)
        check_at_least("decoder channels", channels, 16)
        layers: list[nn.Module] = []
        for _ in range(doublings):
            layers += [
                nn.Upsample(scale_factor=2, mode="nearest"),
                nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
            ]
            in_channels, channels = channels, max(16, channels // 2)
        super().__init__(*layers, nn.Conv2d(in_channels, out_channels, 3, padding=1))


def accuracy(logits: Float[Tensor, "n c"], labels: Int[Tensor, " n"]) -> Float[Tensor, ""]:
    """Return the share of the samples whose label has the highest logit, 0..1."""
    return (logits.detach().argmax(1) == labels).float().mean()
