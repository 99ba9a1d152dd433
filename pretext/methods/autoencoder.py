"""The autoencoder that pretext methods are compared with, of whole photos and of photos with dropped values.

It gives the rows Lab -> Lab and Lab(drop50) -> Lab of "Split-Brain Autoencoders: Unsupervised Learning by Cross-Channel
Prediction" (Zhang, Isola, Efros, CVPR 2017, table 2). The autoencoder is from "Reducing the Dimensionality of Data with
Neural Networks" (Hinton, Salakhutdinov, Science 2006), dropping values from "Extracting and Composing Robust Features
with Denoising Autoencoders" (Vincent, Larochelle, Bengio, Manzagol, ICML 2008).
"""

from typing import Literal

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from pretext.backbones.base import Backbone
from pretext.checks import check_at_least, check_choice, check_share
from pretext.color.lab import lab_to_rgb, rgb_to_lab
from pretext.color.losses import l2_loss
from pretext.methods.base import Method, Scalars
from pretext.methods.parts.heads import Decoder
from pretext.methods.parts.targets import at_decoded


class Autoencoder(Method):
    """Predicts a photo's Lab colours from themselves, through a few channels; with ``drop``, from a part of them.

    Colours are normalised as the backbone normalises its input. All that the paper says about dropping is "50% of the
    input randomly dropped out". As in Vincent et al., each value (not each pixel) is dropped on its own, that is set to
    0 (the normalised mean), and the others are not scaled up. The target is the whole photo.

    Args:
        backbone: The network to pretrain; its input space must be ``lab``.
        layer: The backbone's layer under the bottleneck.
        bottleneck: Channels that a 1x1 convolution reduces the layer to; 0 for no bottleneck, as in the paper.
        target_stride: Pixels between two targets, in both directions: the layer's stride divided by a power of two.
        decoder_channels: Channels of the decoder's first block.
        drop: Share of the input's values to drop, from 0 to below 1.

    Raises:
        InputError: An argument has a value that is not allowed.

    Differences from the paper: there the colorization network ends in three channels at the stride of conv5, after fc6
    and fc7 of 4,096 channels and without a bottleneck; here a bottleneck and a decoder follow conv5.
    """

    name = "autoencoder"

    def __init__(
        self,
        backbone: Backbone,
        *,
        layer: str = "conv5",
        bottleneck: int = 16,
        target_stride: int = 4,
        decoder_channels: int = 128,
        drop: float = 0.0,
    ):
        super().__init__(backbone)
        check_choice("autoencoder input_space", backbone.input_space, ("lab",))
        check_at_least("bottleneck", bottleneck, 0)
        check_share("drop", drop, below_one=True)
        self.layer = backbone.layer(layer)
        strides = [self.layer.stride >> k for k in range(self.layer.stride.bit_length())]
        check_at_least("target_stride", target_stride, 1)
        check_choice(f"target_stride of {layer}", target_stride, strides)
        self.target_stride = target_stride
        self.drop, self.whole_photos = drop, not drop
        channels = self.layer.channels
        self.bottleneck = nn.Conv2d(channels, bottleneck, 1) if bottleneck else nn.Identity()
        self.decoder = Decoder(
            bottleneck or channels, 3, doublings=strides.index(target_stride), channels=decoder_channels
        )

    def corrupt(self, lab: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        """Set a random share (``drop``) of the values to 0."""
        if not self.drop:
            return lab
        kept = torch.rand(lab.shape) >= self.drop
        return lab * kept.to(lab.device)

    def reconstruct(self, lab: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h2 w2"]:
        """Return the photo that the decoder makes of normalised Lab, at the stride of the targets."""
        inputs = lab.contiguous(memory_format=torch.channels_last)
        features = self.backbone.extract(inputs, [self.layer.name])[self.layer.name]
        decoded: Tensor = self.decoder(self.bottleneck(features))
        return decoded

    def forward(
        self, image: UInt8[Tensor, "n 3 h w"], index: Int[Tensor, " n"], mode: Literal["loss"] = "loss"
    ) -> Scalars:
        """Return half the squared distance to the whole photo in normalised Lab, averaged over all target pixels."""
        lab = self.backbone.normalize(rgb_to_lab(image))
        decoded = self.reconstruct(self.corrupt(lab))
        # The loss is in single precision, whatever the backbone ran in.
        with torch.autocast(image.device.type, enabled=False):
            loss = l2_loss(*at_decoded(decoded.float(), lab, self.layer, self.target_stride))
        return Scalars({"loss_l2": loss})

    @torch.no_grad()
    def preview(self, image: UInt8[Tensor, "n 3 h w"]) -> UInt8[Tensor, "n 3 h w3"]:
        """Draw each photo, the input and the reconstruction side by side."""
        inputs = self.corrupt(self.backbone.normalize(rgb_to_lab(image)))
        decoded, _ = at_decoded(self.reconstruct(inputs).float(), inputs, self.layer, self.target_stride)
        decoded = F.interpolate(decoded, size=image.shape[-2:], mode="bilinear")
        shown = (lab_to_rgb(self.backbone.denormalize(lab)) for lab in (inputs, decoded))
        return (torch.cat([image / 255, *shown], 3) * 255).round().to(torch.uint8)
