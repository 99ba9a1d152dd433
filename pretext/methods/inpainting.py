"""Inpainting as a pretext task: "Context Encoders: Feature Learning by Inpainting" (Pathak et al., CVPR 2016).

Pathak, Kraehenbuehl, Donahue, Darrell, Efros. A part of a photo is hidden, and the network paints it from the rest.
"""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from pretext.backbones.base import Backbone
from pretext.checks import check_at_least, check_choice, check_share
from pretext.methods.base import Method, Scalars
from pretext.methods.parts.adversarial import ADVERSARIAL_LOSSES, Discriminator, adversarial_losses
from pretext.methods.parts.heads import Decoder

#: Share of a photo that is hidden.
HIDDEN = 1 / 4
#: Width in pixels of the rim in a photo of 128 pixels.
OVERLAP, OVERLAP_SIDE = 7, 128
#: Standard deviation of the blur that makes random regions, as a share of the photo's longer side.
BLUR = 1 / 16


class Inpainting(Method):
    """Paints the hidden quarter of a photo: squared error and an adversarial loss.

    Equation 3: the squared error has the weight ``1 - adversarial_weight``, the adversarial loss
    ``adversarial_weight``. The error counts the hole only; with central masks it also counts, ten times, a rim around
    the hole that the encoder sees: 7 pixels wide in a photo of 128, in proportion in others. It is the mean over all
    counted values, with colours from -1 to 1. Hidden pixels take the mean colour that the backbone subtracts.

    Central masks hide the square of half the photo's side. Random regions are smooth shapes: white noise, drawn anew
    for each photo, blurred and cut off at its lowest quarter, so that each hides exactly a quarter.

    With central masks the discriminator sees the painted hole and its rim, without their surroundings; with random
    regions it sees the whole photo with the painted hole. One optimiser steps both players at once, with a learning
    rate for each.

    Args:
        backbone: The network to pretrain; its input space must be ``rgb``.
        layer: The backbone's layer that is decoded.
        mask: ``central`` or ``random``.
        map_size: Side, in positions, that the layer's map is pooled to.
        dropout: Share of the channel-wise layer's numbers to drop.
        doublings: How often the decoder doubles the map's sides; its output is then resized to the photo's size if that
            differs.
        decoder_channels: Channels of the decoder's first block.
        overlap_weight: Weight of the error on the rim of central masks.
        adversarial_weight: Weight of the adversarial loss, from 0 to below 1; 0 for no discriminator.
        adversarial_loss: ``nonsaturating`` or ``least_squares``.
        discriminator_rate: The discriminator's learning rate, relative to the config's.
        discriminator_channels: Channels of the discriminator's first convolution.
        discriminator_norm: Spectral norm of the discriminator's weights; the higher, the stronger it is.

    Raises:
        InputError: An argument has a value that is not allowed.

    Differences from the paper: the decoder paints the whole photo with central masks too, by upsampling and convolving.
    Its output goes through tanh and the error is divided by the number of pixels, as in the authors' code. Random
    regions come from noise, as in that code, not from shapes of VOC, and each photo of a batch has its own. The rim
    lies around the central square, in that code inside it. With random regions that code counts the error on all
    pixels; here, as in equation 1, only hidden pixels count, and the discriminator sees true colours elsewhere. The
    discriminator has spectral norm instead of batch norm. The paper trains its AlexNet features without the adversarial
    loss, which did not converge (``adversarial_weight=0``).
    """

    name = "inpainting"
    whole_photos = False

    def __init__(
        self,
        backbone: Backbone,
        *,
        layer: str = "conv5",
        mask: str = "random",
        map_size: int = 8,
        dropout: float = 0.5,
        doublings: int = 4,
        decoder_channels: int = 128,
        overlap_weight: float = 10.0,
        adversarial_weight: float = 0.001,
        adversarial_loss: str = "nonsaturating",
        discriminator_rate: float = 0.1,
        discriminator_channels: int = 32,
        discriminator_norm: float = 1.0,
    ):
        super().__init__(backbone)
        check_choice("inpainting input_space", backbone.input_space, ("rgb",))
        check_choice("mask", mask, ("central", "random"))
        check_choice("adversarial_loss", adversarial_loss, ADVERSARIAL_LOSSES)
        check_at_least("map_size", map_size, 1)
        check_at_least("overlap_weight", overlap_weight, 0.0)
        check_at_least("discriminator_rate", discriminator_rate, 0.0)
        check_at_least("discriminator_norm", discriminator_norm, 0.1)
        check_share("adversarial_weight", adversarial_weight, below_one=True)
        check_share("dropout", dropout, below_one=True)
        self.layer = backbone.layer(layer)
        self.mask = mask
        self.overlap_weight = overlap_weight
        self.adversarial_weight = adversarial_weight
        self.adversarial_loss = adversarial_loss
        self.bottleneck = Bottleneck(self.layer.channels, map_size, dropout)
        self.decoder = Decoder(self.layer.channels, 3, doublings=doublings, channels=decoder_channels)
        self.discriminator = None
        if adversarial_weight:
            self.discriminator = Discriminator(
                channels=discriminator_channels, hidden=256, weight_norm=discriminator_norm
            )
            self.rate_factors = {"discriminator.": discriminator_rate}

    def forward(
        self, image: UInt8[Tensor, "n 3 h w"], index: Int[Tensor, " n"], mode: Literal["loss"] = "loss"
    ) -> Scalars:
        """Return both losses of the painter, each times its weight, and the discriminator's loss and accuracy."""
        hole = self.draw_holes(image)
        painted = self.paint(image, hole)
        photo = image / 127.5 - 1
        # The losses are in single precision, whatever the networks ran in.
        error = weighted_error(painted, photo, self.error_weights(hole))
        losses = {"loss_l2": (1 - self.adversarial_weight) * error}
        if not self.discriminator:
            return Scalars(losses)
        if self.mask == "central":
            patch = central_patch(image.shape[2], image.shape[3])
            real, fake = photo[patch], painted[patch]
        else:
            real, fake = photo, torch.where(hole, painted, photo)
        players = adversarial_losses(self.discriminator, [real], [fake], kind=self.adversarial_loss)
        losses["loss_adversarial"] = self.adversarial_weight * players.player
        losses["loss_discriminator"] = players.discriminator
        return Scalars(losses, {"discriminator_accuracy": players.accuracy})

    def draw_holes(self, image: UInt8[Tensor, "n 3 h w"]) -> Bool[Tensor, "n 1 h w"]:
        """Draw which pixels of each photo are hidden."""
        number, _, height, width = image.shape
        if self.mask == "random":
            return random_regions(number, height, width, image.device)
        hole = torch.zeros(number, 1, height, width, dtype=torch.bool, device=image.device)
        hole[:, :, central(height), central(width)] = True
        return hole

    def paint(
        self, image: UInt8[Tensor, "n 3 h w"], hole: Bool[Tensor, "n 1 h w"]
    ) -> Float[Tensor, "n 3 h w"]:
        """Return the whole photo (values -1..1) that the network paints from the pixels that are not hidden."""
        features = self.backbone.features(self.hide(image, hole), self.layer.name)
        painted = self.decoder(self.bottleneck(features)).float()
        return F.interpolate(
            painted, size=(image.shape[2], image.shape[3]), mode="bilinear", align_corners=False
        ).tanh()

    def hide(
        self, image: UInt8[Tensor, "n 3 h w"], hole: Bool[Tensor, "n 1 h w"]
    ) -> Float[Tensor, "n 3 h w"]:
        """Return the photo (values 0..255) with the mean colour in the hole."""
        return torch.where(hole, self.backbone.input_mean * 255, image)

    def error_weights(self, hole: Bool[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
        """Return 1 in the hole; with central masks ``overlap_weight`` on the rim around it; 0 elsewhere."""
        weights = torch.zeros(hole.shape, device=hole.device)
        if self.mask == "central":
            weights[central_patch(hole.shape[2], hole.shape[3])] = self.overlap_weight
        return torch.where(hole, 1.0, weights)

    @torch.no_grad()
    def preview(self, image: UInt8[Tensor, "n 3 h w"]) -> UInt8[Tensor, "n 3 h w3"]:
        """Draw each photo, the photo with the hole and the photo with the painted hole side by side."""
        hole = self.draw_holes(image)
        painted = torch.where(hole, (self.paint(image, hole) + 1) * 127.5, image)
        columns = [image.float(), self.hide(image, hole), painted]
        return torch.cat(columns, 3).round().to(torch.uint8)


class Bottleneck(nn.Module):
    """The channel-wise fully connected layer of section 3.1, and the 1x1 convolution across channels after it.

    Args:
        channels: Channels of the map.
        size: Side, in positions, that the map is pooled to. Every position is connected to all of the same channel.
        dropout: Share of the numbers between the two layers to drop.
    """

    def __init__(self, channels: int, size: int, dropout: float):
        super().__init__()
        self.channels, self.size = channels, size
        # The layers of all channels, stacked.
        self.within = nn.Linear(size * size, channels * size * size)
        self.dropout = nn.Dropout(dropout)
        self.across = nn.Conv2d(channels, channels, 1)

    def forward(self, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c size size"]:
        """Return the map, each position computed from the whole of it."""
        positions = self.size * self.size
        pooled = F.adaptive_max_pool2d(features, self.size).flatten(2)
        weight = self.within.weight.view(self.channels, positions, positions)
        connected = torch.einsum("ncp,cqp->ncq", pooled, weight) + self.within.bias.view(-1, positions)
        mixed: Tensor = self.across(self.dropout(connected.relu()).unflatten(2, (self.size, self.size)))
        return mixed.relu()


def central(side: int, reach: int = 0) -> slice:
    """Return the middle half of a side in pixels, extended by ``reach`` pixels at both ends."""
    quarter = side // 4
    return slice(max(quarter - reach, 0), side - quarter + reach)


def overlap(height: int, width: int) -> int:
    """Return the width in pixels of the rim around the central hole of a photo."""
    return round(OVERLAP * max(height, width) / OVERLAP_SIDE)


def central_patch(height: int, width: int) -> tuple[slice, ...]:
    """Return the slices of the central hole and its rim in a batch (N, C, height, width)."""
    reach = overlap(height, width)
    return slice(None), slice(None), central(height, reach), central(width, reach)


def random_regions(
    number: int, height: int, width: int, device: torch.device | None = None
) -> Bool[Tensor, "n 1 h w"]:
    """Draw smooth shapes at random places, each of a quarter of the pixels.

    White noise is blurred by a Gaussian of a sixteenth of the longer side; the lowest quarter of the result is the
    region. The noise reaches beyond the photo, so that regions are as likely at its edges as in its middle.
    """
    sigma = BLUR * max(height, width)
    reach = math.ceil(3 * sigma)
    noise = torch.randn(number, 1, height + 2 * reach, width + 2 * reach).to(device)
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=noise.device) / sigma).square())
    # In half precision many pixels would have equal values.
    with torch.autocast(noise.device.type, enabled=False):
        smooth = F.conv2d(F.conv2d(noise, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))
    threshold = smooth.flatten(1).kthvalue(round(HIDDEN * height * width)).values
    return smooth <= threshold.view(-1, 1, 1, 1)


def weighted_error(
    painted: Float[Tensor, "n 3 h w"], photo: Float[Tensor, "n 3 h w"], weights: Float[Tensor, "n 1 h w"]
) -> Float[Tensor, ""]:
    """Return the weighted squared error over the number of values whose weight is not 0, averaged over photos."""
    counted = painted.shape[1] * (weights > 0).sum((1, 2, 3))
    return ((weights * (painted - photo).square()).sum((1, 2, 3)) / counted).mean()
