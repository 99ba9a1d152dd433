"""Tileable noise, made once a process from the seed and read at random offsets by every photo."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

#: Real numbers; float32 wherever speed counts.
Floats = npt.NDArray[np.floating[Any]]

Integers = npt.NDArray[np.intp]

#: Side of a noise tile in pixels; a power of two, so that wrapping is a bit mask.
TILE = 512


@dataclass(frozen=True)
class NoiseBank:
    """One square tile for each look of noise, each (TILE, TILE) float32 with mean 0 and deviation 1.

    Attributes:
        clouds: large soft billows.
        soil: all scales at once, as earth or stone.
        pebbles: isotropic bumps about 7 pixels apart, as peel or gravel.
        blades: vertical streaks about 4 pixels apart, as grass or wood grain.
        waves: horizontal streaks about 9 pixels apart, as water.
        drift: nothing finer than about 40 pixels; bends lines and edges.
    """

    clouds: Floats
    soil: Floats
    pebbles: Floats
    blades: Floats
    waves: Floats
    drift: Floats

    @classmethod
    def from_seed(cls, seed: int) -> "NoiseBank":
        """Make the bank by shaping the spectrum of white noise, which also makes it tileable.

        Args:
            seed: a non-negative integer; the same seed gives the same bytes.
        """
        frequency = np.fft.fftfreq(TILE)
        fx, fy = np.meshgrid(np.abs(frequency), np.abs(frequency))
        radius = np.hypot(fx, fy)
        spectra = {
            "clouds": (np.hypot(fx, 1.7 * fy) + 0.004) ** -2.1,
            "soil": (radius + 0.02) ** -0.9,
            "pebbles": _band(radius, 1 / 7, 0.03),
            "blades": _band(fx, 1 / 4, 0.07) * np.exp(-((fy / 0.035) ** 2)),
            "waves": _band(fy, 1 / 9, 0.05) * np.exp(-((fx / 0.03) ** 2)),
            "drift": np.exp(-((radius / 0.012) ** 2)),
        }
        rng = np.random.default_rng(seed)
        return cls(**{name: _shaped_noise(rng, spectrum) for name, spectrum in spectra.items()})


def lookup(tile: Floats, x: Floats, y: Floats) -> Floats:
    """Read a tile at the pixels (x, y), nearest neighbour, wrapped at its edges.

    Args:
        tile: (TILE, TILE), one of a `NoiseBank`.
        x: columns in pixels, any value, any shape that broadcasts with `y`.
        y: rows in pixels.

    Returns:
        Noise in the broadcast shape of `x` and `y`.
    """
    columns: Integers = x.astype(np.intp) & (TILE - 1)
    rows: Integers = y.astype(np.intp) & (TILE - 1)
    return tile[rows, columns]


def window(tile: Floats, rng: np.random.Generator, height: int, width: int) -> Floats:
    """Read a rectangle of a tile, (height, width), at a random offset."""
    row, column = rng.integers(TILE, size=2)
    rows = (np.arange(height) + row) & (TILE - 1)
    columns = (np.arange(width) + column) & (TILE - 1)
    crop: Floats = tile[rows[:, None], columns]
    return crop


def _band(frequency: npt.NDArray[np.float64], centre: float, spread: float) -> npt.NDArray[np.float64]:
    """Return a Gaussian pass band; frequencies in cycles per pixel."""
    passed: npt.NDArray[np.float64] = np.exp(-(((frequency - centre) / spread) ** 2))
    return passed


def _shaped_noise(rng: np.random.Generator, spectrum: npt.NDArray[np.float64]) -> Floats:
    """White noise filtered by an amplitude spectrum (TILE, TILE), brought to mean 0 and deviation 1."""
    noise = np.fft.ifft2(np.fft.fft2(rng.standard_normal((TILE, TILE))) * spectrum).real
    noise -= noise.mean()
    return np.asarray(noise / noise.std(), dtype=np.float32)
