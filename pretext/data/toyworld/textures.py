"""Surfaces of the toy objects: a tone that is seen in gray, and where the second colour goes.

Every texture takes a `Surface` and a generator and returns (tone, accent), both (h, w): tone is lightness, about
[-1, 1], with strength and mean set by the caller; accent in [0, 1] is the share of the class's second colour.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pretext.data.toyworld.noise import TILE, Floats, NoiseBank, lookup


@dataclass(frozen=True)
class Surface:
    """Where an object is textured.

    Attributes:
        u: (h, w) the object's own coordinate to the right, about [-1, 1].
        v: (h, w) the same, down.
        bank: noise to read.
        offset: where in the noise tiles this individual reads, in pixels.
    """

    u: Floats
    v: Floats
    bank: NoiseBank
    offset: tuple[float, float]

    def noise(self, tile: Floats, u: Floats, v: Floats, zoom: float) -> Floats:
        """Read `tile` at (u, v), `zoom` tile pixels to one unit."""
        return lookup(tile, u * zoom + (self.offset[0] + TILE), v * zoom + (self.offset[1] + TILE))


Texture = Callable[[Surface, np.random.Generator], tuple[Floats, Floats]]


def smoothstep(low: float, high: float, x: Floats) -> Floats:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    smooth: Floats = t * t * (3 - 2 * t)
    return smooth


def glossy_skin(s: Surface, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Paint a smooth skin with faint streaks from the top and a highlight."""
    streaks = s.noise(s.bank.blades, s.u / (1.15 - 0.5 * np.abs(s.v)), 0.3 * s.v, 24.0)
    x, y = rng.uniform(-0.45, 0.45), rng.uniform(-0.5, 0.0)
    gloss = np.exp(-((s.u - x) ** 2 + (s.v - y) ** 2) / rng.uniform(0.02, 0.06))
    near_stem = smoothstep(-0.68, -0.85, s.v)
    return 0.13 * streaks + 1.1 * gloss - 0.5 * near_stem, near_stem


def pebbled_peel(s: Surface, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Peel with small pores all over."""
    bulge = 1 + 0.35 * (s.u * s.u + s.v * s.v)
    pores = s.noise(s.bank.pebbles, s.u * bulge, s.v * bulge, rng.uniform(28, 42.0))
    return rng.uniform(0.12, 0.32) * pores, smoothstep(1.2, 2.2, pores)


def meridian_stripes(s: Surface, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Wavy stripes from pole to pole, closer together towards the sides."""
    width = np.sqrt(np.maximum(1.08 - s.v * s.v, 0.05))
    longitude = np.arcsin(np.clip(s.u / width, -1, 1))
    wave = rng.uniform(0.2, 0.6) * s.noise(s.bank.soil, s.u, s.v, 40.0)
    stripes = np.sin(longitude * rng.uniform(6, 10) + wave + rng.uniform(0, 6))
    light = smoothstep(-0.2, 0.5, stripes)
    return 1.3 * light * rng.choice([-1, 1], p=[0.25, 0.75]), light


def spots(s: Surface, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Round spots in rows, with a seam down the middle on some individuals."""
    bulge = 1 + 0.25 * (s.u * s.u + s.v * s.v)
    pitch = rng.uniform(1.7, 2.5)
    x, y = s.u * bulge * pitch + rng.uniform(), s.v * bulge * pitch + rng.uniform()
    x = x + 0.5 * (np.floor(y) % 2)
    d = np.hypot(x - np.floor(x) - 0.5, y - np.floor(y) - 0.5)
    size = rng.uniform(0.24, 0.34)
    dark = smoothstep(size + 0.06, size - 0.06, d)
    if rng.random() < 0.5:
        dark = np.maximum(dark, smoothstep(0.07, 0.03, np.abs(s.u)))
    return -1.2 * dark * rng.choice([-1, 1], p=[0.25, 0.75]), dark


def veins(s: Surface, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Paint a midrib along u and slanted side veins."""
    phase = (s.u - rng.uniform(0.5, 1.0) * np.abs(s.v)) * rng.uniform(3.5, 5.5)
    side = np.abs(phase - np.floor(phase) - 0.5)
    lines = np.maximum(smoothstep(0.16, 0.04, side), 1.3 * smoothstep(0.08, 0.03, np.abs(s.v)))
    blotches = s.noise(s.bank.soil, s.u, s.v, 30.0)
    return 0.9 * lines * rng.choice([-1, 1]) + 0.15 * blotches, np.minimum(lines, 1)


def scales(s: Surface, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Overlapping scales on the body, rays on the tail, an eye at -u."""
    pitch = rng.uniform(5.5, 7.5)
    x = s.u * pitch
    y = s.v * pitch + 0.5 * (np.floor(x) % 2)
    arc = np.hypot(x - np.floor(x), y - np.floor(y) - 0.5)
    body = smoothstep(0.55, 0.8, arc) - 0.4 * smoothstep(0.45, 0.2, arc)
    rays = np.sin(s.v * 26)
    tone = -0.8 * np.where(s.u > 0.5, rays, body)
    d = np.hypot(s.u + 0.68, s.v + 0.1)
    eye = smoothstep(0.13, 0.09, d)
    belly = smoothstep(0.1, 0.4, s.v)
    return np.where(d < 0.13, 1.2 - 2.8 * smoothstep(0.09, 0.05, d), tone), np.maximum(eye, belly)


def petals(s: Surface, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Rays from a grainy middle disc."""
    r = np.hypot(s.u, s.v)
    angle = np.arctan2(s.v, s.u)
    rays = np.cos(angle * rng.integers(14, 24)) * smoothstep(0.2, 0.6, r)
    size = rng.uniform(0.2, 0.34)
    disc = smoothstep(size + 0.03, size - 0.03, r)
    grain = s.noise(s.bank.pebbles, s.u, s.v, 50.0)
    contrast = rng.choice([-0.9, 0.9])
    return (1 - disc) * 0.6 * rays + disc * (contrast + 0.4 * grain), disc


def brick_courses(s: Surface, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Bricks in courses, each a little different, with mortar between them."""
    rows = rng.uniform(3.2, 4.6)
    y = s.v * rows + rng.uniform()
    row = np.floor(y)
    x = s.u * rows * 0.5 + 0.5 * (row % 2) + rng.uniform()
    joint = np.minimum(np.abs(x - np.rint(x)) * 2, np.abs(y - np.rint(y)))
    mortar = smoothstep(0.16, 0.08, joint)
    each = np.sin(row * 12.9 + np.floor(x) * 78.2) * 0.35
    grain = s.noise(s.bank.soil, s.u, s.v, 60.0)
    tone = (1 - mortar) * (each + 0.2 * grain) + mortar * rng.choice([-1.1, 1.1], p=[0.3, 0.7])
    return tone, mortar


def planks(s: Surface, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Upright staves with grain, held by two or three hoops."""
    x = s.u * rng.uniform(2.8, 4.2) / (1 - 0.15 * s.v * s.v) + rng.uniform()
    gap = smoothstep(0.12, 0.05, np.abs(x - np.rint(x)))
    each = np.sin(np.rint(x - 0.5) * 12.9) * 0.3
    grain = s.noise(s.bank.blades, s.u, s.v * 0.4, 45.0)
    at = rng.uniform(0.45, 0.75)
    bow = s.v + 0.08 * s.u * s.u
    d = np.minimum(np.abs(bow - at), np.abs(bow + at))
    if rng.random() < 0.4:
        d = np.minimum(d, np.abs(bow))
    hoop = smoothstep(0.1, 0.06, d)
    return (1 - hoop) * (each + 0.25 * grain - 0.9 * gap) + hoop * rng.choice([-0.9, 0.9]), hoop
