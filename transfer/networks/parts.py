"""The parts of a network that the VOC stages fine-tune: the convolutions, and fc6 and fc7."""

import math

from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from pretext.backbones.base import Backbone, ConvBlock, Layer
from pretext.backbones.initializers import normal_
from pretext.precision import mixed_precision
from transfer.protocols.settings import FineTuningSettings


class Part(nn.Module):
    """A part of a network that is trained as a whole or not at all.

    Batch norm is never trained halfway: in a part that is not trained, or with ``batch_norm="frozen"``, neither its
    statistics nor its scale and shift change (DeepCluster's erratum: scale and shift trained in "frozen" convolutions
    gave 72.0 instead of 70.4 mAP).

    Args:
        settings: The stage's; those that matter are ``batch_norm`` and ``mixed_precision``.
        trained: Whether to train the part.
    """

    def __init__(self, settings: FineTuningSettings, trained: bool):
        super().__init__()
        self.trained = trained
        self.batch_norm_trained = trained and settings.batch_norm == "train"
        self.mixed_precision = settings.mixed_precision

    def hold(self) -> None:
        """Turn off the gradients of all that is not trained. Call it once the part is complete."""
        self.requires_grad_(self.trained)
        for norm in self._batch_norms():
            norm.requires_grad_(self.batch_norm_trained)

    def train(self, mode: bool = True) -> "Part":
        """Set the mode as for any module, but keep a batch norm that is not trained in eval mode."""
        super().train(mode)
        for norm in self._batch_norms():
            norm.train(mode and self.batch_norm_trained)
        return self

    def _batch_norms(self) -> list[nn.Module]:
        return [m for m in self.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


class Conv5(Part):
    """A backbone up to its last convolution of block 5 (AlexNet: conv5, VGG-16: conv5_3).

    Args:
        backbone: Becomes part of this module.
        settings, trained: See :class:`Part`.
        up_to: Another layer to end with, for instance ``pool5``.

    Attributes:
        layer: The layer it ends with.
        out_channels: That layer's channels; torchvision's detectors read it.
    """

    def __init__(
        self, backbone: Backbone, settings: FineTuningSettings, trained: bool, up_to: str | None = None
    ):
        super().__init__(settings, trained)
        self.backbone = backbone
        last = [layer.name for layer in backbone.layers if layer.name.startswith("conv5")][-1]
        self.layer: Layer = backbone.layer(up_to or last)
        self.out_channels = self.layer.channels
        self.hold()

    def forward(self, photos: Shaped[Tensor, "n 3 h w"]) -> Float[Tensor, "n c i j"]:
        """Return features (N, out_channels, H / stride, W / stride) of photos with values 0..255."""
        with mixed_precision(photos.device, self.mixed_precision):
            features: Tensor = self.backbone(photos, [self.layer.name])[self.layer.name]
        return features.float()


class FullyConnected(Part):
    """fc6 and fc7 over a pooled map, each followed by ReLU and dropout.

    They are the backbone's own if it has them, else new.

    Args:
        backbone: Loses its fc6 and fc7 if it has them.
        in_channels: Channels of the pooled map.
        settings: The stage's. Those that matter are ``dropout``; for new layers ``fc6_size``, ``fc_channels``,
            ``new_std`` and ``new_bias``; and those of :class:`Part`.
        trained: See :class:`Part`.
        seed: Seed of new layers.

    Attributes:
        size: Side of the pooled map.
        out_channels: Channels of fc7.
    """

    def __init__(
        self, backbone: Backbone, in_channels: int, settings: FineTuningSettings, trained: bool, seed: int
    ):
        super().__init__(settings, trained)
        channels, size = settings.fc_channels, settings.fc6_size
        if "fc6" in backbone.layer_names:
            fc6, fc7 = backbone.get_submodule("fc6"), backbone.get_submodule("fc7")
            assert isinstance(fc6, ConvBlock)
            assert isinstance(fc7, ConvBlock)
            self.fc6, self.fc7 = fc6, fc7
        else:
            self.fc6 = ConvBlock(nn.Conv2d, in_channels, channels, "none", kernel_size=size)
            self.fc7 = ConvBlock(nn.Conv2d, channels, channels, "none", kernel_size=1)
            initialize_new_(self, settings, seed)
        self.size, self.out_channels = self.fc6.conv.kernel_size[0], self.fc7.conv.out_channels
        self.dropout = nn.Dropout(settings.dropout)
        self.hold()

    def forward(self, pooled: Float[Tensor, "n c k k"]) -> Float[Tensor, "n d"]:
        """Return features (N, out_channels) of fc7."""
        with mixed_precision(pooled.device, self.mixed_precision):
            x = self.dropout(_fully_connected(self.fc6, pooled.flatten(1)))
            features: Tensor = self.dropout(_fully_connected(self.fc7, x))
        return features.float()

    def slide(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        """Return the features of every window of fc6's size."""
        with mixed_precision(maps.device, self.mixed_precision):
            features: Tensor = self.dropout(self.fc7(self.dropout(self.fc6(maps))))
        return features.float()


def initialize_new_(module: nn.Module, settings: FineTuningSettings, seed: int, prefix: str = "") -> None:
    """Draw the weights of new layers from (seed, name).

    Args:
        module: Its convolutions and linear layers are initialised in place.
        settings: The stage's; those that matter are ``new_std`` and ``new_bias``.
        seed: Any integer.
        prefix: Prefix of the layers' names.
    """
    for name, layer in module.named_modules(prefix=prefix):
        if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            std = settings.new_std
            if std is None:
                std = math.sqrt(2 / layer.weight[0].numel())
            normal_(layer.weight, std=std, seed=seed, name=name)
            if layer.bias is not None:
                nn.init.constant_(layer.bias, settings.new_bias)


def _fully_connected(block: ConvBlock, x: Float[Tensor, "n i"]) -> Float[Tensor, "n o"]:
    # A convolution over its whole input is a matrix product, and faster as one. The padding and dilation it has in
    # the pretraining geometry do not matter here.
    x = F.linear(x, block.conv.weight.flatten(1), block.conv.bias)
    return F.relu(block.norm(x[:, :, None, None]).flatten(1))
