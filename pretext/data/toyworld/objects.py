"""One toy object, from its class and pose to a patch of the photo."""

from dataclasses import dataclass
from math import cos, sin

import numpy as np

from pretext.data.toyworld.canvas import Canvas, Patch
from pretext.data.toyworld.classes import ColorMode, ToyClass
from pretext.data.toyworld.noise import TILE, Floats, NoiseBank, lookup
from pretext.data.toyworld.pigments import pigment
from pretext.data.toyworld.textures import Surface, smoothstep

#: Length of the longest shadow in pixels.
_SHADOW = 7

#: Range of the strength of an object's texture in lightness.
_CONTRAST = (0.1, 0.22)

#: Range of an object's mean lightness (sRGB gray), the same for all classes.
_LIGHTNESS = (0.36, 0.72)


@dataclass(frozen=True)
class Pose:
    """Where an object is: centre and half extent in pixels, angle in radians, stretch of u over v."""

    x: float
    y: float
    radius: float
    angle: float
    stretch: float = 1.0


@dataclass(frozen=True)
class Light:
    """Unit vector towards the light: x right, y down, z to the camera."""

    x: float
    y: float
    z: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Light":
        """Return a light from above, at 30 to 70 degrees from the line of sight."""
        side, tilt = rng.uniform(-2.6, -0.5), rng.uniform(0.5, 1.2)
        return cls(cos(side) * sin(tilt), sin(side) * sin(tilt), cos(tilt))


@dataclass(frozen=True)
class Studio:
    """What all objects of one photo share: the canvas they are painted on, noise, random numbers, light."""

    canvas: Canvas
    bank: NoiseBank
    rng: np.random.Generator
    light: Light


@dataclass(frozen=True)
class _Frame:
    """The rectangle of the photo that an object touches, and the object's coordinates there, (h, w)."""

    rows: slice
    columns: slice
    u: Floats
    v: Floats


def paint_object(studio: Studio, kind: ToyClass, pose: Pose, owner: int) -> int:
    """Paint an object of class `kind`, in one of its colour modes, with its shadow.

    Args:
        studio: the photo in the making; its canvas is changed.
        kind: class of the object.
        pose: where it is.
        owner: number of the object on the canvas.

    Returns:
        How many pixels of the photo it covers, before anything is painted over it.
    """
    rng = studio.rng
    frame = _frame(studio, pose)
    q = kind.outline(frame.u, frame.v, rng)
    edge = _distance(q)
    alpha = np.clip(0.5 - edge, 0, 1)
    surface = Surface(frame.u, frame.v, studio.bank, (rng.uniform(0, TILE), rng.uniform(0, TILE)))
    tone, accent = kind.texture(surface, rng)
    shade = _shading(q, kind.relief * pose.radius, studio.light)
    relief = _balanced(rng.uniform(*_CONTRAST) * tone + rng.uniform(0.12, 0.3) * shade, alpha)
    lightness = rng.uniform(*_LIGHTNESS) + relief
    mode = kind.modes[rng.integers(len(kind.modes))]
    _cast_shadow(studio, frame, edge)
    patch = Patch(frame.rows, frame.columns, alpha, lightness, _pigments(mode, accent, rng))
    return int(studio.canvas.paint(patch, owner).sum())


def paint_stone(studio: Studio, pose: Pose) -> None:
    """Paint a gray or brownish stone: clutter that belongs to no class."""
    rng, bank = studio.rng, studio.bank
    frame = _frame(studio, pose)
    corners = rng.uniform(2, 5)
    power = (np.abs(frame.u) ** corners + np.abs(frame.v) ** corners) ** (1 / corners)
    start = rng.uniform(TILE, 2 * TILE, size=3)
    q = power * (1 + 0.12 * lookup(bank.drift, frame.u * 40 + start[0], frame.v * 40 + TILE))
    edge = _distance(q)
    tile = (bank.soil, bank.pebbles, bank.clouds, bank.blades)[rng.integers(4)]
    texture = lookup(tile, frame.u * pose.radius + start[1], frame.v * pose.radius + start[2])
    shade = _shading(q, rng.uniform(0.2, 1) * pose.radius, studio.light)
    lightness = rng.uniform(*_LIGHTNESS) + rng.uniform(0.02, 0.1) * texture + rng.uniform(0.1, 0.25) * shade
    pigments = np.broadcast_to(pigment(rng.uniform(50, 90), rng.uniform(2, 12)), (*q.shape, 3))
    _cast_shadow(studio, frame, edge)
    alpha = np.clip(0.5 - edge, 0, 1)
    studio.canvas.paint(Patch(frame.rows, frame.columns, alpha, lightness, pigments), owner=0)


def _frame(studio: Studio, pose: Pose) -> _Frame:
    """Return the object's coordinates on the part of the photo it can touch, mirrored and slightly bent by chance."""
    height, width = studio.canvas.lightness.shape
    reach = pose.radius * 1.3 * max(pose.stretch, 1) + _SHADOW + 1
    top, bottom = max(int(pose.y - reach), 0), min(int(pose.y + reach) + 2, height)
    left, right = max(int(pose.x - reach), 0), min(int(pose.x + reach) + 2, width)
    dy = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(pose.y)
    dx = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(pose.x)
    across, along = np.float32(cos(pose.angle)), np.float32(sin(pose.angle))
    u = (dx * across + dy * along) / np.float32(pose.radius * pose.stretch)
    v = (dy * across - dx * along) / np.float32(pose.radius)
    if studio.rng.random() < 0.5:
        u = -u
    bend_u, bend_v = studio.rng.uniform(-0.12, 0.12, size=2).astype(np.float32)
    return _Frame(slice(top, bottom), slice(left, right), u + bend_u * v * v, v + bend_v * u * u)


def _distance(q: Floats) -> Floats:
    """Signed distance to the edge q = 1 in pixels, right near the edge; negative inside."""
    down, right = np.gradient(q)
    return np.asarray((q - 1) / np.maximum(np.hypot(down, right), 1e-4), dtype=np.float32)


def _shading(q: Floats, height: float, light: Light) -> Floats:
    """Lambert shading (h, w) in [-0.2, 1] of an object puffed up to a dome `height` pixels high."""
    dome = np.sqrt(np.maximum(1.1 - np.minimum(q, 1) ** 2, 0.02)) * np.float32(height)
    down, right = np.gradient(dome)
    facing = (light.z - light.x * right - light.y * down) / np.sqrt(1 + right * right + down * down)
    return np.asarray(np.clip(facing, -0.2, 1), dtype=np.float32)


def _balanced(tone: Floats, alpha: Floats) -> Floats:
    """`tone` with mean 0 over the object, so that texture does not tell the class by its mean lightness."""
    mean = float((tone * alpha).sum()) / max(float(alpha.sum()), 1.0)
    return tone - mean


def _pigments(mode: ColorMode, accent: Floats, rng: np.random.Generator) -> Floats:
    """Colours (h, w, 3) of one individual: hue and chroma vary a little, the accent goes with them."""
    turn, gain = rng.normal(0, 4), rng.uniform(0.8, 1.1)
    main = pigment(mode.hue + turn, mode.chroma * gain)
    second = pigment(mode.accent[0] + turn, mode.accent[1] * gain)
    return main + np.clip(accent, 0, 1)[..., None] * (second - main)


def _cast_shadow(studio: Studio, frame: _Frame, edge: Floats) -> None:
    """Darkens what lies behind the object, on the side away from the light."""
    length = studio.rng.uniform(1, _SHADOW)
    dy, dx = round(-studio.light.y * length), round(-studio.light.x * length)
    pad = _SHADOW + 1
    height, width = edge.shape
    moved = np.pad(edge, pad, mode="edge")[pad - dy : pad - dy + height, pad - dx : pad - dx + width]
    share = studio.rng.uniform(0.2, 0.5) * smoothstep(2.5, -1.5, moved)
    studio.canvas.darken(frame.rows, frame.columns, share)
