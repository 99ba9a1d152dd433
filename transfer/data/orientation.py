"""Which pixels boxes and masks belong to where a photo's EXIF data turn it (docs/data.md, "Orientation").

They belong to the stored pixels: the tools that made VOC's annotations, the Semantic Boundaries Dataset and selective
search ignore EXIF. Newer annotation tools show photos upright. Where that makes width and height change places, the
size beside the boxes, or that of the mask, says so.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from pretext.data.decoding import PhotoHeader
from pretext.distributed import rank_and_world_size
from pretext.errors import InputError
from pretext.progress import LOG


def belongs_upright(header: PhotoHeader, size: tuple[int | float, int | float]) -> bool | None:
    """Return whether boxes or a mask belong to the upright photo (True) or to the stored pixels (False).

    Args:
        header: The photo's.
        size: Width and height that the boxes' annotation names, or those of the mask.

    Returns:
        False too where both have that size; None where neither has it.
    """
    if size == header.size:
        return False
    return True if size == header.upright_size else None


def other_size(
    drawn: Path, photo: Path, header: PhotoHeader, size: tuple[int | float, int | float]
) -> InputError:
    """Make the error of an annotation or a mask whose size is neither of the photo's."""
    sizes = dict.fromkeys((header.size, header.upright_size))
    return InputError(
        f"{drawn} belongs to another photo than {photo}: its size differs",
        received=_shown(size),
        allowed=[_shown(each) for each in sizes],
    )


def _shown(size: tuple[int | float, int | float]) -> str:
    return f"{size[0]:g} x {size[1]:g}"


def tell_assumed(headers: Iterable[PhotoHeader]) -> None:
    """Say, in the log and on stderr, how many photos are turned without a size that tells what was drawn on."""
    count = sum(header.orientation != 1 and header.size == header.upright_size for header in headers)
    if count:
        line = (
            f"{count} photos have an EXIF orientation that leaves their size as it is: their boxes and masks are taken"
            " to belong to the stored pixels (docs/data.md, Orientation)"
        )
        LOG.info(line)
        if rank_and_world_size()[0] == 0:
            print(line, file=sys.stderr)
