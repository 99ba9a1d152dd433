"""AlexNet as "Colorful Image Colorization" (Zhang, Isola, Efros, ECCV 2016) pretrains and evaluates it."""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from pretext.backbones.base import Backbone, ConvBlock, Layer


class AlexNet(Backbone):
    """AlexNet with 96-256-384-384-256 channels and no local response normalisation.

    The pretraining geometry pads conv1 by 5 and the pools by 1, and runs fc6 dilated, so that 180 pixels give
    45, 23, 12 and 12 positions at conv1, conv2, conv5 and fc7. The evaluation geometry is Caffe's: 227 pixels
    give 55, 27, 13, 13, 13 positions at conv1..conv5, 6 at pool5 and 1 at fc6.

    Args:
        groups: 2 halves conv2, conv4 and conv5 as the paper (and the first AlexNet) does; 1 does not.
        fully_connected: Whether fc6 and fc7 (4096 channels each, as convolutions) belong to the backbone.
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
        geometry: str = "pretrain",
        norm: str = "batch",
        input_mean: Sequence[float] | None = None,
        input_std: Sequence[float] | None = None,
    ):
        super().__init__(input_space, geometry, norm, input_mean, input_std)
        self.arguments |= {"groups": groups, "fully_connected": fully_connected}
        padded = geometry == "pretrain"
        self.pool_padding = 1 if padded else 0
        self.pool5_stride = 1 if padded else 2

        def block(in_channels: int, out_channels: int, kernel_size: int, **kwargs: int) -> ConvBlock:
            return ConvBlock(nn.Conv2d, in_channels, out_channels, norm, kernel_size=kernel_size, **kwargs)

        self.conv1 = block(self.in_channels, 96, 11, stride=4, padding=5 if padded else 0)
        self.conv2 = block(96, 256, 5, padding=2, groups=groups)
        self.conv3 = block(256, 384, 3, padding=1)
        self.conv4 = block(384, 384, 3, padding=1, groups=groups)
        self.conv5 = block(384, 256, 3, padding=1, groups=groups)
        top = 16 * self.pool5_stride
        # Without padding conv1 begins at pixel 5, and each pooling one position further.
        offsets = (0.0,) * 5 if padded else (5.0, 9.0, 17.0, 33.0, 113.0)
        self.layers = (
            Layer("conv1", 96, 4, offsets[0]),
            Layer("conv2", 256, 8, offsets[1]),
            Layer("conv3", 384, 16, offsets[2]),
            Layer("conv4", 384, 16, offsets[2]),
            Layer("conv5", 256, 16, offsets[2]),
            Layer("pool5", 256, top, offsets[3]),
        )
        if fully_connected:
            self.fc6 = block(256, 4096, 6, **({"dilation": 2, "padding": 5} if padded else {}))
            self.fc7 = block(4096, 4096, 1)
            self.layers += (Layer("fc6", 4096, top, offsets[4]), Layer("fc7", 4096, top, offsets[4]))

    def walk(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield conv1..conv5, pool5 and, where they are, fc6 and fc7; all but pool5 are after the ReLU."""
        x = self.conv1(x)
        yield "conv1", x
        x = self.conv2(self._pool(x))
        yield "conv2", x
        x = self.conv3(self._pool(x))
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
