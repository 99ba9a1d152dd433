"""AlexNet as "Colorful Image Colorization" (Zhang, Isola, Efros, ECCV 2016) pretrains and evaluates it."""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from pretext.backbones.base import FC_CHANNELS, Backbone, ConvBlock, Layer

#: The papers' channels of conv1..conv5.
CHANNELS = (96, 256, 384, 384, 256)


class AlexNet(Backbone):
    """AlexNet with 96-256-384-384-256 channels and no local response normalisation.

    The pretraining geometry pads conv1 by 5 and the pools by 1, and runs fc6 dilated, so that 180 pixels give
    45, 23, 12 and 12 positions at conv1, conv2, conv5 and fc7. The evaluation geometry is Caffe's: 227 pixels
    give 55, 27, 13, 13, 13 positions at conv1..conv5, 6 at pool5 and 1 at fc6.

    Args:
        groups: 2 splits conv2, conv4 and conv5 into halves, as in the paper and in the first AlexNet; 1 does not.
        fully_connected: Whether the backbone has fc6 and fc7 (4096 channels each, as convolutions).
        channels: Channels of conv1..conv5; torchvision's AlexNet has 64, 192, 384, 256, 256.
        conv1_padding: Zeros around the photo, in pixels; None takes the geometry's, 5 or 0. RotNet, DeepCluster and
            torchvision use 2, with photos of 224 pixels.
        input_space, geometry, norm, input_mean, input_std: See :class:`Backbone`.

    Differences from the paper: batch norm is affine unless ``norm="batch_no_affine"``; lightness is divided by
    25 unless ``input_std=[1]``.
    """

    architecture = "alexnet"

    def __init__(
        self,
        input_space: str = "lightness",
        *,
        groups: int = 2,
        fully_connected: bool = False,
        channels: Sequence[int] = CHANNELS,
        conv1_padding: int | None = None,
        geometry: str = "pretrain",
        norm: str = "batch",
        input_mean: Sequence[float] | None = None,
        input_std: Sequence[float] | None = None,
    ):
        super().__init__(input_space, geometry, norm, input_mean, input_std)
        self.arguments |= {"groups": groups, "fully_connected": fully_connected}
        # Kept only where they differ from the papers: every argument enters the hash of a file.
        if tuple(channels) != CHANNELS:
            self.arguments["channels"] = tuple(channels)
        if conv1_padding is not None:
            self.arguments["conv1_padding"] = conv1_padding
        padded = geometry == "pretrain"
        self.pool_padding = 1 if padded else 0
        self.pool5_stride = 1 if padded else 2

        def block(in_channels: int, out_channels: int, kernel_size: int, **kwargs: int) -> ConvBlock:
            return ConvBlock(nn.Conv2d, in_channels, out_channels, norm, kernel_size=kernel_size, **kwargs)

        if conv1_padding is None:
            conv1_padding = 5 if padded else 0
        c1, c2, c3, c4, c5 = channels
        self.conv1 = block(self.in_channels, c1, 11, stride=4, padding=conv1_padding)
        self.conv2 = block(c1, c2, 5, padding=2, groups=groups)
        self.conv3 = block(c2, c3, 3, padding=1)
        self.conv4 = block(c3, c4, 3, padding=1, groups=groups)
        self.conv5 = block(c4, c5, 3, padding=1, groups=groups)
        top = 16 * self.pool5_stride
        # An unpadded conv1 starts 5 pixels in, and each unpadded pooling one position further in.
        begin, further = 5.0 - conv1_padding, 1 - self.pool_padding
        offsets = (begin, begin + 4 * further, begin + 12 * further, begin + 28 * further)
        self.layers = (
            Layer("conv1", c1, 4, offsets[0]),
            Layer("pool1", c1, 8, offsets[1]),
            Layer("conv2", c2, 8, offsets[1]),
            Layer("pool2", c2, 16, offsets[2]),
            Layer("conv3", c3, 16, offsets[2]),
            Layer("conv4", c4, 16, offsets[2]),
            Layer("conv5", c5, 16, offsets[2]),
            Layer("pool5", c5, top, offsets[3]),
        )
        if fully_connected:
            self.fc6 = block(c5, FC_CHANNELS, 6, **({"dilation": 2, "padding": 5} if padded else {}))
            self.fc7 = block(FC_CHANNELS, FC_CHANNELS, 1)
            # A window of 6 is centred between two positions; padded and dilated, it is centred on one.
            fc6 = offsets[3] + (0 if padded else 2.5 * top)
            self.layers += (Layer("fc6", FC_CHANNELS, top, fc6), Layer("fc7", FC_CHANNELS, top, fc6))

    def walk(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield conv1..conv5, pool1, pool2, pool5 and, if the backbone has them, fc6 and fc7, each after its ReLU."""
        x = self.conv1(x)
        yield "conv1", x
        x = self._pool(x)
        yield "pool1", x
        x = self.conv2(x)
        yield "conv2", x
        x = self._pool(x)
        yield "pool2", x
        x = self.conv3(x)
        yield "conv3", x
        x = self.conv4(x)
        yield "conv4", x
        x = self.conv5(x)
        yield "conv5", x
        x = self._pool(x, self.pool5_stride)
        yield "pool5", x
        if self.arguments["fully_connected"]:
            x = self.fc6(x)
            yield "fc6", x
            yield "fc7", self.fc7(x)

    def _pool(self, x: Tensor, stride: int = 2) -> Tensor:
        # Caffe rounds the size of a pooled map up.
        return F.max_pool2d(x, 3, stride, self.pool_padding, ceil_mode=True)
