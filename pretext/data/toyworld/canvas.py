"""A photo in the making: lightness, pigments and which object owns each pixel."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pretext.data.toyworld.noise import Floats, NoiseBank, window
from pretext.data.toyworld.pigments import colorize

Bytes = npt.NDArray[np.uint8]
Booleans = npt.NDArray[np.bool_]

#: Owner of the ring around every object, as in PASCAL VOC.
VOID = 255


@dataclass(frozen=True)
class Patch:
    """A thing to be laid over a rectangle of the photo.

    Attributes:
        rows: rows of the rectangle.
        columns: columns of the rectangle.
        alpha: (h, w) coverage in [0, 1].
        lightness: (h, w) about [0, 1].
        pigments: (h, w, 3) linear RGB of luminance one.
    """

    rows: slice
    columns: slice
    alpha: Floats
    lightness: Floats
    pigments: Floats


class Canvas:
    """Layers painted back to front.

    Attributes:
        lightness: (H, W).
        pigments: (H, W, 3).
        owners: (H, W) uint8: 0 background, the number of an object, or `VOID`.
    """

    def __init__(self, lightness: Floats, pigments: Floats) -> None:
        """Start from a background, (H, W) and (H, W, 3)."""
        self.lightness = lightness
        self.pigments = pigments
        self.owners: Bytes = np.zeros(lightness.shape, dtype=np.uint8)

    def paint(self, patch: Patch, owner: int) -> Booleans:
        """Lay a patch over the photo; its pixels go to `owner`, with a ring of `VOID` one pixel wide around them.

        Args:
            patch: what to paint.
            owner: 1..254 for an object, 0 for clutter, which counts as background and gets no ring.

        Returns:
            (h, w) the pixels of the patch that now belong to `owner`.
        """
        at = (patch.rows, patch.columns)
        alpha = patch.alpha
        self.lightness[at] += alpha * (patch.lightness - self.lightness[at])
        self.pigments[at] += alpha[..., None] * (patch.pigments - self.pigments[at])
        inside = alpha >= 0.5
        if owner:
            self.owners[at][grown(inside) & ~inside] = VOID
        self.owners[at][inside] = owner
        return inside

    def darken(self, rows: slice, columns: slice, amount: Floats) -> None:
        """Casts a shadow: lightness falls by the share `amount` (h, w) in [0, 1]."""
        self.lightness[rows, columns] *= 1 - amount

    def develop(self, bank: NoiseBank, rng: np.random.Generator) -> Bytes:
        """Turn the layers into a photo: light falling off, focus, sensor noise.

        Returns:
            (H, W, 3) uint8 sRGB.
        """
        height, width = self.lightness.shape
        lightness = self.lightness + 0.06 * rng.uniform() * window(bank.drift, rng, height, width)
        vividness = np.float32(rng.uniform(0.8, 1.05))
        pigments = np.maximum(1 + vividness * (self.pigments - 1), 0)
        rgb = softened(colorize(lightness, pigments), rng.uniform(0, 0.5))
        noise = rng.standard_normal((height, width, 4), dtype=np.float32)
        strength = np.float32(rng.uniform(0.005, 0.025))
        rgb = rgb + strength * (noise[..., :1] + 0.4 * noise[..., 1:])
        return np.asarray((rgb * 255 + 0.5).clip(0, 255), dtype=np.uint8)


def grown(mask: Booleans) -> Booleans:
    """Return the mask (h, w) and its eight neighbours."""
    tall = mask.copy()
    tall[1:] |= mask[:-1]
    tall[:-1] |= mask[1:]
    wide = tall.copy()
    wide[:, 1:] |= tall[:, :-1]
    wide[:, :-1] |= tall[:, 1:]
    return wide


def softened(image: Floats, amount: float) -> Floats:
    """Blurs (H, W, C) with the kernel [a/2, 1 - a, a/2] along both axes; `amount` a in [0, 1]."""
    a = np.float32(amount)
    image = image.copy()
    image[1:-1] += a * ((image[:-2] + image[2:]) / 2 - image[1:-1])
    image[:, 1:-1] += a * ((image[:, :-2] + image[:, 2:]) / 2 - image[:, 1:-1])
    return image
