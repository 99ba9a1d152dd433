"""Who gives a photo its colours: a colorizer, the files of a folder, or one of the rows without training."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from pretext.color.lab import rgb_to_lab
from pretext.color.prior import ColorPrior
from pretext.colorize.colorizer import Colorizer, Colors
from pretext.colorize.painting import (
    Decoding,
    check_decoding,
    decode,
    entropy,
    lightness_of,
    paint,
    paint_decoded,
    predict,
)
from pretext.errors import InputError
from transfer.color_sources import ColorSource
from transfer.data.colored import ColoredFiles, TruePhotos
from transfer.networks.true_histogram import check_energy, led_by_energy, matched_by_quantiles
from transfer.protocols.settings import ColorizationSettings
from transfer.scores.colors import diversity

Photo = UInt8[Tensor, "3 height width"]


@dataclass(frozen=True)
class Painted:
    """A coloured photo, and what is known of how it came about.

    Attributes:
        rgb: The photo.
        measured: By metric of the stage: ``entropy``, ``diversity``, ``time``.
        swept: The photo at each of the settings' ``temperatures``.
    """

    rgb: Photo
    measured: Mapping[str, float] = field(default_factory=dict)
    swept: Mapping[float, Photo] = field(default_factory=dict)


@runtime_checkable
class Painter(Protocol):
    """What gives photos their colours."""

    def __call__(self, index: int, truth: Photo) -> Painted:
        """Return a photo in its colours, of the size of the true one.

        Args:
            index: Number of the photo in `TruePhotos`.
            truth: The true photo; what paints it sees its lightness alone.
        """
        ...


class Model:
    """A colorizer.

    Args:
        colorizer: In eval mode, on its device.
        settings: Size, decoding, draws and histograms.
        seed: Seed of the draws, which also depend on the number of the photo.

    Raises:
        InputError: The decoding, a sweep over temperatures or an energy needs a distribution, and the colorizer
            predicts values.
    """

    def __init__(self, colorizer: Colorizer, settings: ColorizationSettings, seed: int):
        self.colorizer, self.settings, self.seed = colorizer, settings, seed
        self._sweep = {t: Decoding("annealed", t) for t in settings.temperatures}
        for decoding in (Decoding(settings.decode, settings.temperature), *self._sweep.values()):
            check_decoding(colorizer, decoding, settings.decode_at)
        if settings.true_histogram == "energy":
            check_energy(colorizer)

    def __call__(self, index: int, truth: Photo) -> Painted:
        """See `Painter`."""
        settings, began = self.settings, time.perf_counter()
        colors = self._predicted(truth)
        seed = int(np.random.default_rng([self.seed, index]).integers(2**31))
        rgb = self._decoded(truth, colors, Decoding(settings.decode, settings.temperature, seed))
        measured = {"time": 1000 * (time.perf_counter() - began)}
        if colors.distribution is not None:
            measured["entropy"] = float(entropy(colors.distribution).mean())
            if settings.samples:
                draws = (Decoding("coherent", seed=seed + number + 1) for number in range(settings.samples))
                samples = [decode(self.colorizer, colors, each)[0] for each in draws]
                measured["diversity"] = float(diversity(torch.stack(samples)))
        swept = {t: self._decoded(truth, colors, decoding) for t, decoding in self._sweep.items()}
        return Painted(rgb, measured, swept)

    def decoded(self, truth: Photo, decodings: Sequence[Decoding]) -> list[Photo]:
        """Return a photo in the colours of one prediction, decoded in several ways."""
        colors = self._predicted(truth)
        return [self._decoded(truth, colors, decoding) for decoding in decodings]

    def _predicted(self, truth: Photo) -> Colors:
        colors = predict(self.colorizer, lightness_of(truth), self.settings.network_size)
        by_energy = self.settings.true_histogram == "energy"
        return led_by_energy(self.colorizer, colors, truth) if by_energy else colors

    def _decoded(self, truth: Photo, colors: Colors, decoding: Decoding) -> Photo:
        how = (self.settings.upsampling, self.settings.decode_at)
        painted = paint_decoded(self.colorizer, lightness_of(truth), colors, decoding, *how)
        by_quantiles = self.settings.true_histogram == "quantile"
        return matched_by_quantiles(painted, truth) if by_quantiles else painted

    def parameters_mb(self) -> float:
        """Return the size of the weights in single precision, in MB of 10^6 bytes."""
        return sum(each.numel() for each in self.colorizer.parameters()) * 4 / 1e6

    def features_mb(self, truth: Photo) -> float:
        """Return the size of what all convolutions give for a photo, in single precision, in MB of 10^6 bytes."""
        sizes: list[int] = []

        def note(module: nn.Module, inputs: object, output: Tensor) -> None:
            sizes.append(output.numel())

        kinds = (nn.Conv2d, nn.ConvTranspose2d)
        hooks = [m.register_forward_hook(note) for m in self.colorizer.modules() if isinstance(m, kinds)]
        try:
            predict(self.colorizer, truth, self.settings.network_size)
        finally:
            for hook in hooks:
                hook.remove()
        return sum(sizes) * 4 / 1e6


class Folder:
    """The files of a folder; see `ColoredFiles`."""

    def __init__(self, files: ColoredFiles):
        self.files = files

    def __call__(self, index: int, truth: Photo) -> Painted:
        """See `Painter`."""
        return Painted(self.files[index])


class Matched:
    """What another painter paints, matched to the true photo by quantiles."""

    def __init__(self, painter: Painter):
        self.painter = painter

    def __call__(self, index: int, truth: Photo) -> Painted:
        """See `Painter`."""
        return Painted(matched_by_quantiles(self.painter(index, truth).rgb, truth))


class Truth:
    """The true colours."""

    def __call__(self, index: int, truth: Photo) -> Painted:
        """See `Painter`."""
        return Painted(truth)


class OneColor:
    """One colour for all pixels, as far as sRGB has it at their lightness.

    Args:
        ab: In CIE units; zeros give the gray photo.
    """

    def __init__(self, ab: Float[Tensor, "2"]):
        self.ab = ab.float()

    def __call__(self, index: int, truth: Photo) -> Painted:
        """See `Painter`."""
        return Painted(paint(lightness_of(truth), self.ab[:, None, None]))


class OtherPhoto:
    """The colours of another of the photos, drawn and resized to the size of this one.

    Raises:
        InputError: There is one photo alone.
    """

    def __init__(self, photos: TruePhotos, seed: int):
        if len(photos) < 2:
            raise InputError("the colours of another photo need two photos", received=len(photos))
        self.photos, self.seed = photos, seed

    def __call__(self, index: int, truth: Photo) -> Painted:
        """See `Painter`."""
        step = int(np.random.default_rng([self.seed, index]).integers(1, len(self.photos)))
        other = self.photos[(index + step) % len(self.photos)]
        lab = rgb_to_lab(other[None])
        ab = nn.functional.interpolate(lab[:, 1:], size=truth.shape[1:], mode="bilinear", antialias=True)
        return Painted(paint(lightness_of(truth), ab[0]))


def baseline(source: ColorSource, photos: TruePhotos, prior: ColorPrior, seed: int) -> Painter:
    """Return the painter of one of `transfer.color_sources.BASELINES`.

    Args:
        source: Names it.
        photos: The true photos.
        prior: Has the mean colour.
        seed: Seed of what is drawn.
    """
    if source.name == "truth":
        return Truth()
    if source.name == "random-photo":
        return OtherPhoto(photos, seed)
    mean = prior.probabilities @ prior.bins.double()
    return OneColor(torch.zeros(2) if source.name == "gray" else mean)


def folder(source: ColorSource, photos: TruePhotos) -> Painter:
    """Return the painter of a folder of coloured files."""
    return Folder(ColoredFiles(Path(source.name), photos))
