"""Heads that pretext methods put on a backbone: classifiers of whole maps, and decoders back to pixels."""

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pretext.checks import check_at_least


def perceptron(in_features: int, out_features: int, *, hidden: int) -> nn.Sequential:
    """Build a head from vector to vector: a hidden layer with batch norm and ReLU, then a linear layer.

    Args:
        in_features: Length of the input.
        out_features: Length of the output.
        hidden: Length of the hidden layer; 0 for none.

    Raises:
        InputError: ``hidden`` is below 0.
    """
    check_at_least("head hidden", hidden, 0)
    layers: list[nn.Module] = []
    if hidden:
        layers = [nn.Linear(in_features, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(hidden or in_features, out_features))


class MapHead(nn.Module):
    """Head from feature map to vector: max pooling to a fixed size, then a `perceptron`.

    Args:
        in_channels: Channels of the map.
        out_features: Length of the vector.
        size: Side of the pooled map, in positions.
        hidden: Length of the hidden layer; 0 for none.

    Raises:
        InputError: A number is out of range.
    """

    def __init__(self, in_channels: int, out_features: int, *, size: int = 3, hidden: int = 512):
        super().__init__()
        check_at_least("head size", size, 1)
        self.size = size
        self.layers = perceptron(in_channels * size * size, out_features, hidden=hidden)

    def forward(self, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n out"]:
        """Return the vector of each map."""
        vector: Tensor = self.layers(F.adaptive_max_pool2d(features, self.size).flatten(1))
        return vector


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
