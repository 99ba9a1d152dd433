"""FCN-32s: a fully convolutional network whose classes of whole photos become classes of pixels.

"Fully Convolutional Networks for Semantic Segmentation" (Long et al., CVPR 2015), as Zhang et al. (ECCV 2016) fine-tune
it from AlexNet: feature_learning_tests/segmentation/train_val.prototxt of richzhang/colorization.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from pretext.backbones.base import Backbone
from pretext.backbones.surgery import drop_fully_connected
from pretext.errors import InputError
from transfer.networks.parts import Conv5, FullyConnected
from transfer.protocols.settings import SegmentationSettings

#: Zeros around the photo, in pixels, as in the authors' network.
PADDING = 100
#: Pixels between two scores, and the side in pixels of the bilinear kernel that upsamples them.
STRIDE, KERNEL = 32, 63


class FCN32s(nn.Module):
    """Convolutions, fc6 and fc7 slid over the padded photo, a score per class, and bilinear upsampling by 32.

    Args:
        backbone: In the evaluation geometry. Its convolutions are copied; its fc6 and fc7, if it has them, become part
            of this module.
        num_classes: Number of classes with the background.
        settings: The stage's.
        seed: Seed of new layers. The weights of the scores start at zero, Caffe's default.

    Raises:
        InputError: The backbone is in another geometry.
    """

    def __init__(self, backbone: Backbone, num_classes: int, settings: SegmentationSettings, seed: int):
        super().__init__()
        trained = settings.train == "all"
        if backbone.geometry != "evaluation":
            raise InputError(
                "network=fcn32s needs the published geometry",
                received=f"geometry={backbone.geometry}",
                allowed=("geometry=evaluation",),
            )
        self.conv5 = Conv5(_padded(drop_fully_connected(backbone)), settings, trained, up_to="pool5")
        self.fully_connected = FullyConnected(backbone, self.conv5.out_channels, settings, trained, seed)
        # Centre of fc6's first window, in pixels of the photo without the padding.
        centre = self.conv5.layer.offset + (self.fully_connected.size - 1) / 2 * STRIDE - PADDING
        self.score = nn.Conv2d(self.fully_connected.out_channels, num_classes, 1)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)  # type: ignore[arg-type]
        # The upsampled map's pixel that belongs to the photo's pixel 0.
        self.start = int((KERNEL - 1) / 2 - centre)
        ramp = 1 - (torch.arange(KERNEL) - (KERNEL - 1) / 2).abs() / STRIDE
        kernel = torch.outer(ramp, ramp).expand(num_classes, 1, KERNEL, KERNEL).clone()
        self.register_buffer("kernel", kernel, persistent=False)
        self.kernel: Tensor

    def forward(self, photos: Shaped[Tensor, "n 3 h w"]) -> tuple[Float[Tensor, "n c h w"]]:
        """Return the logits of each pixel of RGB photos with values 0..255, as an encoder's one map."""
        height, width = photos.shape[2:]
        scores = self.score(self.fully_connected.slide(self.conv5(photos)))
        upsampled = F.conv_transpose2d(scores, self.kernel, stride=STRIDE, groups=len(self.kernel))
        logits = upsampled[:, :, self.start : self.start + height, self.start : self.start + width]
        if logits.shape[2:] != photos.shape[2:]:
            raise InputError(
                f"network=fcn32s with this backbone does not cover a photo of {width} x {height} pixels",
                received=f"maps that end at {logits.shape[3]} x {logits.shape[2]}",
                allowed="use another backbone, or network=head",
            )
        return (logits,)


def _padded(backbone: Backbone) -> Backbone:
    """Make the first convolution pad the photo by `PADDING` more, in place; return the backbone."""
    first = next(module for module in backbone.modules() if isinstance(module, nn.Conv2d))
    first.padding = (first.padding[0] + PADDING, first.padding[1] + PADDING)  # type: ignore[operator]
    return backbone
