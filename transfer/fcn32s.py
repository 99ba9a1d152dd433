"""FCN-32s: a fully convolutional network whose classes of whole photos become classes of pixels.

"Fully Convolutional Networks for Semantic Segmentation" (Long et al., CVPR 2015) in the form in which Zhang et al.
(ECCV 2016) fine-tune AlexNet: feature_learning_tests/segmentation/train_val.prototxt of richzhang/colorization.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from pretext.backbones.base import Backbone
from pretext.backbones.checkpoint import drop_fully_connected
from pretext.errors import InputError
from transfer.parts import Conv5, FullyConnected

#: Zeros around the photo, in pixels: as many as the authors have.
PADDING = 100
#: By how much the scores are upsampled, in pixels, and the side of the bilinear kernel that does it.
STRIDE, KERNEL = 32, 63


class FCN32s(nn.Module):
    """Convolutions, fc6 and fc7 slid over the padded photo; a score for each class; bilinear upsampling by 32.

    Args:
        backbone: Taken over, in the evaluation geometry, with its fc6 and fc7 if it has them.
        num_classes: Classes with the background.
        config: The stage's config.
        seed: Seed of new layers; the scores' weights are zero at first, as Caffe's are by default.

    Raises:
        InputError: The backbone is in another geometry.
    """

    def __init__(self, backbone: Backbone, num_classes: int, config: Mapping[str, Any], seed: int):
        super().__init__()
        trained = config["train"] == "all"
        if backbone.geometry != "evaluation":
            raise InputError(
                f"FCN-32s needs the published geometry: received geometry={backbone.geometry}, allowed is evaluation"
            )
        self.conv5 = Conv5(drop_fully_connected(backbone), config, trained, up_to="pool5")
        self.fully_connected = FullyConnected(backbone, self.conv5.out_channels, config, trained, seed)
        # What fc6's first window looks at, in pixels of the photo without the padding.
        centre = self.conv5.layer.offset + (self.fully_connected.size - 1) / 2 * STRIDE - PADDING
        first = next(module for module in self.conv5.modules() if isinstance(module, nn.Conv2d))
        first.padding = (first.padding[0] + PADDING, first.padding[1] + PADDING)  # type: ignore[operator]
        self.score = nn.Conv2d(self.fully_connected.out_channels, num_classes, 1)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)  # type: ignore[arg-type]
        # Where the upsampled map's pixel lies that the photo's pixel 0 belongs to.
        self.start = int((KERNEL - 1) / 2 - centre)
        ramp = 1 - (torch.arange(KERNEL) - (KERNEL - 1) / 2).abs() / STRIDE
        kernel = torch.outer(ramp, ramp).expand(num_classes, 1, KERNEL, KERNEL).clone()
        self.register_buffer("kernel", kernel, persistent=False)
        self.kernel: Tensor

    def forward(self, photos: Shaped[Tensor, "n 3 h w"]) -> tuple[Float[Tensor, "n c h w"]]:
        """Logits of each pixel of RGB photos with values 0..255, as the one map of an encoder."""
        height, width = photos.shape[2:]
        scores = self.score(self.fully_connected.slide(self.conv5(photos)))
        upsampled = F.conv_transpose2d(scores, self.kernel, stride=STRIDE, groups=len(self.kernel))
        logits = upsampled[:, :, self.start : self.start + height, self.start : self.start + width]
        if logits.shape[2:] != photos.shape[2:]:
            raise InputError(
                f"FCN-32s does not reach the end of a photo of {width} x {height} pixels with this backbone: its maps"
                f" end at {logits.shape[3]} x {logits.shape[2]}"
            )
        return (logits,)
