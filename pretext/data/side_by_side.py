"""Two pictures that belong together as one photo: the first on the left, the second on the right, both of one size.

So a pair goes through the workers and the engine like any photo. What cuts it must not cut through the middle:
`PairCrop` is the view to configure, and `halves` refuses batches that another view has cut.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from pretext.data.photos import decode_rgb
from pretext.data.views import resize_shorter_side, to_tensor
from pretext.errors import InputError


@dataclass(frozen=True)
class PairCrop:
    """Resize both pictures of a pair and crop both at the same random place.

    There is no mirroring: it would change the direction of a motion. A method for which that is no matter mirrors
    itself.

    Attributes:
        size: Side of the square crops in pixels.
        resize: Length of each picture's shorter side before cropping, in pixels; at least ``size``.
    """

    size: int
    resize: int

    def __post_init__(self) -> None:
        if not 0 < self.size <= self.resize:
            raise InputError(
                f"a crop needs 0 < size <= resize: received size={self.size}, resize={self.resize}"
            )

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Tensor:
        """A view (3, size, 2 size) uint8 of a pair."""
        middle = image.width // 2
        pictures = [
            resize_shorter_side(image.crop(box), self.resize)
            for box in ((0, 0, middle, image.height), (middle, 0, 2 * middle, image.height))
        ]
        left, top = (
            int(draw * (side - self.size + 1))
            for draw, side in zip(rng.random(2), pictures[0].size, strict=True)
        )
        view = Image.new("RGB", (2 * self.size, self.size))
        for number, picture in enumerate(pictures):
            view.paste(picture.crop((left, top, left + self.size, top + self.size)), (number * self.size, 0))
        return to_tensor(view)


def halves(
    image: UInt8[Tensor, "n 3 size width"],
) -> tuple[UInt8[Tensor, "n 3 size size"], UInt8[Tensor, "n 3 size size"]]:
    """The two pictures of each pair of a batch.

    Raises:
        InputError: The batch is not twice as wide as it is high.
    """
    height, width = image.shape[2:]
    if width != 2 * height:
        raise InputError(
            f"pairs were cut by a view for single photos: received {height}x{width} pixels, expected twice as wide as"
            " high; configure view=dict(type=PairCrop, size=..., resize=...)"
        )
    return image[..., :height], image[..., height:]


def side_by_side(first: Image.Image, second: Image.Image) -> bytes:
    """Both RGB pictures, which must have the same size, as one PNG file, not compressed."""
    joined = Image.new("RGB", (first.width + second.width, first.height))
    joined.paste(first, (0, 0))
    joined.paste(second, (first.width, 0))
    buffer = io.BytesIO()
    joined.save(buffer, format="PNG", compress_level=0)
    return buffer.getvalue()


class PairList:
    """A list with a pair of pictures a line and numbers about them, offered as photos; empty lines are passed over.

    Args:
        path: The list, in UTF-8; its paths are relative to its own folder and have no blanks.

    Attributes:
        form: What stands in a line: words that end in .jpg stand for the paths of pictures (of any kind that is read),
            the others for numbers.
        numbers: The numbers of each line in their order, (lines, numbers of a line).

    Raises:
        InputError: The list is no text; or a line has too few or too many words, what is no finite number, or a file
            that does not exist: the message has the line's number.
    """

    form: ClassVar[str]

    def __init__(self, path: Path):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not a list of pairs: it is no text in UTF-8 ({error})") from error
        lines = [(number, " ".join(line.split())) for number, line in enumerate(text.splitlines(), 1)]
        lines = [(number, line) for number, line in lines if line]
        self.path = path
        # Arrays instead of lists of objects: worker processes share them without copying.
        self._line_numbers = np.array([number for number, _ in lines], dtype=np.int64)
        self._lines = np.array([line.encode() for _, line in lines], dtype=np.bytes_)
        self.numbers: Float[np.ndarray, "n k"] = np.array(
            [self._parse(index) for index in range(len(lines))], dtype=np.float64
        ).reshape(len(lines), len(self.form.split()) - len(self._files()))

    def __len__(self) -> int:
        return len(self._lines)

    def name(self, index: int) -> str:
        """The pair's line behind the list's folder."""
        return f"{self.path.parent}/{self.line(index)}"

    def line(self, index: int) -> str:
        """The pair's line, with one blank between two words."""
        return bytes(self._lines[index]).decode()

    def read(self, index: int) -> bytes:
        """Both pictures side by side; see `side_by_side`.

        Raises:
            OSError: A file cannot be read.
            UnreadablePhotoError: A file is no photo.
            InputError: The line does not fit the pictures.
        """
        words = self.line(index).split()
        first, second = (
            # The numbers of a line belong to the stored pixels.
            decode_rgb((self.path.parent / words[place]).read_bytes(), upright=False)
            for place in self._files()
        )
        return side_by_side(*self.pictures(index, first, second))

    def pictures(
        self, index: int, first: Image.Image, second: Image.Image
    ) -> tuple[Image.Image, Image.Image]:
        """What is shown of the two pictures of a line: two of one size."""
        raise NotImplementedError

    def where(self, index: int) -> str:
        """The list and the number of the line, for messages."""
        return f"{self.path}, line {self._line_numbers[index]}"

    @classmethod
    def _files(cls) -> list[int]:
        return [place for place, word in enumerate(cls.form.split()) if word.endswith(".jpg")]

    def _parse(self, index: int) -> list[float]:
        words, files = self.line(index).split(), self._files()
        if len(words) != len(self.form.split()):
            raise InputError(
                f"{self.where(index)}: received {len(words)} words, {self.line(index)!r}, expected {self.form!r}"
            )
        for place in files:
            if not (self.path.parent / words[place]).is_file():
                raise InputError(
                    f"{self.where(index)}: {words[place]} does not exist; write paths relative to the list's own"
                    " folder, without blanks"
                )
        try:
            numbers = [float(word) for place, word in enumerate(words) if place not in files]
        except ValueError as error:
            raise InputError(f"{self.where(index)}: {error}; expected {self.form!r}") from error
        if not np.isfinite(numbers).all():
            raise InputError(f"{self.where(index)}: received {self.line(index)!r}, expected finite numbers")
        return numbers
