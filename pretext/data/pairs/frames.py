"""Pairs of frames with the camera's motion between them, from a list, as photos of both side by side."""

from typing import ClassVar

from jaxtyping import Float
from numpy import ndarray
from PIL import Image

from pretext.data.pairs.pair_list import PairList
from pretext.errors import InputError

#: The camera's motion from the first frame to the second, in the order in which a line has it.
MOTION = ("dx", "dy", "rotation")


class FramePairs(PairList):
    """Pairs of frames, each line of the list ``first.jpg second.jpg dx dy rotation``; see `PairList`.

    The motion may be in any unit, the same in all lines: metres, degrees, or pixels of the whole frame. `image` also
    raises InputError where the two frames differ in size.
    """

    kind: ClassVar[str] = "frames"
    form: ClassVar[str] = f"first.jpg second.jpg {' '.join(MOTION)}"

    @property
    def motions(self) -> Float[ndarray, "n 3"]:
        """The camera's motion of every pair: dx, dy and rotation."""
        return self.numbers

    def pictures(
        self, index: int, first: Image.Image, second: Image.Image
    ) -> tuple[Image.Image, Image.Image]:
        """Return both frames, which must have the same size."""
        if first.size != second.size:
            raise InputError(
                f"{self.where(index)}: the frames differ in size",
                received=f"{first.width}x{first.height} and {second.width}x{second.height}",
                allowed="both frames of a pair come from one camera",
            )
        return first, second
