"""The photo whose colours others are given. torch is not imported here."""

from dataclasses import dataclass, field
from hashlib import sha256
from math import ceil, sqrt
from pathlib import Path

from pretext.errors import InputError

#: Most pixels of a reference that are looked at, evenly chosen; its histograms need no more.
MAX_LOOKED_AT = 1 << 14
#: In a gray photo no pixel's channels differ by more than this, of 255: JPEG leaves a little colour in one.
GRAY = 8


@dataclass(frozen=True)
class Reference:
    """A photo in colour that others are coloured like.

    Attributes:
        sha256: Hash of its file.
        rgb: Some of its pixels that can be seen, three bytes each.
    """

    sha256: str
    rgb: bytes = field(compare=False, repr=False)


def open_reference(path: str) -> Reference:
    """Read a reference photo's file; see `read_reference`.

    Raises:
        InputError: The file cannot be read, or is not a photo in colour.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read the reference: {error.strerror or error}", received=path, allowed="name a photo"
        ) from error
    return read_reference(data, path)


def read_reference(data: bytes, name: str) -> Reference:
    """Decode a reference photo: a JPEG, PNG or WebP file of any mode.

    Transparent pixels do not count: a pixel must be half opaque.

    Args:
        data: The photo's file.
        name: What it is called in errors.

    Raises:
        InputError: It cannot be decoded, is gray, or nothing of it can be seen.
    """
    # Imported here: it brings NumPy and Pillow.
    import numpy as np
    from PIL.Image import Image, Resampling

    from pretext.data.decoding import UnreadablePhotoError, decode_stored

    try:
        photo = decode_stored(data)
    except UnreadablePhotoError as error:
        raise InputError(
            f"cannot read the reference: {error}", received=name, allowed="name another"
        ) from error
    step = ceil(sqrt(photo.rgb.width * photo.rgb.height / MAX_LOOKED_AT))

    def looked_at(image: Image) -> Image:
        size = (max(1, image.width // step), max(1, image.height // step))
        # Averages of pixels would be grayer than they are.
        return image.resize(size, Resampling.NEAREST)

    pixels = np.asarray(looked_at(photo.rgb)).reshape(-1, 3)
    if photo.alpha is not None:
        pixels = pixels[np.asarray(looked_at(photo.alpha)).flatten() >= 128]
    if not len(pixels):
        raise InputError("the reference is transparent", received=name, allowed="name a photo in colour")
    if np.ptp(pixels, 1).max() <= GRAY:
        raise InputError("the reference is gray", received=name, allowed="name a photo in colour")
    return Reference(sha256(data).hexdigest(), pixels.tobytes())
