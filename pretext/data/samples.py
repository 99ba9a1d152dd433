"""Some photos spread over all: for checks, colour priors, previews and filters that fit photos."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int
from PIL import Image

from pretext.data.photos import Photos, UnreadablePhotoError, decode_rgb


def spread(num_photos: int, count: int) -> Int[np.ndarray, " n"]:
    """Return the numbers of ``count`` photos spread evenly over all, so that a sorted folder gives every kind.

    They are all of them if there are no more.
    """
    return np.linspace(0, num_photos - 1, min(count, num_photos), dtype=np.int64)


def some_photos(
    photos: Photos, count: int, unreadable: dict[str, str] | None = None
) -> Iterator[tuple[int, Image.Image]]:
    """Read some photos spread evenly over all; unreadable ones are passed over.

    Args:
        photos: Any photos.
        count: How many to try, at the most.
        unreadable: Takes the names of those that could not be read, with the reason.

    Yields:
        The number of each photo that can be read, and the photo in RGB.
    """
    for index in spread(len(photos), count).tolist():
        try:
            image = decode_rgb(photos.read(index))
        except (UnreadablePhotoError, OSError) as error:
            if unreadable is not None:
                unreadable[photos.name(index)] = str(error)
            continue
        yield index, image
