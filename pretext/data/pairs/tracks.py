"""Tracks of objects, from a list: a patch and the object's patch some frames later, as photos of both side by side."""

from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from PIL import Image

from pretext.data.pairs.pair_list import PairList
from pretext.errors import InputError

#: The side in pixels to which patches are resized; Wang and Gupta's have 227.
PATCH_SIDE = 224
#: Both frames, and where in them the object is: pixels, 0-based and continuous.
TRACK_FORM = "first.jpg x1 y1 x2 y2 last.jpg x1 y1 x2 y2"


class Tracks(PairList):
    """Tracks, each line of the list a frame with a box and a later frame with a box; see `PairList`.

    A box is left, top, right and bottom in pixels of the frame as it is stored. The two patches are shown, resized to
    squares of 224 pixels. `image` also raises InputError where a box leaves its frame.

    Raises:
        InputError: As for `PairList`; or a box has no area or begins outside the frame.
    """

    kind: ClassVar[str] = "tracks"
    form: ClassVar[str] = TRACK_FORM

    def __init__(self, path: Path):
        super().__init__(path)
        starts, ends = self.boxes[..., :2], self.boxes[..., 2:]
        for index in np.flatnonzero(((starts < 0) | (ends <= starts)).any((1, 2))).tolist()[:1]:
            raise InputError(
                f"{self.where(index)}: a box has no area or begins outside its frame",
                received=self.key(index),
                allowed="0 <= x1 < x2 and 0 <= y1 < y2",
            )

    @property
    def boxes(self) -> Float[np.ndarray, "n 2 4"]:
        """The boxes of every track, in the first and in the last frame: x1, y1, x2, y2."""
        return self.numbers.reshape(-1, 2, 4)

    def pictures(
        self, index: int, first: Image.Image, second: Image.Image
    ) -> tuple[Image.Image, Image.Image]:
        """Return both patches as squares of one size."""
        boxes = self.boxes[index]
        return self._patch(index, first, boxes[0]), self._patch(index, second, boxes[1])

    def _patch(self, index: int, frame: Image.Image, box: Float[np.ndarray, "4"]) -> Image.Image:
        if box[2] > frame.width or box[3] > frame.height:
            raise InputError(
                f"{self.where(index)}: a box leaves its frame",
                received=" ".join(f"{side:g}" for side in box),
                allowed=f"the frame has {frame.width}x{frame.height} pixels",
            )
        return frame.resize((PATCH_SIDE, PATCH_SIDE), Image.Resampling.BILINEAR, box=tuple(box.tolist()))
