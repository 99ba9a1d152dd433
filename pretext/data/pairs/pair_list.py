"""Two pictures that belong together as one photo: the first on the left, the second on the right, both of one size.

So a pair goes through the workers and the engine like any photo. What cuts it must not cut through the middle:
`PairCrop` is the view to configure, and `halves` refuses batches that another view has cut.
"""

import os
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from pretext.data.decoding import UnreadablePhotoError, read_rgb
from pretext.errors import InputError
from pretext.files import is_file, read_lines


def halves(
    image: UInt8[Tensor, "n 3 size width"],
) -> tuple[UInt8[Tensor, "n 3 size size"], UInt8[Tensor, "n 3 size size"]]:
    """Return the first and the second pictures of a batch of pairs.

    Raises:
        InputError: The batch is not twice as wide as it is high.
    """
    height, width = image.shape[2:]
    if width != 2 * height:
        raise InputError(
            "pairs were cut by a view for single photos",
            received=f"{height}x{width} pixels",
            allowed="pairs are twice as wide as high; configure view=dict(type='PairCrop', size=..., resize=...)",
        )
    return image[..., :height], image[..., height:]


def side_by_side(first: Image.Image, second: Image.Image) -> Image.Image:
    """Join two RGB pictures of one size to a pair."""
    joined = Image.new("RGB", (first.width + second.width, first.height))
    joined.paste(first, (0, 0))
    joined.paste(second, (first.width, 0))
    return joined


class PairList:
    """A list with a pair of pictures per line and numbers about them, offered as photos; empty lines are passed over.

    Args:
        path: The list, in UTF-8; its paths are relative to its own folder and have no blanks or tabs.

    Attributes:
        kind: What the pairs are, a name of `pretext.data.photos.KINDS`.
        form: What a line holds: words that end in .jpg stand for the paths of pictures (of any format that is read),
            the others for numbers.
        numbers: The numbers of each line in their order, (lines, numbers per line).

    Raises:
        InputError: The list is not text; or a line has too few or too many words, a number that is not finite, or a
            file that does not exist. The message has the line's number.
    """

    kind: ClassVar[str]
    form: ClassVar[str]

    def __init__(self, path: Path):
        # Bytes are split at blanks and tabs alone; a text also at signs that names of files may have.
        lines = [
            (number, b" ".join(os.fsencode(line).split())) for number, line in enumerate(read_lines(path), 1)
        ]
        lines = [(number, line) for number, line in lines if line]
        self.path = path
        # Arrays instead of lists of objects: worker processes share them without copying.
        self._line_numbers = np.array([number for number, _ in lines], dtype=np.int64)
        self._lines = np.array([line for _, line in lines], dtype=np.bytes_)
        self.numbers: Float[np.ndarray, "n k"] = np.array(
            [self._parse(index) for index in range(len(lines))], dtype=np.float64
        ).reshape(len(lines), len(self.form.split()) - len(self._files()))

    def __len__(self) -> int:
        return len(self._lines)

    def name(self, index: int) -> str:
        """Return the pair's line behind the list's folder."""
        return f"{self.path.parent}/{self.key(index)}"

    def key(self, index: int) -> str:
        """Return the pair's line, with one blank between two words."""
        return os.fsdecode(bytes(self._lines[index]))

    def image(self, index: int) -> Image.Image:
        """Return both pictures side by side.

        Raises:
            UnreadablePhotoError: A file cannot be read or decoded.
            InputError: The line does not fit the pictures.
        """
        words = self._words(index)
        first, second = (self._picture(words[place]) for place in self._files())
        return side_by_side(*self.pictures(index, first, second))

    def pictures(
        self, index: int, first: Image.Image, second: Image.Image
    ) -> tuple[Image.Image, Image.Image]:
        """Return what is shown of the two pictures of a line: two of one size."""
        raise NotImplementedError

    def where(self, index: int) -> str:
        """Return the list and the number of the line, for messages."""
        return f"{self.path}, line {self._line_numbers[index]}"

    @classmethod
    def _files(cls) -> list[int]:
        return [place for place, word in enumerate(cls.form.split()) if word.endswith(".jpg")]

    def _words(self, index: int) -> list[str]:
        return self.key(index).split(" ")

    def _picture(self, name: str) -> Image.Image:
        try:
            # The numbers of a line belong to the stored pixels.
            return read_rgb(self.path.parent / name, upright=False)
        except UnreadablePhotoError as error:
            raise UnreadablePhotoError(f"{name}: {error}") from error

    def _parse(self, index: int) -> list[float]:
        words, files, where = self._words(index), self._files(), self.where(index)
        if len(words) != len(self.form.split()):
            raise InputError(
                f"{where} has {len(words)} words",
                received=self.key(index),
                allowed=f"a line reads {self.form}",
            )
        for place in files:
            if not is_file(self.path.parent / words[place]):
                raise InputError(
                    f"{where} names a file that does not exist",
                    received=words[place],
                    allowed="write paths relative to the list's own folder, without blanks",
                )
        return [self._number(where, word) for place, word in enumerate(words) if place not in files]

    def _number(self, where: str, word: str) -> float:
        try:
            number = float(word)
        except ValueError:
            number = np.nan
        if not np.isfinite(number):
            raise InputError(
                f"{where} has a word that is not a finite number",
                received=word,
                allowed=f"a line reads {self.form}",
            )
        return number
