"""Heads that give a vector, such as the logits of a classifier, for each map of features."""

from jaxtyping import Float
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
        self.size, self.hidden, self.out_features = size, hidden, out_features
        self.layers = perceptron(in_channels * size * size, out_features, hidden=hidden)

    def forward(self, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n out"]:
        """Return the vector of each map."""
        vector: Tensor = self.layers(F.adaptive_max_pool2d(features, self.size).flatten(1))
        return vector
