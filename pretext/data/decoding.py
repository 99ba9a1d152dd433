"""From a photo's bytes to upright RGB."""

import io

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})

#: What turns a photo upright, by its EXIF orientation.
TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadablePhotoError(Exception):
    """A photo's bytes could not be decoded."""


def decode_rgb(data: bytes) -> Image.Image:
    """Decode a photo of any mode to upright 8-bit RGB.

    16-bit values are scaled to 8 bits, gray and CMYK are converted, what is transparent is laid over white,
    and the EXIF orientation is applied; a photo whose EXIF data are damaged stays as it is.

    Raises:
        UnreadablePhotoError: The bytes are no photo, or it is cut short or damaged.
    """
    try:
        with Image.open(io.BytesIO(data)) as opened:
            opened.load()
            return _to_rgb(_upright(opened))
    # Damaged files raise nearly anything in Pillow: OSError, SyntaxError, EOFError, TypeError, struct.error, ...
    except Exception as error:
        raise UnreadablePhotoError(str(error) or type(error).__name__) from error


def _upright(image: Image.Image) -> Image.Image:
    # ImageOps.exif_transpose also writes the EXIF data anew, which fails where any entry of them is damaged.
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        return image
    return image.transpose(TO_UPRIGHT[orientation]) if orientation in TO_UPRIGHT else image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I") or image.mode == "F":
        values: npt.NDArray[np.float64] = np.asarray(image, dtype=np.float64)
        # 16-bit PNGs come as "I;16" or "I"; a float image is taken to be 0..255.
        scale = 1.0 if image.mode == "F" else 257.0
        image = Image.fromarray(np.clip(np.round(values / scale), 0, 255).astype(np.uint8))
    if "A" in image.mode or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")
