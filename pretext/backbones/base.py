"""The contract of a backbone: RGB photos in, features by layer name out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from pretext.checks import check_choice
from pretext.color.lab import rgb_to_lab, rgb_to_lightness
from pretext.errors import InputError

#: Default (mean, std) of each channel: CIE units for lightness and Lab, 0..1 for RGB (the ImageNet statistics).
INPUT_STATISTICS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "lightness": ((50.0,), (25.0,)),
    "lab": ((50.0, 0.0, 0.0), (25.0, 20.0, 20.0)),
    "rgb": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}

#: Channels of fc6 and fc7.
FC_CHANNELS = 4096


@runtime_checkable
class Positions(Protocol):
    """Where the positions of a map are centred in a photo: position j on pixel ``offset + j * stride``, from 0."""

    @property
    def stride(self) -> int:
        """Pixels of the photo between two positions."""

    @property
    def offset(self) -> float:
        """Pixel, counted from 0, on which position 0 is centred."""


@dataclass(frozen=True)
class Layer:
    """A layer whose features a backbone can return; its map has `Positions`.

    Attributes:
        name: Its name in the papers.
        channels: C of its features (N, C, H, W).
        stride: Pixels of the photo between two positions.
        offset: Pixel, counted from 0, on which position 0 is centred; position j is centred on offset + j * stride.
    """

    name: str
    channels: int
    stride: int
    offset: float = 0.0


class ConvBlock(nn.Module):
    """Convolution, batch norm (or none), ReLU. The convolution has a bias only if no norm follows it."""

    def __init__(self, conv: type[nn.Conv2d], in_channels: int, out_channels: int, norm: str, **kwargs: Any):
        super().__init__()
        self.conv = conv(in_channels, out_channels, bias=norm == "none", **kwargs)
        self.norm = nn.Identity() if norm == "none" else nn.BatchNorm2d(out_channels, affine=norm == "batch")

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W')."""
        return nn.functional.relu(self.norm(self.conv(x)), inplace=True)


class Backbone(nn.Module):
    """A network that takes RGB photos, does its own colour conversion, and returns features by layer name.

    Photos are (N, 3, H, W) with values 0..255: uint8, or floating point if they were resized. Callers never convert
    or normalise colours, so they cannot feed a backbone the wrong colour space.

    Subclasses fill ``layers`` and implement :meth:`walk`. ``arguments`` holds everything needed to build the backbone
    again and is written into the header of its file.

    Args:
        input_space: ``lightness`` (CIE L alone), ``lab`` or ``rgb``.
        geometry: ``pretrain`` (padded, as the paper pretrains) or ``evaluation`` (as the paper evaluates). Both have
            the same weights; architectures that do not differ between the two ignore it.
        norm: ``batch`` (batch norm with affine parameters), ``batch_no_affine`` (without, as the paper's Caffe layers)
            or ``none`` (absorbed).
        input_mean: Mean that is subtracted from each input channel; None takes that of INPUT_STATISTICS.
        input_std: Standard deviation that divides each input channel; None takes that of INPUT_STATISTICS.

    Raises:
        InputError: An argument has a value that is not allowed.
    """

    architecture: ClassVar[str]
    layers: tuple[Layer, ...]
    input_mean: Tensor
    input_std: Tensor

    def __init__(
        self,
        input_space: str,
        geometry: str,
        norm: str,
        input_mean: Sequence[float] | None,
        input_std: Sequence[float] | None,
    ):
        super().__init__()
        check_choice("input_space", input_space, INPUT_STATISTICS)
        check_choice("geometry", geometry, ("pretrain", "evaluation"))
        check_choice("norm", norm, ("batch", "batch_no_affine", "none"))
        mean, std = INPUT_STATISTICS[input_space]
        mean, std = tuple(input_mean or mean), tuple(input_std or std)
        self.in_channels = len(INPUT_STATISTICS[input_space][0])
        if not len(mean) == len(std) == self.in_channels:
            raise InputError(
                f"input_mean and input_std of {input_space} have the wrong length",
                received=(len(mean), len(std)),
                allowed=f"give one number for each of the {self.in_channels} channels",
            )
        self.input_space: str = input_space
        self.geometry: str = geometry
        self.norm: str = norm
        self.register_buffer("input_mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("input_std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)
        self.arguments: dict[str, Any] = {
            "input_space": input_space,
            "geometry": geometry,
            "norm": norm,
            "input_mean": mean,
            "input_std": std,
        }

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of all layers, from the photo upwards."""
        return tuple(layer.name for layer in self.layers)

    def layer(self, name: str) -> Layer:
        """Return the layer of that name; raise InputError if there is none."""
        check_choice(f"layer of {self.architecture}", name, self.layer_names)
        return self.layers[self.layer_names.index(name)]

    def freeze_above(self, name: str) -> None:
        """Freeze the layers above one: no loss sees them, and several processes would wait for their gradients."""
        above = self.layer_names[self.layer_names.index(self.layer(name).name) + 1 :]
        for path, parameter in self.named_parameters():
            if path.partition(".")[0] in above:
                parameter.requires_grad_(False)

    def prepare(self, photos: Shaped[Tensor, "n 3 h w"]) -> Float[Tensor, "n c h w"]:
        """Convert photos (values 0..255, uint8 or floating point) to normalised network input.

        Raises:
            InputError: The photos have another integer type.
        """
        if photos.dtype != torch.uint8 and not photos.is_floating_point():
            raise InputError(
                "photos have the wrong dtype",
                received=photos.dtype,
                allowed="allowed are uint8 and floating point, with values 0..255",
            )
        rgb = photos if photos.dtype == torch.uint8 else photos / 255
        if self.input_space == "lightness":
            return self.normalize(rgb_to_lightness(rgb))
        if self.input_space == "lab":
            return self.normalize(rgb_to_lab(rgb))
        return self.normalize(rgb / 255 if rgb.dtype == torch.uint8 else rgb)

    def normalize(self, values: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Normalise values that are already in ``input_space`` (L 0..100 and ab in CIE units, or RGB 0..1)."""
        return (values - self.input_mean) / self.input_std

    def denormalize(self, values: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Undo `normalize`."""
        denormalized: Tensor = values * self.input_std + self.input_mean
        return denormalized

    def walk(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield (layer name, features) from the photo upwards; compute a layer only when it is asked for."""
        raise NotImplementedError

    def extract(self, x: Float[Tensor, "n c h w"], layers: Sequence[str]) -> dict[str, Tensor]:
        """Return the features of ``layers`` from normalised input; stop at the last of them.

        Returns:
            Features (N, channels, H / stride, W / stride) by layer name, in the network's order.

        Raises:
            InputError: A layer is unknown, or ``layers`` is empty.
        """
        wanted = {self.layer(name).name for name in layers}
        if not wanted:
            raise InputError(f"no layer of {self.architecture} is asked for", allowed=self.layer_names)
        features: dict[str, Tensor] = {}
        for name, value in self.walk(x):
            if name in wanted:
                features[name] = value
            if len(features) == len(wanted):
                break
        return features

    def forward(self, photos: Shaped[Tensor, "n 3 h w"], layers: Sequence[str]) -> dict[str, Tensor]:
        """Return the features of ``layers`` from RGB photos with values 0..255; see :meth:`extract`."""
        return self.extract(self.prepare(photos), layers)

    def features(self, photos: Shaped[Tensor, "n 3 h w"], layer_name: str) -> Float[Tensor, "n c i j"]:
        """Return the features of one layer from RGB photos with values 0..255; see :meth:`extract`."""
        features: Tensor = self(photos, [layer_name])[layer_name]
        return features
