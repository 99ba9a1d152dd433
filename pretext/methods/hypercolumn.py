"""Colorization from hypercolumns: "Learning Representations for Automatic Colorization" (Larsson et al., ECCV 2016)."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from pretext.backbones.base import Backbone
from pretext.backbones.hypercolumn import all_column_layers, column_layers, walk_layers
from pretext.checks import check_at_least, check_choice
from pretext.color.lab import rgb_to_lab, rgb_to_lightness
from pretext.color.rebalance import gray_mask
from pretext.colorize.colorizer import Colorizer
from pretext.colorize.heads import HypercolumnHead
from pretext.data.photos import Photos
from pretext.errors import InputError
from pretext.methods.base import Method, Scalars
from pretext.methods.parts.color_losses import ColorLoss, colors_beside
from pretext.methods.parts.colorful import check_colorful

#: Least number of photos on which the layers are balanced.
BALANCE_PHOTOS = 64


class Hypercolumn(Method):
    """Predicts the colours of a photo's random places from what all layers of the backbone say there.

    The hypercolumn is only made at these places: of a VGG-16, 128 take 13 MB a photo with their gradients, where all
    256 x 256 would take gigabytes. Before the first step each layer is balanced to a second moment of 1, on the first
    photos.

    Args:
        backbone: The network to pretrain; its input space must be ``lightness``.
        loss: A key of :data:`pretext.methods.parts.color_losses.LOSSES`.
        layers: Layers of the hypercolumn, and ``data`` for the input; None takes the input and all layers but pools,
            as the paper does.
        hidden_channels: Channels of the hidden layer.
        dropout: Share of the hidden layer that is dropped in training.
        places: Places of a photo, drawn anew in each step: whole pixels.
        border: Pixels at each side of a photo in which no place lies: 0 in the paper, 96 in the release, which trains
            on crops of 352.
        window: Side of the square around a place, in pixels, whose colours are the target: 1 in the paper, 7 in the
            release. At a photo's edge its outermost pixels count for those beyond.
        stride: Pixels between two places of a colorizer's prediction.
        bins, neighbors, sigma, rebalance_mix, prior, space: See :class:`pretext.methods.parts.color_losses.ColorLoss`.
        gray_threshold: A photo adds no loss if none of its targets has |a| or |b| above this; None lets gray photos
            count as others, as the release does.

    Raises:
        InputError: An argument has a value that is not allowed.

    Differences from the paper: layers are read at the centres of their positions; the release reads position j of each
    at pixel j * stride. The layers are balanced by factors of the head in place of rescaled filters. fc6 and fc7 have
    no dropout, which the release has.
    """

    name = "hypercolumn"

    def __init__(
        self,
        backbone: Backbone,
        *,
        loss: str = "hue_chroma",
        layers: Sequence[str] | None = None,
        hidden_channels: int = 1024,
        dropout: float = 0.5,
        places: int = 128,
        border: int = 0,
        window: int = 1,
        stride: int = 4,
        bins: str = "official313",
        neighbors: int = 5,
        sigma: float = 5.0,
        rebalance_mix: float = 0.5,
        prior: str = "data",
        gray_threshold: float | None = 5.0,
        space: Mapping[str, Any] = MappingProxyType({}),
    ):
        super().__init__(backbone)
        check_choice("hypercolumn input_space", backbone.input_space, ("lightness",))
        check_at_least("places", places, 1)
        check_at_least("border", border, 0)
        check_at_least("window", window, 1)
        if window % 2 == 0:
            raise InputError("window has no middle", received=window, allowed="allowed are odd numbers")
        self.color_loss = ColorLoss(
            self.name,
            loss,
            bins=bins,
            neighbors=neighbors,
            sigma=sigma,
            rebalance_mix=rebalance_mix,
            prior=prior,
            space=space,
        )
        self.space = self.color_loss.space
        if window > 1 and not self.space.histograms:
            raise InputError(
                f"a window has a histogram, and loss={loss} learns values",
                received=window,
                allowed="choose window=1, or a loss over bins",
            )
        if isinstance(layers, str):
            raise InputError(
                "layers of hypercolumn must be a list",
                received=layers,
                allowed="write ('data', 'conv1'), for instance",
            )
        chosen = column_layers(backbone, all_column_layers(backbone) if layers is None else layers)
        self.layer = chosen[-1]
        backbone.freeze_above(self.layer.name)
        self.places, self.border, self.window = places, border, window
        self.gray_threshold = gray_threshold
        self.head = HypercolumnHead(
            [layer.name for layer in chosen],
            [layer.channels for layer in chosen],
            self.space.channels,
            hidden_channels=hidden_channels,
            dropout=dropout,
            stride=stride,
        )

    def setup(self, photos: Photos, folder: Path) -> None:
        """Find the colour prior if the loss needs one; keep an estimated one as ``prior.json``.

        Raises:
            InputError: No photo has colour, or the prior has other bins.
        """
        check_colorful(self.name, photos, 5.0 if self.gray_threshold is None else self.gray_threshold)
        self.color_loss.balance(photos, folder)

    def begin_epoch(self, epoch: int, batches: Iterable[dict[str, Tensor]]) -> None:
        """Balance the layers before the first epoch, on the first batches that have `BALANCE_PHOTOS` photos."""
        if epoch > 0:
            return
        images: list[Tensor] = []
        for batch in batches:
            images.append(batch["image"])
            if sum(map(len, images)) >= BALANCE_PHOTOS:
                break
        self.balance(images)

    @torch.no_grad()
    def balance(self, images: Sequence[UInt8[Tensor, "n 3 h w"]]) -> None:
        """Give the features of each layer a second moment of 1.

        The backbone is in training mode, as in a step, and stays as it is.

        Args:
            images: Batches of RGB photos.
        """
        backbone = copy.deepcopy(self.backbone).train()
        layers = column_layers(backbone, self.head.layers)
        moments = torch.zeros(len(layers), dtype=torch.float64, device=self.head.scales.device)
        for image in images:
            maps = walk_layers(backbone, self._inputs(image), layers)
            for number, (_, features) in enumerate(maps):
                moments[number] += features.square().mean().double() * len(image)
        self.head.balance((moments / sum(map(len, images))).float())

    def _inputs(self, image: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 h w"]:
        inputs = self.backbone.normalize(rgb_to_lightness(image))
        return inputs.contiguous(memory_format=torch.channels_last)

    def colorizer(self) -> Colorizer:
        """Return what colours photos: backbone, head and output space as they are now, shared."""
        return Colorizer(self.backbone, self.head, self.space, self.layer.name)

    def forward(
        self, image: UInt8[Tensor, "n 3 h w"], index: Int[Tensor, " n"], mode: Literal["loss"] = "loss"
    ) -> Scalars:
        """Return the loss of a batch, averaged over all its places; those of gray photos count as zero."""
        rows, columns = self.draw(image)
        prediction = self.head.at(self.backbone, self._inputs(image), rows, columns)
        # The loss is in single precision, whatever the backbone ran in.
        with torch.autocast(image.device.type, enabled=False):
            target = colors_at(image, rows, columns, self.window)
            colorful = None
            if self.gray_threshold is not None:
                colorful = gray_mask(target[:, 1:].flatten(2).unsqueeze(-1), self.gray_threshold)
            loss = self.space.loss(prediction.float(), target, colorful)
        return Scalars({self.color_loss.logged_as: loss})

    def draw(self, image: UInt8[Tensor, "n 3 h w"]) -> tuple[Int[Tensor, "n p"], Int[Tensor, "n p"]]:
        """Draw the places of each photo.

        Returns:
            Their rows and columns in pixels.

        Raises:
            InputError: The borders leave no pixel.
        """
        drawn = []
        for side in image.shape[-2:]:
            if side <= 2 * self.border:
                raise InputError(
                    "the borders leave no place in a photo",
                    received=f"border={self.border} of {side} pixels",
                    allowed="choose a smaller border or a larger view",
                )
            drawn.append(torch.randint(self.border, side - self.border, (len(image), self.places)))
        rows, columns = (each.to(image.device) for each in drawn)
        return rows, columns

    def preview(self, image: UInt8[Tensor, "n 3 h w"]) -> UInt8[Tensor, "n 3 h w3"]:
        """Draw each photo's lightness, the photo and its predicted colours side by side."""
        return colors_beside(self.colorizer(), image)


def colors_at(
    image: UInt8[Tensor, "n 3 h w"], rows: Int[Tensor, "n p"], columns: Int[Tensor, "n p"], window: int = 1
) -> Float[Tensor, "n 3 *squares p 1"]:
    """Return the CIE Lab of pixels, or of the squares around them.

    Args:
        image: RGB photos.
        rows: Rows of the pixels, (N, P).
        columns: Their columns, (N, P).
        window: Side of a square, odd.

    Returns:
        Lab (N, 3, P, 1); with ``window`` above 1 (N, 3, window * window, P, 1), row by row, the pixel itself in the
        middle. At a photo's edge its outermost pixels stand for those beyond.
    """
    height, width = image.shape[-2:]
    around = torch.arange(window, device=image.device) - window // 2
    down, across = (each.flatten() for each in torch.meshgrid(around, around, indexing="ij"))
    y = (rows.unsqueeze(1) + down.view(1, -1, 1)).clamp(0, height - 1)
    x = (columns.unsqueeze(1) + across.view(1, -1, 1)).clamp(0, width - 1)
    flat = (y * width + x).flatten(1).unsqueeze(1).expand(-1, 3, -1)
    lab = rgb_to_lab(image.flatten(2).gather(2, flat).view(len(image), 3, *y.shape[1:]))
    return lab.flatten(2).unsqueeze(-1) if window == 1 else lab.unsqueeze(-1)
