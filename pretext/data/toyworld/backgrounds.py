"""Sky, water, grass and ground: what lies behind the toy objects.

Each has two colour modes, and each mode its own texture, so the colour can be told from the gray photo.
"""

from collections.abc import Callable

import numpy as np

from pretext.data.toyworld.noise import TILE, Floats, NoiseBank, lookup, window
from pretext.data.toyworld.pigments import pigment
from pretext.data.toyworld.textures import smoothstep

#: Lightness (H, W) and pigments (H, W, 3).
Layer = tuple[Floats, Floats]

Material = Callable[[NoiseBank, np.random.Generator, Floats, Floats], Layer]


def paint_background(bank: NoiseBank, rng: np.random.Generator, height: int, width: int) -> Layer:
    """Paint a view with a horizon, or one filled with a single material.

    Args:
        bank: noise to read.
        rng: generator of this photo.
        height: H in pixels.
        width: W in pixels.

    Returns:
        Lightness (H, W), about [0, 1], and pigments (H, W, 3), linear RGB of luminance one.
    """
    lower: Material = (water, grass, ground)[rng.integers(3)]
    view = rng.choice(["horizon", "lower", "sky"], p=[0.55, 0.33, 0.12])
    if view == "lower":
        return lower(bank, rng, *_plane(rng, height, width, horizon=-height * rng.uniform(1, 4)))
    sky_layer = sky(bank, rng, *_plane(rng, height, width, horizon=-1e4))
    if view == "sky":
        return sky_layer
    horizon = height * rng.uniform(0.15, 0.65)
    layer = lower(bank, rng, *_plane(rng, height, width, horizon - 0.25 * height))
    edge = horizon + rng.uniform(-0.1, 0.1) * (np.arange(width) - width / 2)
    edge = edge + rng.choice([0.5, 2.5]) * window(bank.drift, rng, 1, width)[0]
    share = np.clip(np.arange(height)[:, None] - edge + 0.5, 0, 1).astype(np.float32)
    lightness = sky_layer[0] + share * (layer[0] - sky_layer[0])
    pigments = sky_layer[1] + share[..., None] * (layer[1] - sky_layer[1])
    return lightness, pigments


def sky(bank: NoiseBank, rng: np.random.Generator, x: Floats, y: Floats) -> Layer:
    """By day puffy clouds over blue, brighter below; at dusk long bands over orange and rose."""
    height = y.shape[0]
    ramp = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    dusk = rng.random() < 0.4
    billows = lookup(bank.clouds, x * (0.8 if dusk else 1.6), y * (3.0 if dusk else 1.6))
    cover = rng.uniform(-0.5, 1.2)
    cloud = smoothstep(cover, cover + (0.4 if dusk else 1.0), billows)
    slope = rng.uniform(0.02, 0.1) if dusk else -rng.uniform(-0.1, 0.02)
    sign = -1 if dusk else 1
    lightness = rng.uniform(0.4, 0.75) + slope * ramp + sign * rng.uniform(0.1, 0.22) * cloud
    if dusk:
        high, low, veil = pigment(20.0, 26.0), pigment(62.0, 44.0), pigment(330.0, 14.0)
    else:
        high, low, veil = pigment(268.0, 34.0), pigment(250.0, 22.0), pigment(260.0, 3.0)
    share = (0.5 + 0.5 * ramp)[..., None]
    clear = high + share * (low - high)
    return lightness, clear + cloud[..., None] * (veil - clear)


def water(bank: NoiseBank, rng: np.random.Generator, x: Floats, y: Floats) -> Layer:
    """Sea with steep waves, blue, or a pond with soft ripples and weed, green."""
    sea = rng.random() < 0.6
    waves = lookup(bank.waves, x, y * (1.3 if sea else 0.7))
    if sea:
        relief = 0.09 * np.abs(waves) + 0.03 * lookup(bank.soil, x, 2 * y)
        colour, foam = pigment(242.0, 32.0), pigment(230.0, 8.0)
        share = smoothstep(1.3, 2.2, waves)
    else:
        weed = lookup(bank.clouds, x, y)
        relief = 0.03 * waves - 0.06 * smoothstep(0.2, 0.6, weed)
        colour, foam = pigment(190.0, 22.0), pigment(125.0, 32.0)
        share = smoothstep(0.2, 0.6, weed)
    lightness = rng.uniform(0.3, 0.65) + rng.uniform(0.6, 1.3) * relief
    return lightness, colour + share[..., None] * (foam - colour)


def grass(bank: NoiseBank, rng: np.random.Generator, x: Floats, y: Floats) -> Layer:
    """Fresh grass, fine and dense, or dry grass, coarse with bare soil."""
    fresh = rng.random() < 0.6
    zoom = 1.0 if fresh else 0.55
    blades = lookup(bank.blades, x * zoom + 2 * lookup(bank.drift, x, y), y * zoom)
    patches = lookup(bank.soil, x, y)
    relief = (0.07 if fresh else 0.11) * blades + (0.05 if fresh else 0.03) * patches
    lightness = rng.uniform(0.3, 0.65) + rng.uniform(0.6, 1.2) * relief
    colour = pigment(128.0, 40.0) if fresh else pigment(92.0, 38.0)
    deep = pigment(145.0, 30.0) if fresh else pigment(70.0, 26.0)
    share = smoothstep(0.0, 1.5, -patches)
    return lightness, colour + share[..., None] * (deep - colour)


def ground(bank: NoiseBank, rng: np.random.Generator, x: Floats, y: Floats) -> Layer:
    """Earth with gravel, brown, or sand in smooth ripples, pale yellow."""
    earth = rng.random() < 0.5
    if earth:
        gravel = lookup(bank.pebbles, x, y)
        relief = 0.07 * lookup(bank.soil, x, y) + 0.05 * gravel
        colour, second = pigment(62.0, 28.0), pigment(265.0, 5.0)
        share = smoothstep(1.0, 1.8, gravel)
    else:
        ripples = lookup(bank.waves, 0.8 * x + 0.5 * y, 0.8 * y - 0.3 * x)
        relief = 0.05 * ripples + 0.02 * lookup(bank.soil, 2 * x, 2 * y)
        colour, second = pigment(84.0, 26.0), pigment(76.0, 34.0)
        share = smoothstep(0.0, 2.0, -ripples)
    lightness = rng.uniform(0.35, 0.7) + rng.uniform(0.6, 1.3) * relief
    return lightness, colour + share[..., None] * (second - colour)


def _plane(rng: np.random.Generator, height: int, width: int, horizon: float) -> tuple[Floats, Floats]:
    """Noise coordinates (H, W) of a plane seen in perspective, finer towards row `horizon`.

    The scale is 1 at the bottom row, up to a random zoom that stands for the distance of the camera.
    """
    rows = np.arange(height, dtype=np.float32)
    depth = (height - horizon) / np.maximum(rows - horizon, 1) * rng.uniform(0.7, 1.3)
    depth = np.minimum(depth, 4)
    start = rng.integers(TILE, 4 * TILE, size=2)
    x = (np.arange(width) - width / 2)[None, :] * depth[:, None] + start[0]
    y = np.broadcast_to(np.cumsum(depth)[:, None] + start[1], x.shape)
    return x.astype(np.float32), y.astype(np.float32)
