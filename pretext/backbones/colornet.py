"""The colorization net of "Colorful Image Colorization" (Zhang, Isola, Efros, ECCV 2016), section 2.1."""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from pretext.backbones.base import Backbone, Layer

#: (convolutions, channels, stride of the last convolution, dilation) of blocks conv1..conv7.
BLOCKS = (
    (2, 64, 2, 1),
    (2, 128, 2, 1),
    (3, 256, 2, 1),
    (3, 512, 1, 1),
    (3, 512, 1, 2),
    (3, 512, 1, 2),
    (3, 512, 1, 1),
)
#: Channels of conv8.
CONV8_CHANNELS = 256


class ColorNet(Backbone):
    """The paper's VGG-styled network: eight blocks conv1..conv8, no pooling, stride 4 at conv8.

    Each block but conv8 ends in one batch norm, after its last ReLU. With the 1x1 classifier to 313 bins and the
    (313, 2) table of bin centres, the colorization network has 32,236,011 numbers, as the authors' does.

    Args:
        input_space, geometry, norm, input_mean, input_std: See :class:`Backbone`; ``geometry`` has no effect.

    Differences from the paper: lightness is divided by 25 unless ``input_std=[1]``.
    """

    architecture = "colornet"

    def __init__(
        self,
        input_space: str = "lightness",
        *,
        geometry: str = "pretrain",
        norm: str = "batch",
        input_mean: Sequence[float] | None = None,
        input_std: Sequence[float] | None = None,
    ):
        super().__init__(input_space, geometry, norm, input_mean, input_std)
        layers, in_channels, total_stride = [], self.in_channels, 1
        for number, (depth, channels, stride, dilation) in enumerate(BLOCKS, 1):
            block = nn.Sequential()
            for position in range(1, depth + 1):
                conv_stride = stride if position == depth else 1
                block.append(
                    nn.Conv2d(in_channels, channels, 3, conv_stride, padding=dilation, dilation=dilation)
                )
                block.append(nn.ReLU(inplace=True))
                in_channels = channels
            if norm != "none":
                block.append(nn.BatchNorm2d(channels, affine=norm == "batch"))
            self.add_module(f"conv{number}", block)
            total_stride *= stride
            layers.append(Layer(f"conv{number}", channels, total_stride))
        self.conv8 = nn.Sequential(
            nn.ConvTranspose2d(in_channels, CONV8_CHANNELS, 4, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(CONV8_CHANNELS, CONV8_CHANNELS, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(CONV8_CHANNELS, CONV8_CHANNELS, 3, padding=1),
        )
        # The transposed convolution replaces each position by two, one before and one after its centre.
        self.layers = (*layers, Layer("conv8", CONV8_CHANNELS, total_stride // 2, offset=-total_stride / 4))

    def walk(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield conv1..conv8: conv1..conv7 after their batch norm, conv8 after its ReLU."""
        for layer in self.layers[:-1]:
            x = self.get_submodule(layer.name)(x)
            yield layer.name, x
        yield "conv8", F.relu(self.conv8(x))
