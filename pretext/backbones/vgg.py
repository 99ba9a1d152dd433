"""VGG-16 (Simonyan & Zisserman, ICLR 2015) with batch norm."""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from pretext.backbones.base import FC_CHANNELS, Backbone, ConvBlock, Layer
from pretext.checks import check_at_least, check_choice

#: (number of convolutions, channels) of the five blocks.
BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


class VGG16(Backbone):
    """VGG-16: 13 convolutions conv1_1..conv5_3, pool5 and, on request, fc6 and fc7 as convolutions.

    ``geometry`` changes only pool5 and fc6. For pretraining, pool5 keeps the size of its input (stride 1) and fc6 is
    padded to do the same. For evaluation they are as published: 224 pixels give 7 positions at pool5.

    Args:
        fully_connected: Whether the backbone has fc6 and fc7 (4096 channels each).
        width: Factor of all channels, those of fc6 and fc7 too.
        pool5_stride: Stride of pool5 in pretraining, 1 or 2. Larsson et al. (ECCV 2016) leave it as published, 2, and
            pad fc6, so that fc6 and fc7 have a position every 32 pixels.
        input_space, geometry, norm, input_mean, input_std: See :class:`Backbone`.

    Raises:
        InputError: ``width`` leaves a layer without channels, or ``pool5_stride`` is not 1 or 2.
    """

    architecture = "vgg16"

    def __init__(
        self,
        input_space: str = "lightness",
        *,
        fully_connected: bool = False,
        width: float = 1.0,
        pool5_stride: int = 1,
        geometry: str = "pretrain",
        norm: str = "batch",
        input_mean: Sequence[float] | None = None,
        input_std: Sequence[float] | None = None,
    ):
        check_at_least("width of vgg16", width, 1 / 64)
        check_choice("pool5_stride of vgg16", pool5_stride, (1, 2))
        super().__init__(input_space, geometry, norm, input_mean, input_std)
        self.arguments |= {"fully_connected": fully_connected}
        # Kept only where they differ: every argument enters the hash of a file.
        if width != 1:
            self.arguments["width"] = width
        if pool5_stride != 1:
            self.arguments["pool5_stride"] = pool5_stride
        padded = geometry == "pretrain"
        self.pool5_stride = pool5_stride
        layers, in_channels = [], self.in_channels
        for number, (depth, full_channels) in enumerate(BLOCKS, 1):
            channels = round(full_channels * width)
            for position in range(1, depth + 1):
                name = f"conv{number}_{position}"
                block = ConvBlock(nn.Conv2d, in_channels, channels, norm, kernel_size=3, padding=1)
                self.add_module(name, block)
                stride = 2 ** (number - 1)
                layers.append(Layer(name, channels, stride, (stride - 1) / 2))
                in_channels = channels
        top = 16 * (pool5_stride if padded else 2)
        layers.append(Layer("pool5", in_channels, top, (top - 1) / 2))
        if fully_connected:
            channels = round(FC_CHANNELS * width)
            self.fc6 = ConvBlock(
                nn.Conv2d, in_channels, channels, norm, kernel_size=7, padding=3 if padded else 0
            )
            self.fc7 = ConvBlock(nn.Conv2d, channels, channels, norm, kernel_size=1)
            offset = (top - 1) / 2 + (0 if padded else 3 * top)
            layers += [Layer("fc6", channels, top, offset), Layer("fc7", channels, top, offset)]
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
        flat = self.geometry == "pretrain" and self.pool5_stride == 1
        x = F.max_pool2d(x, 3, 1, 1) if flat else self._halve(x)
        yield "pool5", x
        if self.arguments["fully_connected"]:
            x = self.fc6(x)
            yield "fc6", x
            yield "fc7", self.fc7(x)

    def _halve(self, x: Tensor) -> Tensor:
        # The published geometry is Caffe's, which rounds the size of a pooled map up.
        return F.max_pool2d(x, 2, ceil_mode=self.geometry == "evaluation")
