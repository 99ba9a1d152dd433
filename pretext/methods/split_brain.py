"""Split-brain autoencoder: half of the network predicts colour from lightness, the other half lightness from colour.

"Split-Brain Autoencoders: Unsupervised Learning by Cross-Channel Prediction" (Zhang, Isola, Efros, CVPR 2017).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from pretext.backbones.base import Backbone, ConvBlock
from pretext.checks import check_choice
from pretext.color.bins import ab_bins
from pretext.color.lab import lab_to_rgb, rgb_to_lab
from pretext.color.spaces import AB, LIGHTNESS, AbBins, LightnessBins, OutputSpace, Regression
from pretext.colorize.colorizer import Colorizer
from pretext.colorize.heads import ColorHead, grid_over
from pretext.data.photos import Photos
from pretext.methods.base import Method, Scalars
from pretext.methods.parts.colorful import check_colorful
from pretext.methods.parts.targets import at_targets, check_target_stride


class SplitBrain(Method):
    """Predicts ab from L with the first half of every layer's channels, and L from ab with the second half.

    The backbone is an ordinary network on Lab. The two groups of a grouped convolution (conv2, conv4 and conv5 of
    AlexNet) already keep the halves apart. In the other convolutions (conv1 and conv3) `setup` sets the weights that
    lead from one half to the other to zero, and their gradients are kept at zero. So they stay zero under any optimiser
    that does not move a weight of 0 with a gradient of 0, such as SGD, Adam, AdamW and LARS. Do not use one that adds
    noise, or that moves weights depending on others.

    Args:
        backbone: The network to pretrain; its input space must be ``lab``.
        loss: ``classification`` (ab into the 313 bins, L into ``lightness_bins``, both one-hot and not rebalanced)
            or ``regression`` (equation 1, on L and ab as the backbone normalises them).
        layer: The backbone's layer under both heads.
        target_stride: Pixels between two targets, in both directions.
        lightness_bins: Number of equally wide bins of lightness; ``regression`` does not use it.

    Raises:
        InputError: An argument has a value that is not allowed.

    Differences from the paper: 1x1 classifiers follow conv5, not fc7 (``layer="fc7"``, for a backbone that has it). The
    targets are those of colorization, every 8th pixel, and the prediction is upsampled; the paper predicts a
    downsampled photo at the stride of conv5 (``target_stride=16``), and does not say how it is downsampled. The losses
    of the two halves are added unweighted: the paper gives weights only for photos with depth.
    """

    name = "split_brain"

    def __init__(
        self,
        backbone: Backbone,
        *,
        loss: str = "classification",
        layer: str = "conv5",
        target_stride: int = 8,
        lightness_bins: int = 50,
    ):
        super().__init__(backbone)
        check_choice("split_brain loss", loss, ("classification", "regression"))
        check_choice("split_brain architecture", backbone.architecture, ("alexnet", "vgg16"))
        check_choice("split_brain input_space", backbone.input_space, ("lab",))
        self.layer = backbone.layer(layer)
        check_target_stride(self.layer, target_stride)
        self.target_stride = target_stride
        self.ab_space: OutputSpace
        self.lightness_space: OutputSpace
        if loss == "classification":
            self.ab_space = AbBins(ab_bins(), neighbors=1)
            self.lightness_space = LightnessBins(lightness_bins)
        else:
            self.ab_space = _as_normalized(backbone, AB)
            self.lightness_space = _as_normalized(backbone, LIGHTNESS)
        self.ab_head = nn.Conv2d(self.layer.channels // 2, self.ab_space.channels, 1)
        self.lightness_head = nn.Conv2d(self.layer.channels // 2, self.lightness_space.channels, 1)
        self.halves = halves(backbone)
        for weight, inputs in self._shared():
            # mypy: torch does not type its hooks.
            weight.register_hook(lambda gradient, inputs=inputs: _cut(gradient.clone(), inputs))  # type: ignore[no-untyped-call]

    def setup(self, photos: Photos, folder: Path) -> None:
        """Cut the weights that lead from one half of the channels to the other.

        They were initialised for all inputs; batch norm compensates for those that are cut.

        Raises:
            InputError: No photo has colour, so that the first half would learn nothing.
        """
        check_colorful(self.name, photos)
        with torch.no_grad():
            for weight, inputs in self._shared():
                _cut(weight, inputs)

    def _shared(self) -> list[tuple[nn.Parameter, int]]:
        """Return the weights that must not mix the halves, and how many of their inputs belong to the first."""
        return [
            (self.backbone.get_parameter(f"{name}.conv.weight"), inputs)
            for name, inputs in self.halves.items()
        ]

    def colorizer(self) -> Colorizer:
        """Return the first half, which predicts ab and is blind to it; it shares the weights."""
        head = ColorHead(self.ab_head.in_channels, self.ab_head.out_channels)
        head[0] = self.ab_head
        return Colorizer(self.backbone, head, self.ab_space, self.layer.name)

    def predict(
        self, lab: Float[Tensor, "n 3 h w"]
    ) -> tuple[Float[Tensor, "n q h2 w2"], Float[Tensor, "n p h2 w2"]]:
        """Return the first half's prediction of ab and the second half's of L, at the stride of the heads' layer.

        Args:
            lab: CIE Lab.

        Returns:
            Logits over the bins; for ``regression``, ab and L as the backbone normalises them.
        """
        inputs = self.backbone.normalize(lab).contiguous(memory_format=torch.channels_last)
        features = self.backbone.extract(inputs, [self.layer.name])[self.layer.name]
        of_lightness, of_ab = features.chunk(2, dim=1)
        return self.ab_head(of_lightness), self.lightness_head(of_ab)

    def forward(
        self, image: UInt8[Tensor, "n 3 h w"], index: Int[Tensor, " n"], mode: Literal["loss"] = "loss"
    ) -> Scalars:
        """Return the losses of both halves, averaged over all target pixels."""
        lab, stride = rgb_to_lab(image), self.target_stride
        target, predictions = lab[:, :, ::stride, ::stride], self.predict(lab)
        # The losses are in single precision, whatever the backbone ran in.
        with torch.autocast(image.device.type, enabled=False):
            ab, lightness = (
                at_targets(prediction.float(), target.shape[-2:], grid_over(self.layer), stride)
                for prediction in predictions
            )
            loss_ab = self.ab_space.loss(ab, target)
            loss_lightness = self.lightness_space.loss(lightness, target)
        return Scalars({"loss_ab": loss_ab, "loss_lightness": loss_lightness})

    @torch.no_grad()
    def preview(self, image: UInt8[Tensor, "n 3 h w"]) -> UInt8[Tensor, "n 3 h w2"]:
        """Draw each photo and, beside it, all three channels as both halves predict them."""
        ab, lightness = (prediction.float() for prediction in self.predict(rgb_to_lab(image)))
        lab = torch.cat([self.lightness_space.decode(lightness), self.ab_space.decode(ab)], 1)
        predicted = lab_to_rgb(F.interpolate(lab, size=image.shape[-2:], mode="bilinear"))
        return (torch.cat([image / 255, predicted], 3) * 255).round().to(torch.uint8)


def _as_normalized(backbone: Backbone, part: slice) -> Regression:
    """Return the regression of these channels of Lab, as the backbone normalises them."""
    mean, std = (backbone.arguments[name][part] for name in ("input_mean", "input_std"))
    return Regression((part.start, part.stop), mean, std)


def halves(backbone: Backbone) -> Mapping[str, int]:
    """Return by the name of each layer without groups how many input channels belong to the first half."""
    convs = {name: block.conv for name, block in backbone.named_children() if isinstance(block, ConvBlock)}
    # The first half of Lab is L alone.
    return {
        name: 1 if conv.in_channels == backbone.in_channels else conv.in_channels // 2
        for name, conv in convs.items()
        if conv.groups == 1
    }


def _cut(weight: Tensor, inputs: int) -> Tensor:
    """Set to zero, in place, the weights that lead from one half of the channels to the other."""
    outputs = len(weight) // 2
    weight[:outputs, inputs:] = 0
    weight[outputs:, :inputs] = 0
    return weight
