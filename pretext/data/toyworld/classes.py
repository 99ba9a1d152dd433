"""The ten toy classes: outline, texture and colours of each, in one table.

A class is told by outline and texture together: apple, orange, melon and beetle share a round outline, lemon, leaf and
fish a pointed one, chimney and barrel an upright one; orange and lemon share a texture. Colours follow from the class,
with one or two modes, and no mode is shared by the classes of one outline.
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
        (ColorMode("red", 32, 58, (70, 25)), ColorMode("green", 122, 52, (80, 25))),
    ),
    ToyClass(
        "barrel",
        outlines.bulged_box,
        textures.planks,
        0.6,
        (ColorMode("brown", 66, 34, (265, 8)),),
    ),
    ToyClass(
        "beetle",
        outlines.oval,
        textures.spots,
        0.9,
        (ColorMode("blue", 285, 50, (280, 8)), ColorMode("crimson", 14, 52, (20, 8))),
    ),
    ToyClass(
        "chimney",
        outlines.upright_box,
        textures.brick_courses,
        0.15,
        (ColorMode("terracotta", 44, 42, (80, 8)),),
    ),
    ToyClass(
        "fish",
        outlines.fish,
        textures.scales,
        0.7,
        (ColorMode("turquoise", 215, 34, (225, 12)), ColorMode("gold", 74, 62, (88, 30))),
    ),
    ToyClass(
        "flower",
        outlines.lobed,
        textures.petals,
        0.3,
        (ColorMode("violet", 312, 52, (88, 60)), ColorMode("pink", 352, 48, (88, 60))),
    ),
    ToyClass(
        "leaf",
        outlines.blade,
        textures.veins,
        0.25,
        (ColorMode("green", 134, 48, (115, 30)), ColorMode("autumn", 52, 62, (85, 50))),
    ),
    ToyClass(
        "lemon",
        outlines.pointed_oval,
        textures.pebbled_peel,
        0.9,
        (ColorMode("yellow", 97, 62, (97, 66)),),
    ),
    ToyClass(
        "melon",
        outlines.oval,
        textures.meridian_stripes,
        0.9,
        (ColorMode("green", 146, 40, (115, 34)),),
    ),
    ToyClass(
        "orange",
        outlines.round_fruit,
        textures.pebbled_peel,
        1.0,
        (ColorMode("orange", 60, 66, (66, 66)),),
    ),
)

TOY_CLASSES = tuple(toy_class.name for toy_class in CLASSES)
"""Names of the classes in index order; a mask shows class i as i + 1."""
