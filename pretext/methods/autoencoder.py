"""The autoencoder that pretext methods are compared with, of whole photos and of photos with dropped values.

The rows Lab -> Lab and Lab(drop50) -> Lab of "Split-Brain Autoencoders: Unsupervised Learning by Cross-Channel
Prediction" (Zhang, Isola, Efros, CVPR 2017, table 2). The autoencoder is that of "Reducing the Dimensionality of Data
with Neural Networks" (Hinton, Salakhutdinov, Science 2006), dropping values is from "Extracting and Composing Robust
Features with Denoising Autoencoders" (Vincent, Larochelle, Bengio, Manzagol, ICML 2008).
"""

from typing import Literal

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from pretext.backbones.base import Backbone
from pretext.checks import check_at_least, check_choice
from pretext.color.lab import lab_to_rgb, rgb_to_lab
from pretext.color.losses import l2_loss
from pretext.errors import InputError
from pretext.methods.base import Method
from pretext.methods.parts.heads import Decoder
from pretext.methods.parts.targets import at_decoded


class Autoencoder(Method):
    """Predicts a photo's Lab colours from themselves, through few channels, and with ``drop`` from a part of them.

    Colours are normalised as the backbone normalises its input. "50% of the input randomly dropped out" is all that
    the paper says of dropping. Chosen here, after Vincent et al.: each value, not each pixel, is dropped on its own,
    that is set to 0 (the normalised mean), and the others are not scaled up. The target is the whole photo.

    Args:
        backbone: What is pretrained; its input space must be ``lab``.
        layer: The backbone's layer that the bottleneck stands on.
        bottleneck: Channels that a 1x1 convolution leaves of it; 0 for none, as in the paper.
        target_stride: Every how many pixels, in both directions, a pixel's colour is a target: that of the layer
            divided by a power of two.
        decoder_channels: Channels of the decoder's first block.
        drop: Share of the input's values that are dropped, 0 up to but not including 1.

    Raises:
        InputError: An argument is none of the allowed values.

    Differences from the paper: there the network that colorizes ends in three channels at the stride of conv5,
    through fc6 and fc7 of 4,096 channels and without a bottleneck; here a bottleneck and a decoder stand on conv5.
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
        if not 0 <= drop < 1:
            raise InputError(f"drop is a share: received {drop}, allowed are 0 up to but not including 1")
        self.layer = backbone.layer(layer)
        strides = [self.layer.stride >> k for k in range(self.layer.stride.bit_length())]
        check_choice(f"target_stride of {layer}", str(target_stride), map(str, strides))
        self.target_stride = target_stride
        self.drop, self.whole_photos = drop, not drop
        channels = self.layer.channels
        self.bottleneck = nn.Conv2d(channels, bottleneck, 1) if bottleneck else nn.Identity()
        self.decoder = Decoder(
            bottleneck or channels, 3, doublings=strides.index(target_stride), channels=decoder_channels
        )

    def corrupt(self, lab: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        """Set a random share ``drop`` of the values to 0."""
        if not self.drop:
            return lab
        kept = torch.rand(lab.shape) >= self.drop
        return lab * kept.to(lab.device)

    def reconstruct(self, lab: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h2 w2"]:
        """The photo as the decoder gives it from normalised Lab, at the stride of the targets."""
        inputs = lab.contiguous(memory_format=torch.channels_last)
        features = self.backbone.extract(inputs, [self.layer.name])[self.layer.name]
        decoded: Tensor = self.decoder(self.bottleneck(features))
        return decoded

    def forward(
        self, image: UInt8[Tensor, "n 3 h w"], index: Int[Tensor, " n"], mode: Literal["loss"] = "loss"
    ) -> dict[str, Tensor]:
        """Half the squared distance to the undropped photo in normalised Lab, averaged over all target pixels."""
        lab = self.backbone.normalize(rgb_to_lab(image))
        decoded = self.reconstruct(self.corrupt(lab))
        # Losses in single precision, whatever the backbone ran in.
        with torch.autocast(image.device.type, enabled=False):
            return {"loss_l2": l2_loss(*at_decoded(decoded.float(), lab, self.layer, self.target_stride))}

    @torch.no_grad()
    def preview(self, image: UInt8[Tensor, "n 3 h w"]) -> UInt8[Tensor, "n 3 h w3"]:
        """The photo, the input and the reconstruction side by side, for each photo."""
        inputs = self.corrupt(self.backbone.normalize(rgb_to_lab(image)))
        decoded, _ = at_decoded(self.reconstruct(inputs).float(), inputs, self.layer, self.target_stride)
        decoded = F.interpolate(decoded, size=image.shape[-2:], mode="bilinear")
        shown = (lab_to_rgb(self.backbone.denormalize(lab)) for lab in (inputs, decoded))
        return (torch.cat([image / 255, *shown], 3) * 255).round().to(torch.uint8)
