"""A discriminator, and the losses of two players in one training step."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import register_parametrization

from pretext.checks import check_at_least
from pretext.errors import InputError

#: The losses of Goodfellow et al. (NIPS 2014) and of Mao et al. (ICCV 2017).
ADVERSARIAL_LOSSES = ("nonsaturating", "least_squares")
#: Slope of the discriminator's ReLUs below zero.
LEAK = 0.2
#: Stride of the discriminator's last map, in pixels.
STRIDE = 16


class AdversarialLosses(NamedTuple):
    """The losses of both players, and the discriminator's accuracy.

    Attributes:
        player: Falls as the discriminator errs; its gradient reaches the networks that made the inputs, never the
            discriminator.
        discriminator: Falls as the discriminator gets better; its gradient reaches only the discriminator.
        accuracy: Share of the inputs that the discriminator classifies correctly, 0..1.
    """

    player: Float[Tensor, ""]
    discriminator: Float[Tensor, ""]
    accuracy: Float[Tensor, ""]


def adversarial_losses(
    discriminator: nn.Module, real: Sequence[Tensor], fake: Sequence[Tensor], *, kind: str = "nonsaturating"
) -> AdversarialLosses:
    """Return the losses of both players of a generative adversarial net, to be added up and minimised in one step.

    The discriminator's loss is computed on detached inputs, the other player's through a discriminator with detached
    parameters, so that the gradient of their sum is, for each player, that of its own loss. A method gives the
    discriminator its own learning rate in `Method.rate_factors`. Adam and SGD keep their state by parameter, so one
    optimiser then does the same as two that are both stepped on gradients at the same weights. Gradients should not be
    clipped, because their norm would be taken over both players.

    Real and fake inputs pass through the discriminator separately, each with its own batch statistics if it has batch
    norm. These two passes change its buffers; the passes of the other player work on copies.

    Args:
        discriminator: Scores its inputs, (N,): the higher, the more real.
        real: Real inputs, e.g. a photo, or a photo and a code. If any of them carries a gradient, as the code of an
            encoder does, the player also wants them to be taken for fake.
        fake: Inputs made by the player.
        kind: ``nonsaturating`` (the player minimises the cross-entropy to the wrong answer) or ``least_squares``.

    Returns:
        Both losses, in single precision, and the discriminator's accuracy.
    """
    truth = discriminator(*(part.detach() for part in real)).float()
    forgery = discriminator(*(part.detach() for part in fake)).float()
    held = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
    held |= {name: buffer.clone() for name, buffer in discriminator.named_buffers()}
    player = _loss(functional_call(discriminator, held, tuple(fake)).float(), True, kind)
    if any(part.requires_grad for part in real):
        player = player + _loss(functional_call(discriminator, held, tuple(real)).float(), False, kind)
    middle = 0.5 if kind == "least_squares" else 0.0
    right: Bool[Tensor, " n"] = torch.cat([truth > middle, forgery <= middle])
    return AdversarialLosses(
        player, _loss(truth, True, kind) + _loss(forgery, False, kind), right.float().mean()
    )


def _loss(scores: Float[Tensor, " n"], is_real: bool, kind: str) -> Float[Tensor, ""]:
    """Return how far scores are from saying real, or fake."""
    if kind == "least_squares":
        return 0.5 * (scores - float(is_real)).square().mean()
    return F.softplus(-scores if is_real else scores).mean()


class Discriminator(nn.Module):
    """Scores photos, or pairs of photo and code.

    Four convolutions of stride 2 and a hidden layer see the photo, one hidden layer sees the code, and a last one both.
    There is no batch norm, so that each photo is judged by itself. All weights have the same spectral norm ("Spectral
    Normalization for Generative Adversarial Networks", Miyato et al., ICLR 2018; theirs is one): without it the
    discriminator is soon so sure of itself that its gradient teaches the other player nothing.

    Args:
        channels: Channels of the first convolution; each further one has twice as many.
        code_length: Length of the code; 0 for none.
        hidden: Length of the hidden layers.
        cells: Side, in positions, that the last map is averaged to. A photo's map has one position per 16 pixels;
            smaller maps are repeated.
        weight_norm: Spectral norm of the weights. With one, a square layer of Gaussian weights halves the length of its
            input, and the scores fade from layer to layer; with two, it keeps the length, and the discriminator gets
            ahead of a player that learns more slowly.

    Raises:
        InputError: A number is out of range.
    """

    def __init__(
        self,
        *,
        channels: int = 32,
        code_length: int = 0,
        hidden: int = 512,
        cells: int = 4,
        weight_norm: float = 1.0,
    ):
        super().__init__()
        check_at_least("discriminator channels", channels, 1)
        check_at_least("discriminator hidden", hidden, 1)
        check_at_least("discriminator cells", cells, 1)
        check_at_least("discriminator weight_norm", weight_norm, 0.1)
        layers: list[nn.Module] = []
        in_channels = 3
        for out_channels in (channels, 2 * channels, 4 * channels, 8 * channels):
            convolution = nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1)
            layers += [_normed(convolution, weight_norm), nn.LeakyReLU(LEAK, True)]
            in_channels = out_channels
        layers += [nn.AdaptiveAvgPool2d(cells), nn.Flatten()]
        layers.append(_normed(nn.Linear(in_channels * cells * cells, hidden), weight_norm))
        self.photo = nn.Sequential(*layers, nn.LeakyReLU(LEAK, True))
        # Project the code to the width of the photo's features; unprojected it would be drowned out.
        self.code = (
            nn.Sequential(_normed(nn.Linear(code_length, hidden), weight_norm), nn.LeakyReLU(LEAK, True))
            if code_length
            else None
        )
        self.head = nn.Sequential(
            _normed(nn.Linear(2 * hidden if code_length else hidden, hidden), weight_norm),
            nn.LeakyReLU(LEAK, True),
            _normed(nn.Linear(hidden, 1), weight_norm),
        )

    def forward(self, photo: Float[Tensor, "n 3 h w"], *code: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Score photos (values -1..1), with their codes if the discriminator has a ``code_length``.

        Raises:
            InputError: The photos are smaller than 16 x 16 pixels.
        """
        if min(photo.shape[2:]) < STRIDE:
            raise InputError(
                "photos are too small for the discriminator",
                received=f"{photo.shape[2]}x{photo.shape[3]} pixels",
                allowed=f"they need at least {STRIDE}x{STRIDE} pixels",
            )
        codes = [] if self.code is None else [self.code(*code)]
        scores: Tensor = self.head(torch.cat([self.photo(photo), *codes], 1))
        return scores.squeeze(1)


class _Scale(nn.Module):
    """Multiplies by a number."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, weight: Tensor) -> Tensor:
        return self.factor * weight


def _normed(layer: nn.Module, norm: float) -> nn.Module:
    """Return the layer with its weight's spectral norm held at ``norm``."""
    return register_parametrization(spectral_norm(layer), "weight", _Scale(norm))
