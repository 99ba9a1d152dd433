"""The file of a photo in colour: its pixels, and what it keeps of the gray photo's file."""

import io
import struct

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from pretext.data.decoding import StoredPhoto

JPEG_QUALITY = 95
EXIF_START = b"Exif\0\0"
ORIENTATION_TAG = 0x0112
#: EXIF's number for a value of two bytes.
SHORT = 3
#: Where an ICC profile says of which colours it is.
PROFILE_COLORS = slice(16, 20)


class CannotWriteError(Exception):
    """A photo cannot be written in a format; the message says why, and does not repeat its name."""


def encode_photo(rgb: UInt8[Tensor, "3 h w"], photo: StoredPhoto, kind: str) -> bytes:
    """Encode a coloured photo with the opacity, EXIF data and ICC profile of the photo it was made of.

    The EXIF data stay as they are but for the orientation, which becomes upright, and the thumbnail, which would be
    gray, and is taken out. A profile that is not of RGB (of gray or CMYK) is left out, and so are damaged EXIF data.

    Args:
        rgb: sRGB pixels, upright.
        photo: The photo they were made of.
        kind: ``png``, or ``jpeg`` of quality `JPEG_QUALITY` without subsampling of colours.

    Raises:
        CannotWriteError: JPEG cannot hold it: it is transparent, its sides or its EXIF data are too long.
    """
    image = Image.fromarray(rgb.permute(1, 2, 0).contiguous().numpy())
    if photo.alpha is not None:
        if kind == "png":
            image.putalpha(photo.alpha)
        elif photo.alpha.getextrema() != (255, 255):
            raise CannotWriteError("it is transparent, which JPEG is not; choose PNG")
    kept: dict[str, bytes] = {}
    if photo.exif is not None and (exif := upright_exif(photo.exif)) is not None:
        kept["exif"] = exif
    if photo.profile is not None and photo.profile[PROFILE_COLORS] == b"RGB ":
        kept["icc_profile"] = photo.profile
    options = {"quality": JPEG_QUALITY, "subsampling": 0} if kind == "jpeg" else {}
    buffer = io.BytesIO()
    try:
        image.save(buffer, kind, **options, **kept)
    except (OSError, ValueError) as error:
        raise CannotWriteError(f"it does not fit into a {kind.upper()} file: {error}") from error
    return buffer.getvalue()


def upright_exif(exif: bytes) -> bytes | None:
    """Return EXIF data for the upright photo, without the thumbnail; None if they are damaged.

    All other bytes stay in their places, as the notes of cameras need it.
    """
    data = bytearray(exif.removeprefix(EXIF_START))
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            if struct.unpack_from(f"{order}H", data, entry) == (ORIENTATION_TAG,):
                struct.pack_into(f"{order}HHIHH", data, entry, ORIENTATION_TAG, SHORT, 1, 1, 0)
        # The place of the second directory, which describes the thumbnail.
        struct.pack_into(f"{order}I", data, start + 2 + 12 * count, 0)
    except struct.error:
        return None
    return EXIF_START + bytes(data)


def encode_entropy(entropy: Float[Tensor, "h w"], most: float, size: tuple[int, int]) -> bytes:
    """Encode a map of entropies as a gray PNG.

    Args:
        entropy: In bits, (h, w).
        most: The entropy that is white; 0 is black.
        size: Width and height of the picture in pixels.
    """
    gray = (entropy / most * 255).round().clamp(0, 255).to(torch.uint8)
    buffer = io.BytesIO()
    Image.fromarray(gray.numpy()).resize(size, Image.Resampling.BILINEAR).save(buffer, "png")
    return buffer.getvalue()
