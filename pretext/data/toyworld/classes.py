"""The ten toy classes: outline, texture and colours of each, in one table.

A class is told by outline and texture together: apple, orange, melon and beetle have a round outline, lemon,
leaf and fish a pointed one, chimney and barrel an upright one; orange and lemon share a texture. Colours follow
from the class, with one or two modes.
"""

from dataclasses import dataclass

from pretext.data.toyworld import outlines, textures


@dataclass(frozen=True)
class ColorMode:
    """One way a class can be coloured.

    Attributes:
        name: the colour in English.
        hue: hue angle in the CIE ab plane, degrees.
        chroma: CIE chroma at L = 55, before per-object variation.
        accent: (hue, chroma) of what the texture marks as accent, such as mortar or spots.
    """

    name: str
    hue: float
    chroma: float
    accent: tuple[float, float]


@dataclass(frozen=True)
class ToyClass:
    """A kind of object. `relief` in [0, 1] is how round it is shaded: 0 flat, 1 a ball."""

    name: str
    outline: outlines.Outline
    texture: textures.Texture
    relief: float
    modes: tuple[ColorMode, ...]


CLASSES = (
    ToyClass(
        "apple",
        outlines.round_fruit,
        textures.glossy_skin,
        1.0,
        (ColorMode("red", 32.0, 58.0, (70.0, 25.0)), ColorMode("green", 122.0, 52.0, (80.0, 25.0))),
    ),
    ToyClass(
        "barrel",
        outlines.bulged_box,
        textures.planks,
        0.6,
        (ColorMode("brown", 66.0, 34.0, (265.0, 8.0)),),
    ),
    ToyClass(
        "beetle",
        outlines.oval,
        textures.spots,
        0.9,
        (ColorMode("blue", 285.0, 50.0, (280.0, 8.0)), ColorMode("crimson", 14.0, 52.0, (20.0, 8.0))),
    ),
    ToyClass(
        "chimney",
        outlines.upright_box,
        textures.brick_courses,
        0.15,
        (ColorMode("terracotta", 44.0, 42.0, (80.0, 8.0)),),
    ),
    ToyClass(
        "fish",
        outlines.fish,
        textures.scales,
        0.7,
        (ColorMode("turquoise", 215.0, 34.0, (225.0, 12.0)), ColorMode("gold", 74.0, 62.0, (88.0, 30.0))),
    ),
    ToyClass(
        "flower",
        outlines.lobed,
        textures.petals,
        0.3,
        (ColorMode("violet", 312.0, 52.0, (88.0, 60.0)), ColorMode("pink", 352.0, 48.0, (88.0, 60.0))),
    ),
    ToyClass(
        "leaf",
        outlines.blade,
        textures.veins,
        0.25,
        (ColorMode("green", 134.0, 48.0, (115.0, 30.0)), ColorMode("autumn", 52.0, 62.0, (85.0, 50.0))),
    ),
    ToyClass(
        "lemon",
        outlines.pointed_oval,
        textures.pebbled_peel,
        0.9,
        (ColorMode("yellow", 97.0, 62.0, (97.0, 66.0)),),
    ),
    ToyClass(
        "melon",
        outlines.oval,
        textures.meridian_stripes,
        0.9,
        (ColorMode("green", 146.0, 40.0, (115.0, 34.0)),),
    ),
    ToyClass(
        "orange",
        outlines.round_fruit,
        textures.pebbled_peel,
        1.0,
        (ColorMode("orange", 60.0, 66.0, (66.0, 66.0)),),
    ),
)

#: Names of the classes in index order; a mask shows class i as i + 1.
TOY_CLASSES = tuple(toy_class.name for toy_class in CLASSES)
