"""The colorization net of "Colorful Image Colorization" (Zhang, Isola, Efros, ECCV 2016), section 2.1."""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from pretext.backbones.base import Backbone, Layer
from pretext.checks import check_at_least, check_choice

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
        doublings: How often conv8 doubles the map. 1 in the paper, by a transposed convolution before two more
            convolutions. 3, by transposed convolutions alone, give a pixel of the photo a position of its own: the
            net for CIFAR-10 of a student study (Stanford CS230, 2018; github.com/1ipeng/CS230_Project).
        width: Factor of all channels.

    Raises:
        InputError: ``doublings`` is not 1, 2 or 3, or ``width`` leaves a block without channels.

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
        doublings: int = 1,
        width: float = 1.0,
    ):
        check_choice("doublings of colornet", doublings, (1, 2, 3))
        check_at_least("width of colornet", width, 1 / 64)
        super().__init__(input_space, geometry, norm, input_mean, input_std)
        # The paper's net has the hash that it had before it had these arguments.
        if (doublings, width) != (1, 1.0):
            self.arguments |= {"doublings": doublings, "width": width}
        layers, in_channels, total_stride = [], self.in_channels, 1
        for number, (depth, full_channels, stride, dilation) in enumerate(BLOCKS, 1):
            block, channels = nn.Sequential(), round(full_channels * width)
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
        self.conv8, channels = nn.Sequential(), round(CONV8_CHANNELS * width)
        for _ in range(doublings):
            self.conv8.append(nn.ConvTranspose2d(in_channels, channels, 4, stride=2, padding=1))
            self.conv8.append(nn.ReLU(inplace=True))
            in_channels = channels
        if doublings == 1:
            self.conv8.append(nn.Conv2d(channels, channels, 3, padding=1))
            self.conv8.append(nn.ReLU(inplace=True))
            self.conv8.append(nn.Conv2d(channels, channels, 3, padding=1))
        else:
            del self.conv8[-1]  # `walk` has the last ReLU
        # Each transposed convolution replaces a position by two, one before and one after its centre.
        stride = total_stride >> doublings
        self.layers = (*layers, Layer("conv8", channels, stride, offset=-(total_stride - stride) / 2))

    def walk(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield conv1..conv8: conv1..conv7 after their batch norm, conv8 after its ReLU."""
        for layer in self.layers[:-1]:
            x = self.get_submodule(layer.name)(x)
            yield layer.name, x
        yield "conv8", F.relu(self.conv8(x))
