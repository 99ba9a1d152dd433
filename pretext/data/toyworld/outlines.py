"""Outlines of the toy objects, as functions of the object's own coordinates.

Every outline takes u (to the right) and v (down), (h, w), with the object within about [-1, 1], and a generator
for what varies between individuals. It returns q (h, w): below 1 inside, 1 on the edge, above 1 outside.
"""

from collections.abc import Callable

import numpy as np

from pretext.data.toyworld.noise import Floats

Outline = Callable[[Floats, Floats, np.random.Generator], Floats]


def round_fruit(u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """Draw a disc with slight bumps; a dimple and a stem at the top come and go."""
    r = np.hypot(u, v)
    c = v / np.maximum(r, 1e-3)
    dimple = rng.uniform(0.0, 0.2) * np.exp((-1 - c) * rng.uniform(8, 20))
    wobble = rng.uniform(-0.05, 0.05) * (2 * c * c - 1) + rng.uniform(-0.04, 0.04) * u / np.maximum(r, 1e-3)
    q = r / (0.95 + wobble - dimple)
    if rng.random() < 0.5:
        stem = np.maximum(np.abs(u - 0.1 * v * rng.uniform(-1, 1)) / 0.06, np.abs(v + 0.95) / 0.2)
        q = np.minimum(q, stem)
    return q


def oval(u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """Draw an ellipse between a disc and an egg."""
    waist = rng.uniform(0.68, 1.0)
    q: Floats = np.hypot(u / (waist * (1 - rng.uniform(-0.15, 0.15) * v)), v)
    return q


def pointed_oval(u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """Draw an ellipse with a nub at both ends."""
    belly = rng.uniform(0.6, 0.78)
    body = np.hypot(u / 0.88, v / belly)
    # Flatter than the body, so that it shows at the ends only and leaves no crease in the shading.
    nub = 0.7 + 0.3 * np.maximum(np.abs(v) / rng.uniform(0.14, 0.22), np.abs(u))
    q: Floats = np.minimum(body, nub)
    return q


def blade(u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """Draw a pointed blade, fatter towards one end, with teeth on some individuals."""
    teeth = 1 + rng.choice([0.0, 0.06]) * np.sin(u * rng.uniform(18, 26))
    half = rng.uniform(0.5, 0.75) * np.maximum(1 - u * u, 0) ** 0.8 * (1 - rng.uniform(-0.1, 0.4) * u) * teeth
    q: Floats = np.maximum(1 + (np.abs(v) - half) / 0.8, np.abs(u))
    return q


def fish(u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """Draw an oval body with a forked tail at +u."""
    body = np.hypot((u + 0.22) / 0.76, v / rng.uniform(0.42, 0.62))
    spread = rng.uniform(0.06, 0.14) + rng.uniform(0.75, 1.1) * np.maximum(u - 0.42, 0)
    tail = np.maximum(np.abs(v) / spread, np.abs(u - 0.68) / (0.3 - 0.12 * (1 - np.abs(v))))
    q: Floats = np.minimum(body, tail)
    return q


def lobed(u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """Draw a disc with 5 to 9 round lobes, shallow or deep."""
    lobes = int(rng.integers(5, 10))
    depth = rng.uniform(0.12, 0.35)
    angle = np.arctan2(v, u)
    return np.hypot(u, v) / (1 - depth + depth * np.abs(np.cos(0.5 * lobes * angle)))


def upright_box(u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """Draw an upright rectangle with slightly rounded corners, sometimes tapered."""
    half = rng.uniform(0.55, 0.85) * np.maximum(1 + rng.uniform(-0.12, 0.12) * v, 0.3)
    x, y = np.abs(u) / half, np.abs(v) / 0.95
    return _rounded(x, y)


def bulged_box(u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """Draw an upright rectangle with bulging sides and bowed ends."""
    half = rng.uniform(0.58, 0.82) * np.maximum(1 - rng.uniform(0.05, 0.28) * v * v, 0.3)
    x, y = np.abs(u) / half, np.abs(v) / np.maximum(0.95 - 0.1 * u * u, 0.3)
    return _rounded(x, y)


def _rounded(x: Floats, y: Floats) -> Floats:
    """Return the larger of two non-negative coordinates, with the corner where they are equal rounded off."""
    return np.asarray((np.minimum(x, 4) ** 12 + np.minimum(y, 4) ** 12) ** (1 / 12), dtype=np.float32)
