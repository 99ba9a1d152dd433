"""From the bytes of a photo to RGB, upright or as stored; nothing but JPEG, PNG and WebP is opened."""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})


@dataclass(frozen=True)
class Format:
    """A format of photos: how its files begin, Pillow's reader of it, and how many pixels a photo may have."""

    name: str
    reader: type[ImageFile]
    start: bytes
    max_pixels: int
    #: What follows the start and four bytes of length.
    then: bytes = b""

    def matches(self, data: bytes) -> bool:
        """Return True if ``data`` begins as a file of this format."""
        then = len(self.start) + 4
        return data.startswith(self.start) and data[then : then + len(self.then)] == self.then


#: A solid photo of any size is a few kilobytes long, so that only the number of pixels bounds the memory that it takes.
MAX_PIXELS = 178_956_970
FORMATS = (
    Format("JPEG", JpegImageFile, b"\xff\xd8\xff", MAX_PIXELS),
    Format("PNG", PngImageFile, b"\x89PNG\r\n\x1a\n", MAX_PIXELS),
    Format("WebP", WebPImageFile, b"RIFF", MAX_PIXELS, then=b"WEBP"),
)
#: Texts in a PNG of more bytes than this are passed over. Pillow refuses a photo for a longer one.
MAX_TEXT = 1 << 20
#: The texts of a PNG that may tell which side is up.
ORIENTATION_TEXTS = (b"XML:com.adobe.xmp", b"Raw profile type exif", b"Raw profile type APP1")

#: Place of the byte in a PNG that says how many bits a value has.
PNG_DEPTH = 24
#: A transparent value, the opacities of a palette's colours, or a transparent colour.
_Transparent = int | bytes | tuple[int, ...] | None

#: What files that are not photos begin with.
OTHER_KINDS = (
    (b"%!PS", "a PostScript file"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript file"),
    (b"%PDF", "a PDF file"),
    (b"GIF8", "a GIF file"),
    (b"BM", "a BMP file"),
    (b"II*\0", "a TIFF file"),
    (b"MM\0*", "a TIFF file"),
    (b"8BPS", "a Photoshop file"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 file"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 file"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL file"),
    (b"\xff\x0a", "a JPEG XL file"),
    (b"\0\0\x01\0", "an icon"),
    (b"\0\x05\x16\x07", "an AppleDouble file of macOS"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"version https://git-lfs", "a pointer of Git LFS"),
    (b"<!doctype html", "a page of HTML"),
    (b"<html", "a page of HTML"),
    (b"<svg", "an SVG file"),
    (b"<?xml", "an XML file"),
)
#: Brands of files whose first box is "ftyp".
BRANDS = {b"heic": "a HEIC file", b"heix": "a HEIC file", b"mif1": "a HEIC file", b"avif": "an AVIF file"}

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
    """A photo could not be read or decoded; the message says why, and does not repeat its name."""


@dataclass(frozen=True)
class PhotoHeader:
    """What a photo's file says before its pixels are decoded.

    Attributes:
        size: Width and height of the stored pixels.
        orientation: How EXIF says to turn them, 1 to 8; 1, as they are, where EXIF says nothing or is damaged.
    """

    size: tuple[int, int]
    orientation: int

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height of the upright photo."""
        width, height = self.size
        return (height, width) if self.orientation >= 5 else (width, height)


@dataclass(frozen=True)
class StoredPhoto:
    """A photo with all of its file that a changed copy of it should have, too.

    Attributes:
        rgb: 8-bit RGB, upright; where the photo is transparent, the colours that are stored.
        alpha: Opacity, 0..255; None of a photo that is opaque by its format.
        exif: The EXIF data as they are stored: their orientation is that of the stored pixels.
        profile: The ICC profile as it is stored.
    """

    rgb: Image.Image
    alpha: Image.Image | None
    exif: bytes | None
    profile: bytes | None


def read_header(path: Path) -> PhotoHeader:
    """Read a photo's size and orientation.

    Raises:
        UnreadablePhotoError: The file cannot be read, or `decode_rgb` would not open it.
    """
    try:
        with path.open("rb") as file:
            start = file.read(64)
            file.seek(0)
            # The texts of a PNG may stand behind its pixels.
            is_png = start.startswith(FORMATS[1].start)
            source = io.BytesIO(without_texts(file.read())) if is_png else file
            with _opened(source, start) as opened:
                return PhotoHeader(opened.size, _orientation(opened))
    except OSError as error:
        raise UnreadablePhotoError(error.strerror or str(error)) from error


def read_rgb(path: Path, *, upright: bool = True) -> Image.Image:
    """Read a photo's file and decode it by `decode_rgb`.

    Raises:
        UnreadablePhotoError: The file cannot be read, or is not a whole photo.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadablePhotoError(error.strerror or str(error)) from error
    return decode_rgb(data, upright=upright)


def decode_rgb(data: bytes, *, upright: bool = True) -> Image.Image:
    """Decode a JPEG, PNG or WebP file of any mode to 8-bit RGB.

    16-bit values are scaled to 8 bits, gray and CMYK are converted, and what is transparent is laid over white. Colour
    profiles are ignored.

    Args:
        data: The photo's file.
        upright: Whether to apply the EXIF orientation (a photo whose EXIF data are damaged stays as it is). False where
            something belongs to the stored pixels: boxes, masks, motions.

    Raises:
        UnreadablePhotoError: The bytes are of another format, cut short or damaged, or have too many pixels.
    """
    with _opened(io.BytesIO(without_texts(data)), data) as opened:
        opened.load()
        return _to_rgb(_upright(opened) if upright else opened, _transparent(opened, data))


def size_of(data: bytes) -> tuple[int, int]:
    """Return width and height of a photo as its file stores it, without decoding the pixels.

    Raises:
        UnreadablePhotoError: `decode_rgb` would not open the file.
    """
    with _opened(io.BytesIO(without_texts(data)), data) as opened:
        return opened.size


def decode_stored(data: bytes) -> StoredPhoto:
    """Decode a JPEG, PNG or WebP file of any mode as `decode_rgb` does, upright, but keep what is transparent.

    Raises:
        UnreadablePhotoError: As for `decode_rgb`; or the file holds several frames.
    """
    with _opened(io.BytesIO(without_texts(data)), data) as opened:
        frames = getattr(opened, "n_frames", 1)
        opened.load()
        photo = _with_alpha(_upright(opened), _transparent(opened, data))
        alpha = photo.getchannel("A") if photo.mode == "RGBA" else None
        found = [opened.info.get(kind) for kind in ("exif", "icc_profile")]
    if frames > 1:
        raise UnreadablePhotoError(f"it is animated, with {frames} frames; single photos are read")
    exif, profile = (value if isinstance(value, bytes) and value else None for value in found)
    return StoredPhoto(photo if alpha is None else photo.convert("RGB"), alpha, exif, profile)


@contextmanager
def _opened(source: io.BytesIO | io.BufferedReader, start: bytes) -> Iterator[ImageFile]:
    """Open a photo that begins with ``start``; raise UnreadablePhotoError for all that goes wrong with it."""
    found = next((one for one in FORMATS if one.matches(start)), None)
    if found is None:
        raise UnreadablePhotoError(f"it is {kind_of_file(start)}; JPEG, PNG and WebP are read")
    try:
        with warnings.catch_warnings():
            # Pillow warns of much that is odd in a photo and does no harm.
            warnings.simplefilter("ignore")
            with found.reader(source) as opened:
                if opened.width * opened.height <= found.max_pixels:
                    yield opened
                    return
                size = f"{opened.width}x{opened.height}"
    # Damaged files raise nearly anything in Pillow: OSError, SyntaxError, EOFError, TypeError, struct.error, ...
    except Exception as error:
        raise UnreadablePhotoError(
            f"it is a damaged {found.name} file: {error or type(error).__name__}"
        ) from error
    raise UnreadablePhotoError(f"it has {size} pixels; at most {found.max_pixels} are read")


def kind_of_file(data: bytes) -> str:
    """Say what a file is that begins with ``data``, for messages."""
    if not data:
        return "empty"
    for one in FORMATS:
        if one.matches(data):
            return f"a {one.name} file"
    if data[4:8] == b"ftyp":
        return BRANDS.get(data[8:12], "a video")
    start = data[:64].lstrip().lower()
    for signature, kind in OTHER_KINDS:
        if data.startswith(signature) or (signature.startswith(b"<") and start.startswith(signature)):
            return kind
    return "a file of an unknown kind"


def _upright(image: Image.Image) -> Image.Image:
    # ImageOps.exif_transpose also writes the EXIF data anew, which fails where any entry of them is damaged.
    orientation = _orientation(image)
    return image if orientation == 1 else image.transpose(TO_UPRIGHT[orientation])


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
        return int(orientation) if orientation in TO_UPRIGHT else 1
    except Exception:
        return 1


def _transparent(image: ImageFile, data: bytes) -> _Transparent:
    """Return the colour of a PNG that is transparent, in the values that Pillow gives its pixels."""
    transparent = image.info.get("transparency")
    # The format says it in the values of the file, of which Pillow makes 8 bits.
    if image.mode == "L" and isinstance(transparent, int):
        return 255 * transparent // ((1 << data[PNG_DEPTH]) - 1)
    if image.mode == "RGB" and isinstance(transparent, tuple) and data[PNG_DEPTH] == 16:
        return tuple(value >> 8 for value in transparent)
    return transparent if isinstance(transparent, (int, bytes, tuple)) else None


def _to_rgb(image: Image.Image, transparent: _Transparent) -> Image.Image:
    photo = _with_alpha(image, transparent)
    if photo.mode == "RGB":
        return photo
    white = Image.new("RGBA", photo.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, photo).convert("RGB")


def _with_alpha(image: Image.Image, transparent: _Transparent) -> Image.Image:
    """Convert to RGBA what may be transparent, and to RGB all else."""
    if image.mode == "RGB" and transparent is None:
        return image
    if image.mode.startswith("I"):
        # 16 bits of gray, "I;16" or "I" by the version of Pillow; divided by 257 and rounded.
        values = np.asarray(image).astype(np.uint32)
        gray = Image.fromarray(((values + 128) // 257).astype(np.uint8))
        if transparent is not None:
            gray.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
            transparent = None
        image = gray
    if transparent is not None:
        image.info["transparency"] = transparent
    return image.convert("RGBA" if "A" in image.mode or transparent is not None else "RGB")


def without_texts(data: bytes) -> bytes:
    """Return a PNG without the texts that are long, or tell nothing of its orientation; other data as they are."""
    if not data.startswith(FORMATS[1].start):
        return data
    kept, start = [], len(FORMATS[1].start)
    for place, end, kind in _chunks(data):
        if kind in (b"tEXt", b"zTXt", b"iTXt") and not _may_turn(data[place + 8 : end - 4], kind):
            kept.append(data[start:place])
            start = end
    return b"".join([data[: len(FORMATS[1].start)], *kept, data[start:]]) if kept else data


def _chunks(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Where each chunk of a PNG begins and ends, and its kind."""
    place = len(FORMATS[1].start)
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if end > len(data):
            return
        yield place, end, kind
        place = end


def _may_turn(text: bytes, kind: bytes) -> bool:
    """Return True if a text of a PNG may tell its orientation and is not too long."""
    keyword, _, content = text.partition(b"\0")
    if keyword not in ORIENTATION_TEXTS or len(content) > MAX_TEXT:
        return False
    if kind == b"tEXt":
        return True
    # Before a compressed text: the method; in iTXt whether it is compressed, the method, and two words.
    packed = content[1:] if kind == b"zTXt" else content[2:].split(b"\0", 2)[-1]
    unpacker = zlib.decompressobj()
    try:
        unpacker.decompress(packed, MAX_TEXT)
    except zlib.error:
        return True  # not compressed, or damaged
    return not unpacker.unconsumed_tail
