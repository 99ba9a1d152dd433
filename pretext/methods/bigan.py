"""A bidirectional GAN as a pretext task: "Adversarial Feature Learning" (Donahue, Kraehenbuehl, Darrell, ICLR 2017).

An encoder and a generator, which never meet, learn to be each other's inverse by fooling one discriminator of pairs.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from pretext.backbones.base import Backbone
from pretext.checks import check_at_least, check_choice
from pretext.methods.base import Method
from pretext.methods.parts.adversarial import ADVERSARIAL_LOSSES, STRIDE, Discriminator, adversarial_losses
from pretext.methods.parts.heads import Decoder, MapHead

#: Positions a side of the map that photos are decoded from.
MAP_SIDE = 4


class BiGAN(Method):
    """Encodes photos x to codes E(x) and generates photos G(z) from codes z, so that no one can tell which was given.

    Section 3: the discriminator is given pairs (x, E(x)) and (G(z), z), z uniform in [-1, 1], and says which is which;
    encoder and generator are one player against it (equation 3), trained on the swapped labels (section 3.4). All
    three are stepped at once, by one optimiser with a rate for each player. The encoder sees the photo in full, the
    discriminator at the size that is generated.

    Args:
        backbone: What is pretrained, the encoder's convolutions.
        layer: The backbone's layer that the encoder's head stands on.
        code_length: Numbers of a code.
        head_size: Positions a side that the layer's map is pooled to.
        head_hidden: Length of the head's hidden layer.
        generator_channels: Of the generator's map of 4 x 4.
        doublings: How often the generator doubles that map's sides; 4 make photos of 64 pixels.
        adversarial_loss: ``nonsaturating`` (the paper's) or ``least_squares``.
        discriminator_rate: The discriminator's learning rate, relative to the config's.
        discriminator_channels: Of the discriminator's first convolution.
        discriminator_norm: Spectral norm of the discriminator's weights: the higher, the stronger it is.

    Raises:
        InputError: The backbone has no such layer, or an argument is none of the allowed values.

    Differences from the paper: the code goes through tanh where the authors' code has a sigmoid scaled to [-1, 1]. A
    code has 100 numbers by default, theirs 200; the backbone has ReLUs, theirs leaky ones. Generator and discriminator
    are smaller, the discriminator has spectral norm in place of batch norm and sees the code in its fully connected
    layers alone, and the generator doubles its map by upsampling and convolving. The encoder's photos have the view's
    size, where the paper has 112 pixels; the configs generate photos of 16 pixels and the discriminator sees no more,
    where the paper has 64, for a generator needs many epochs to learn those.
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
    ) -> dict[str, Tensor]:
        """The losses of both players, and the discriminator's accuracy."""
        code = self.draw_codes(image)
        players = adversarial_losses(
            self.discriminator,
            [self.reduce(image), self.encode(image)],
            [self.generate(code), code],
            kind=self.adversarial_loss,
        )
        return {
            "loss_adversarial": players.player,
            "loss_discriminator": players.discriminator,
            "discriminator_accuracy": players.accuracy,
        }

    def draw_codes(self, image: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """As many codes as photos, uniform in [-1, 1]."""
        return torch.empty(len(image), self.code_length).uniform_(-1, 1).to(image.device)

    def encode(self, image: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """The codes of photos, -1..1."""
        features = self.backbone(image, [self.layer.name])[self.layer.name]
        code: Tensor = self.head(features).float().tanh()
        return code

    def generate(self, code: Float[Tensor, "n d"]) -> Float[Tensor, "n 3 side side"]:
        """Photos (values -1..1) from codes."""
        photo: Tensor = self.generator(code).float().tanh()
        return photo

    def reduce(self, image: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 side side"]:
        """Photos at the generator's size, values -1..1."""
        return F.interpolate(image / 127.5 - 1, size=(self.side, self.side), mode="bilinear", antialias=True)

    @torch.no_grad()
    def preview(self, image: UInt8[Tensor, "n 3 h w"]) -> UInt8[Tensor, "n 3 h w3"]:
        """Photo x, its reconstruction G(E(x)) and a sample G(z) side by side, for each photo."""
        made = [self.generate(self.encode(image)), self.generate(self.draw_codes(image))]
        size = (image.shape[2], image.shape[3])
        columns = [F.interpolate((photo + 1) * 127.5, size=size, mode="bilinear") for photo in made]
        return torch.cat([image.float(), *columns], 3).clamp(0, 255).round().to(torch.uint8)
