"""Colour laid over a finished gray photo, so that lightness never tells the colour.

A photo is rendered as lightness first. Colour is then multiplied on in linear light with pigments of luminance
one, which leaves luminance as it was: the gray version of a red apple and of a green one have the same statistics.
"""

import numpy as np

from pretext.data.toyworld.noise import Floats

#: Weights of linear R, G, B in luminance (sRGB primaries, D65).
LUMINANCE = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)

_XYZ_TO_RGB = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])
_WHITE = np.array([0.95047, 1.0, 1.08883])
_LEVELS = 4096


def pigment(hue: float, chroma: float, lightness: float = 55.0) -> Floats:
    """Return a colour as linear RGB of luminance one.

    Args:
        hue: hue angle in the CIE ab plane, degrees (0 red-purple, 90 yellow, 180 green, 270 blue).
        chroma: distance from gray in CIE units at `lightness`; what is out of the sRGB gamut is clipped.
        lightness: CIE L at which `chroma` is meant; chroma grows as the cube root of luminance, hue stays.

    Returns:
        (3,) linear RGB whose luminance is 1.
    """
    angle = np.deg2rad(hue)
    fy = (lightness + 16) / 116
    f = np.array([fy + chroma * np.cos(angle) / 500, fy, fy - chroma * np.sin(angle) / 200])
    rgb = np.maximum(_XYZ_TO_RGB @ (np.maximum(f, 0) ** 3 * _WHITE), 0)
    return np.asarray(rgb / (rgb @ LUMINANCE), dtype=np.float32)


def colorize(lightness: Floats, pigments: Floats) -> Floats:
    """Multiply pigments onto a gray photo and keep its luminance.

    Where a channel would exceed 1, the colour is mixed with white until it fits, as film and sensors do.

    Args:
        lightness: (H, W) sRGB gray values in [0, 1].
        pigments: (H, W, 3) linear RGB of luminance one.

    Returns:
        (H, W, 3) sRGB values in [0, 1].
    """
    luminance = _DECODE[(np.clip(lightness, 0, 1) * (_LEVELS - 1)).astype(np.intp)]
    excess = luminance * (pigments.max(axis=2) - 1)
    mix = np.minimum(1, (1 - luminance) / np.maximum(excess, 1e-6))
    linear = luminance[..., None] * (1 + mix[..., None] * (pigments - 1))
    rgb: Floats = _ENCODE[(linear.clip(0, 1) * (_LEVELS - 1)).astype(np.intp)]
    return rgb


def _decode_table() -> Floats:
    """Linear luminance of sRGB gray levels, at `_LEVELS` evenly spaced levels."""
    level = np.linspace(0, 1, _LEVELS)
    return np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _encode_table() -> Floats:
    """Gray levels in sRGB of linear luminances, at `_LEVELS` evenly spaced levels."""
    level = np.linspace(0, 1, _LEVELS)
    return np.where(level <= 0.0031308, level * 12.92, 1.055 * level ** (1 / 2.4) - 0.055).astype(np.float32)


_DECODE = _decode_table()
_ENCODE = _encode_table()
