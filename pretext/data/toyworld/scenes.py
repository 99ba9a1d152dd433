"""Whole photos: a background, clutter, and one or several objects, some in front of others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pretext.data.toyworld.backgrounds import paint_background
from pretext.data.toyworld.canvas import VOID, Bytes, Canvas
from pretext.data.toyworld.classes import CLASSES
from pretext.data.toyworld.noise import NoiseBank
from pretext.data.toyworld.objects import Light, Pose, Studio, paint_object, paint_stone

#: An object of which fewer pixels show is void, not an object.
_FEWEST_PIXELS = 16

_DIFFICULT_SHARE = 0.4
_DIFFICULT_AREA = 0.012


@dataclass(frozen=True)
class SceneObject:
    """An object as it shows in the photo.

    Attributes:
        label: index of its class.
        box: (xmin, ymin, xmax, ymax) around its visible pixels, 0-based and inclusive.
        truncated: whether it touches the border of the photo.
        difficult: whether it is very small or mostly hidden.
    """

    label: int
    box: tuple[int, int, int, int]
    truncated: bool
    difficult: bool


@dataclass(frozen=True)
class Scene:
    """A photo and what is in it.

    Attributes:
        image: (H, W, 3) uint8 sRGB.
        owners: (H, W) uint8: 0 background, k the object `objects[k - 1]`, 255 the void around objects.
        objects: the visible objects.
    """

    image: Bytes
    owners: Bytes
    objects: tuple[SceneObject, ...]

    @property
    def class_mask(self) -> Bytes:
        """(H, W) uint8: 0 background, label + 1, 255 void."""
        table = np.full(256, VOID, dtype=np.uint8)
        table[: len(self.objects) + 1] = [0, *(item.label + 1 for item in self.objects)]
        return table[self.owners]


def render_scene(
    bank: NoiseBank, rng: np.random.Generator, size: tuple[int, int], labels: Sequence[int]
) -> Scene:
    """Render one photo.

    Args:
        bank: noise to read.
        rng: generator of this photo; it alone decides what the photo looks like.
        size: (H, W) in pixels.
        labels: classes of the objects, indices into `CLASSES`. A single object is large and near the middle.

    Returns:
        The photo, with the objects of which at least 16 pixels show.
    """
    height, width = size
    canvas = Canvas(*paint_background(bank, rng, height, width))
    studio = Studio(canvas, bank, rng, Light.draw(rng))
    for _ in range(rng.integers(0, 4)):
        paint_stone(studio, _clutter_pose(rng, height, width))
    poses = _poses(rng, height, width, len(labels))
    covered = [
        paint_object(studio, CLASSES[label], pose, owner)
        for owner, (label, pose) in enumerate(zip(labels, poses, strict=True), start=1)
    ]
    if rng.random() < 0.3:
        paint_stone(studio, _clutter_pose(rng, height, width))
    objects, owners = _visible(canvas.owners, labels, covered)
    return Scene(canvas.develop(bank, rng), owners, objects)


def _clutter_pose(rng: np.random.Generator, height: int, width: int) -> Pose:
    """Return a small thing anywhere."""
    radius = min(height, width) * rng.uniform(0.03, 0.13)
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    return Pose(x, y, radius, rng.uniform(0, np.pi), rng.uniform(0.6, 1.7))


def _poses(rng: np.random.Generator, height: int, width: int, count: int) -> list[Pose]:
    """Poses that overlap a little at most, unless ten tries cannot find one."""
    side = min(height, width)
    poses: list[Pose] = []
    for _ in range(count):
        radius = side * (rng.uniform(0.24, 0.45) if count == 1 else rng.uniform(0.13, 0.33))
        if count > 1 and rng.random() < 0.08:
            radius = side * rng.uniform(0.05, 0.08)
        spread = 0.24 if count == 1 else 0.7
        for _ in range(10):
            x = width * (0.5 + spread * rng.uniform(-0.5, 0.5))
            y = height * (0.5 + spread * rng.uniform(-0.5, 0.5))
            if all(np.hypot(x - p.x, y - p.y) > 0.75 * (radius + p.radius) for p in poses):
                break
        angle = rng.normal(0, 0.4) + np.pi * (rng.random() < 0.15)
        poses.append(Pose(x, y, radius, angle, rng.uniform(0.8, 1.2)))
    return poses


def _visible(
    owners: Bytes, labels: Sequence[int], covered: Sequence[int]
) -> tuple[tuple[SceneObject, ...], Bytes]:
    """Return the objects that show, renumbered from 1, and the owners in that numbering."""
    height, width = owners.shape
    table = np.full(256, VOID, dtype=np.uint8)
    table[0] = 0
    objects: list[SceneObject] = []
    for owner, (label, area) in enumerate(zip(labels, covered, strict=True), start=1):
        rows, columns = np.nonzero(owners == owner)
        if len(rows) < _FEWEST_PIXELS:
            continue
        box = int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())
        truncated = box[0] == 0 or box[1] == 0 or box[2] == width - 1 or box[3] == height - 1
        difficult = len(rows) < max(_DIFFICULT_SHARE * area, _DIFFICULT_AREA * height * width)
        objects.append(SceneObject(label, box, truncated, difficult))
        table[owner] = len(objects)
    return tuple(objects), table[owners]
