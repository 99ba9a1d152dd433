"""A bidirectional GAN as a pretext task: "Adversarial Feature Learning" (Donahue, Kraehenbuehl, Darrell, ICLR 2017).

An encoder and a generator that never see each other's output learn to be each other's inverse: both must fool one
discriminator of pairs.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from pretext.backbones.base import Backbone
from pretext.checks import check_at_least, check_choice
from pretext.methods.base import Method, Scalars
from pretext.methods.parts.adversarial import ADVERSARIAL_LOSSES, STRIDE, Discriminator, adversarial_losses
from pretext.methods.parts.heads import Decoder, MapHead

#: Side, in positions, of the map that photos are decoded from.
MAP_SIDE = 4


class BiGAN(Method):
    """Encodes photos x to codes E(x) and generates photos G(z) from codes z, so that the pairs cannot be told apart.

    Section 3: the discriminator is given pairs (x, E(x)) and (G(z), z), z uniform in [-1, 1], and says which is which.
    Encoder and generator are one player against it (equation 3), trained on the swapped labels (section 3.4). One
    optimiser steps all three at once, with a learning rate for each player. The encoder sees the whole photo, the
    discriminator sees it at the size of the generated ones.

    Args:
        backbone: The network to pretrain: the encoder's convolutions.
        layer: The backbone's layer under the encoder's head.
        code_length: Length of a code.
        head_size: Side, in positions, that the layer's map is pooled to.
        head_hidden: Length of the head's hidden layer.
        generator_channels: Channels of the generator's first map, 4 x 4.
        doublings: How often the generator doubles that map's sides; 4 give photos of 64 pixels.
        adversarial_loss: ``nonsaturating`` (the paper's) or ``least_squares``.
        discriminator_rate: The discriminator's learning rate, relative to the config's.
        discriminator_channels: Channels of the discriminator's first convolution.
        discriminator_norm: Spectral norm of the discriminator's weights; the higher, the stronger it is.

    Raises:
        InputError: The backbone has no such layer, or an argument has a value that is not allowed.

    Differences from the paper: the code goes through tanh, where the authors' code has a sigmoid scaled to [-1, 1]. A
    code has 100 numbers by default, theirs has 200; the backbone has ReLUs, theirs has leaky ones. Generator and
    discriminator are smaller; the discriminator has spectral norm instead of batch norm and sees the code only in its
    fully connected layers; the generator doubles its map by upsampling and convolving. The encoder's photos have the
    view's size, in the paper 112 pixels. The configs generate photos of 16 pixels, which is also all that the
    discriminator sees; the paper's have 64, which a generator needs many epochs to learn.
    """

    name = "bigan"
    least_batch = 2

    def __init__(
        self,
        backbone: Backbone,
        *,
        layer: str = "conv5",
        code_length: int = 100,
        head_size: int = 3,
        head_hidden: int = 512,
        generator_channels: int = 256,
        doublings: int = 4,
        adversarial_loss: str = "nonsaturating",
        discriminator_rate: float = 1.0,
        discriminator_channels: int = 32,
        discriminator_norm: float = 1.0,
    ):
        super().__init__(backbone)
        check_choice("adversarial_loss", adversarial_loss, ADVERSARIAL_LOSSES)
        check_at_least("code_length", code_length, 1)
        check_at_least("generator_channels", generator_channels, 32)
        check_at_least("doublings", doublings, 2)
        check_at_least("discriminator_rate", discriminator_rate, 0.0)
        check_at_least("discriminator_norm", discriminator_norm, 0.1)
        self.layer = backbone.layer(layer)
        self.code_length = code_length
        self.side = MAP_SIDE * 2**doublings
        self.adversarial_loss = adversarial_loss
        self.head = MapHead(self.layer.channels, code_length, size=head_size, hidden=head_hidden)
        self.generator = nn.Sequential(
            nn.Linear(code_length, generator_channels * MAP_SIDE * MAP_SIDE, bias=False),
            nn.Unflatten(1, (generator_channels, MAP_SIDE, MAP_SIDE)),
            nn.BatchNorm2d(generator_channels),
            nn.ReLU(inplace=True),
            Decoder(generator_channels, 3, doublings=doublings, channels=generator_channels // 2),
        )
        self.discriminator = Discriminator(
            channels=discriminator_channels,
            code_length=code_length,
            cells=min(self.side // STRIDE, MAP_SIDE),
            weight_norm=discriminator_norm,
        )
        self.rate_factors = {"discriminator.": discriminator_rate}

    def forward(
        self, image: UInt8[Tensor, "n 3 h w"], index: Int[Tensor, " n"], mode: Literal["loss"] = "loss"
    ) -> Scalars:
        """Return the losses of both players, and the discriminator's accuracy."""
        code = self.draw_codes(image)
        players = adversarial_losses(
            self.discriminator,
            [self.reduce(image), self.encode(image)],
            [self.generate(code), code],
            kind=self.adversarial_loss,
        )
        losses = {"loss_adversarial": players.player, "loss_discriminator": players.discriminator}
        return Scalars(losses, {"discriminator_accuracy": players.accuracy})

    def draw_codes(self, image: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """Draw one code per photo, uniform in [-1, 1]."""
        return torch.empty(len(image), self.code_length).uniform_(-1, 1).to(image.device)

    def encode(self, image: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """Return the codes of photos, values -1..1."""
        features = self.backbone.features(image, self.layer.name)
        code: Tensor = self.head(features).float().tanh()
        return code

    def generate(self, code: Float[Tensor, "n d"]) -> Float[Tensor, "n 3 side side"]:
        """Return photos (values -1..1) made from codes."""
        photo: Tensor = self.generator(code).float().tanh()
        return photo

    def reduce(self, image: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 side side"]:
        """Return photos at the generator's size, values -1..1."""
        return F.interpolate(image / 127.5 - 1, size=(self.side, self.side), mode="bilinear", antialias=True)

    @torch.no_grad()
    def preview(self, image: UInt8[Tensor, "n 3 h w"]) -> UInt8[Tensor, "n 3 h w3"]:
        """Draw each photo x, its reconstruction G(E(x)) and a sample G(z) side by side."""
        made = [self.generate(self.encode(image)), self.generate(self.draw_codes(image))]
        size = (image.shape[2], image.shape[3])
        columns = [F.interpolate((photo + 1) * 127.5, size=size, mode="bilinear") for photo in made]
        return torch.cat([image.float(), *columns], 3).clamp(0, 255).round().to(torch.uint8)
