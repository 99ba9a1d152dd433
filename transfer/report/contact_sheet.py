"""A sheet of photos: pixel by pixel as they are, with headings, names and notes."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from transfer.report.pictures import GRAY, drawing, png_of

#: Width of a sheet at the most, and the sides between which its photos are kept, in pixels.
_WIDTH, _SIDES = 1280, (96, 200)
#: In pixels: between photos; below a strip's note or before one that begins something new; of a line of text.
_GAP, _BREAK, _LINE = 6, 20, 17
#: Width of a letter in pixels, about.
_LETTER = 6.2
_DPI = 100


@dataclass(frozen=True)
class Tile:
    """A photo in a sheet, and a note below it."""

    photo: UInt8[Tensor, "3 height width"]
    note: str = ""


@dataclass(frozen=True)
class Strip:
    """A line of a sheet.

    Attributes:
        name: Stands at its left, upwards.
        tiles: One a column.
        begins: Whether a larger gap parts it from the line above.
    """

    name: str
    tiles: Sequence[Tile]
    begins: bool = False


def contact_sheet(headings: Sequence[str], strips: Sequence[Strip]) -> str:
    """Draw a sheet.

    Args:
        headings: What stands above the columns; none for no headings.
        strips: The lines, at least one.

    Returns:
        The data URL of a PNG file, at most 1280 pixels wide. Photos are 96 to 200 pixels long, and shrink further only
        where there are too many columns.
    """
    columns = max(len(strip.tiles) for strip in strips)
    longest = max(max(tile.photo.shape[1:]) for strip in strips for tile in strip.tiles)
    side = min(max(longest, _SIDES[0]), _SIDES[1], (_WIDTH - _LINE - _GAP) // columns - _GAP)
    letters = int(side / _LETTER)
    wrapped = [textwrap.wrap(_printable(heading), letters) for heading in headings]
    top = _LINE * max(map(len, wrapped), default=0) + _GAP
    tops, bottom = [], top
    for strip in strips:
        bottom += _BREAK if strip.begins else 0
        tops.append(bottom)
        bottom += side + _GAP + (_LINE if any(tile.note for tile in strip.tiles) else 0)
    lefts = [_LINE + _GAP + column * (side + _GAP) for column in range(columns)]
    with drawing("sheet"):
        # Half a pixel more, as matplotlib cuts off fractions.
        size = [(pixels + 0.5) / _DPI for pixels in (lefts[-1] + side + _GAP, bottom)]
        figure = Figure(figsize=(size[0], size[1]), dpi=_DPI)
        for left, lines in zip(lefts, wrapped, strict=False):
            _write(figure, left + side / 2, top - _GAP, "\n".join(lines), ha="center", va="bottom")
        for strip, y in zip(strips, tops, strict=True):
            name = _cut(strip.name, letters)
            _write(figure, _LINE, y + side / 2, name, rotation=90, ha="right", va="center")
            for tile, x in zip(strip.tiles, lefts, strict=False):
                _place(figure, tile, x, bottom - y, side)
                note = _cut(tile.note, letters)
                _write(figure, x + side / 2, y + side + 3, note, ha="center", va="top", color=GRAY)
        return png_of(figure)


def _write(figure: Figure, x: int | float, y: int | float, text: str, **style: Any) -> None:
    """Write at a place counted in pixels from the upper left corner."""
    width, height = figure.get_size_inches() * _DPI
    figure.text(x / width, 1 - y / height, text, fontsize=7.5, parse_math=False, **style)


def _place(figure: Figure, tile: Tile, x: int, top: int, side: int) -> None:
    """Draw a photo in the middle of a square, as large as it allows, whose upper edge is ``top`` pixels from below."""
    photo = Image.fromarray(tile.photo.permute(1, 2, 0).numpy())
    scale = side / max(photo.size)
    width, height = (max(1, round(length * scale)) for length in photo.size)
    pixels = np.array(photo.resize((width, height), Image.Resampling.LANCZOS))
    figure.figimage(pixels, x + (side - width) // 2, top - (side + height) // 2, origin="upper")


def _cut(text: str, letters: int) -> str:
    """Return a text of at most so many letters: long names differ at their ends."""
    text = _printable(text)
    return text if len(text) <= letters else f"…{text[len(text) - letters + 1 :]}"


def _printable(text: str) -> str:
    """Return a text without the bytes of names that are not UTF-8."""
    return text.encode(errors="replace").decode()
