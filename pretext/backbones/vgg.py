"""VGG-16 (Simonyan & Zisserman, ICLR 2015) with batch norm."""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from pretext.backbones.base import FC_CHANNELS, Backbone, ConvBlock, Layer

#: (number of convolutions, channels) of the five blocks.
BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


class VGG16(Backbone):
    """VGG-16: 13 convolutions conv1_1..conv5_3, pool5 and, on request, fc6 and fc7 as convolutions.

    ``geometry`` changes only pool5 and fc6. For pretraining, pool5 keeps the size of its input (stride 1) and fc6 is
    padded to do the same. For evaluation they are as published: 224 pixels give 7 positions at pool5.

    Args:
        fully_connected: Whether the backbone has fc6 and fc7 (4096 channels each).
        input_space, geometry, norm, input_mean, input_std: See :class:`Backbone`.
    """

    architecture = "vgg16"

    def __init__(
        self,
        input_space: str = "lightness",
        *,
        fully_connected: bool = False,
        geometry: str = "pretrain",
        norm: str = "batch",
        input_mean: Sequence[float] | None = None,
        input_std: Sequence[float] | None = None,
    ):
        super().__init__(input_space, geometry, norm, input_mean, input_std)
        self.arguments |= {"fully_connected": fully_connected}
        padded = geometry == "pretrain"
        layers, in_channels = [], self.in_channels
        for number, (depth, channels) in enumerate(BLOCKS, 1):
            for position in range(1, depth + 1):
                name = f"conv{number}_{position}"
                block = ConvBlock(nn.Conv2d, in_channels, channels, norm, kernel_size=3, padding=1)
                self.add_module(name, block)
                stride = 2 ** (number - 1)
                layers.append(Layer(name, channels, stride, (stride - 1) / 2))
                in_channels = channels
        top = 16 if padded else 32
        layers.append(Layer("pool5", in_channels, top, (top - 1) / 2))
        if fully_connected:
            self.fc6 = ConvBlock(
                nn.Conv2d, in_channels, FC_CHANNELS, norm, kernel_size=7, padding=3 if padded else 0
            )
            self.fc7 = ConvBlock(nn.Conv2d, FC_CHANNELS, FC_CHANNELS, norm, kernel_size=1)
            offset = (top - 1) / 2 + (0 if padded else 3 * top)
            layers += [Layer("fc6", FC_CHANNELS, top, offset), Layer("fc7", FC_CHANNELS, top, offset)]
        self.layers = tuple(layers)

    def walk(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield conv1_1..conv5_3, pool5 and, if the backbone has them, fc6 and fc7; all but pool5 after the ReLU."""
        for number, (depth, _) in enumerate(BLOCKS, 1):
            if number > 1:
                x = self._halve(x)
            for position in range(1, depth + 1):
                name = f"conv{number}_{position}"
                x = self.get_submodule(name)(x)
                yield name, x
        x = F.max_pool2d(x, 3, 1, 1) if self.geometry == "pretrain" else self._halve(x)
        yield "pool5", x
        if self.arguments["fully_connected"]:
            x = self.fc6(x)
            yield "fc6", x
            yield "fc7", self.fc7(x)

    def _halve(self, x: Tensor) -> Tensor:
        # The published geometry is Caffe's, which rounds the size of a pooled map up.
        return F.max_pool2d(x, 2, ceil_mode=self.geometry == "evaluation")
