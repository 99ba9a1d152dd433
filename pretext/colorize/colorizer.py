"""The colorizer: a backbone, a head and an output space that give a photo's ab from its lightness, and their file."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from pretext.backbones.base import Backbone
from pretext.backbones.checkpoint import (
    Provenance,
    build,
    build_from_header,
    check_sha256,
    described_sha256,
    load_weights,
    read_provenance,
    weights_of,
)
from pretext.checks import check_choice
from pretext.color.spaces import AB, SPACES, OutputSpace
from pretext.colorize.header import FORMAT_VERSION, HEADER_KEY, read_colorizer_header
from pretext.colorize.heads import HEADS, ColorHead, Grid, HypercolumnHead
from pretext.errors import InputError
from pretext.files import write_whole

__all__ = [
    "ColorHead",
    "Colorizer",
    "Colors",
    "HypercolumnHead",
    "colorizer_sha256",
    "load_colorizer",
    "save_colorizer",
]


class Colors(NamedTuple):
    """What a colorizer predicts, at the positions of its head.

    Attributes:
        ab: Decoded colours in CIE units, (N, 2, h, w).
        distribution: Probabilities of the output space's classes, (N, Q, h, w); None if it predicts values.
        lightness: CIE L, 0..100, at the same positions, (N, 1, h, w), for decoding again; None if it is not known.
    """

    ab: Float[Tensor, "n 2 h w"]
    distribution: Float[Tensor, "n q h w"] | None
    lightness: Float[Tensor, "n 1 h w"] | None = None


class Colorizer(nn.Module):
    """Predicts the colours of photos from their lightness.

    Args:
        backbone: Sees lightness; or Lab with the features under the head blind to ab, as the first half of a
            split-brain's are: it is then shown ab = 0.
        head: Predicts from features of the backbone.
        space: What the head predicts; it must give ab.
        layer: The backbone's last layer under the head.

    Attributes:
        layer: The layer.
        grid: Where the head predicts: its stride and offset tell where positions are centred.
        provenance: Where the weights come from; None if they were not loaded from a file.

    Raises:
        InputError: The parts do not fit together.
    """

    def __init__(self, backbone: Backbone, head: ColorHead | HypercolumnHead, space: OutputSpace, layer: str):
        super().__init__()
        check_choice("input_space of a colorizer", backbone.input_space, ("lightness", "lab"))
        self.layer = backbone.layer(layer)
        if space.lab_channels != AB:
            raise InputError("the output space of a colorizer does not give ab", received=space.name)
        self.grid = head.under(backbone, self.layer)
        if head.out_channels != space.channels:
            raise InputError(
                f"a colorizer's head does not fit between {layer} and {space.name}",
                received=(head.in_channels, head.out_channels),
                allowed=f"allowed are {space.channels} channels out",
            )
        self.backbone = backbone
        self.head = head
        self.space = space
        self.provenance: Provenance | None = None

    def predict(self, lightness: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n c h2 w2"]:
        """Return the head's prediction, (N, C, h, w), at its positions.

        Args:
            lightness: CIE L, 0..100.
        """
        without_color = F.pad(lightness, (0, 0, 0, 0, 0, self.backbone.in_channels - 1))
        inputs = self.backbone.normalize(without_color).contiguous(memory_format=torch.channels_last)
        return self.head.predict(self.backbone, inputs, self.layer)

    def forward(self, lightness: Float[Tensor, "n 1 h w"]) -> Colors:
        """Return the colours of photos at the positions of the head.

        Args:
            lightness: CIE L, 0..100.
        """
        prediction = self.predict(lightness).float()
        seen = lightness_at(lightness, self.grid, prediction)
        return Colors(
            self.space.decode(prediction, lightness=seen), self.space.distribution(prediction), seen
        )

    def decode(
        self,
        distribution: Float[Tensor, "n q h w"] | None,
        temperature: float | None,
        *,
        rule: str = "annealed",
        lightness: Float[Tensor, "n 1 h w"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "n 2 h w"]:
        """Decode a distribution that was kept, in another way.

        Args:
            distribution: `Colors.distribution`.
            temperature: T of the annealed mean (Zhang et al., ECCV 2016, equation 5).
            rule: One of the space's rules.
            lightness: `Colors.lightness`.
            generator: Source of random numbers, on the distribution's device.

        Raises:
            InputError: ``temperature`` is not above 0, the output space does not have the rule, or there is no
                distribution.
        """
        if distribution is None:
            raise InputError(
                "only a distribution has a temperature",
                received=self.space.name,
                allowed="use a colorizer whose output space has one",
            )
        return self.space.decode(
            distribution.log(), temperature, rule=rule, lightness=lightness, generator=generator
        )


def lightness_at(
    lightness: Float[Tensor, "n 1 height width"], grid: Grid, prediction: Float[Tensor, "n c h w"]
) -> Float[Tensor, "n 1 h w"]:
    """Return the mean lightness around each position of a grid, over squares of the stride's side.

    Args:
        lightness: What the network sees.
        grid: Its stride and offset say where positions are.
        prediction: A map at these positions.
    """
    # Squares that reach over the border count its pixels again.
    first = round(grid.offset - (grid.stride - 1) / 2)
    for dimension in (2, 3):
        pixels = torch.arange(prediction.shape[dimension] * grid.stride, device=lightness.device) + first
        lightness = lightness.index_select(dimension, pixels.clamp(0, lightness.shape[dimension] - 1))
    return F.avg_pool2d(lightness, grid.stride)


def colorizer_sha256(colorizer: Colorizer) -> str:
    """Return the SHA-256 of what a colorizer is made of and the bytes of every weight."""
    return described_sha256(_description(colorizer), colorizer)


def save_colorizer(colorizer: Colorizer, path: Path | str, provenance: Provenance) -> str:
    """Write a colorizer file, whole or not at all.

    Args:
        colorizer: Any colorizer, on any device.
        path: File to write; should end in ``.safetensors``.
        provenance: Goes into the header.

    Returns:
        The SHA-256 that `colorizer_sha256` gives of the loaded colorizer.
    """
    sha256 = colorizer_sha256(colorizer)
    header = {
        "format_version": FORMAT_VERSION,
        **_description(colorizer),
        "provenance": asdict(provenance),
        "sha256": sha256,
    }
    write_whole(Path(path), save(weights_of(colorizer), metadata={HEADER_KEY: json.dumps(header)}))
    return sha256


def load_colorizer(path: Path | str) -> Colorizer:
    """Load a colorizer from its file.

    Returns:
        The colorizer in eval mode, with its provenance.

    Raises:
        InputError: The file is missing, not a colorizer file, of another format version, damaged, or its weights
            differ from what its header describes in any key, shape or byte.
    """
    path = Path(path)
    header = read_colorizer_header(path)
    check_choice("output space", header["space"], SPACES)
    space = build_from_header(header["space"], SPACES[header["space"]], header["space_arguments"])
    arguments = {"out_channels": space.channels, **header["head"]}
    kind = arguments.pop("name", ColorHead.name)
    check_choice("head", kind, HEADS)
    head = build_from_header("head", HEADS[kind], arguments)
    colorizer = Colorizer(build(header["architecture"], header["arguments"]), head, space, header["layer"])
    load_weights(colorizer, path, "its colorizer")
    check_sha256(path, colorizer_sha256(colorizer), header["sha256"])
    colorizer.provenance = read_provenance(header)
    return colorizer.eval()


def _description(colorizer: Colorizer) -> dict[str, Any]:
    """Everything that is needed to make the colorizer again, but the weights."""
    head = colorizer.head
    # Files had one kind of head first, and its name stays out of their hashes.
    named = {} if isinstance(head, ColorHead) else {"name": head.name}
    return {
        "architecture": colorizer.backbone.architecture,
        "arguments": colorizer.backbone.arguments,
        "layer": colorizer.layer.name,
        "head": named | head.arguments(),
        "space": colorizer.space.name,
        "space_arguments": colorizer.space.arguments(),
    }
