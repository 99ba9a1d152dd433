import struct
import zlib

import numpy as np
import pytest
from made_photos import encoded, gradient
from PIL import Image

from pretext.data.decoding import UnreadablePhotoError, decode_rgb


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_lossless_kinds_come_back_as_they_were(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(
        np.asarray(decode_rgb(encoded(gradient(), kind, **options))), np.asarray(gradient())
    )


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_every_mode_becomes_rgb(mode):
    kind = "TIFF" if mode == "CMYK" else "PNG"
    image = decode_rgb(encoded(gradient().convert(mode), kind))
    assert image.mode == "RGB"
    assert (
        np.abs(
            np.asarray(image, dtype=int) - np.asarray(gradient().convert(mode).convert("RGB"), dtype=int)
        ).max()
        <= 1
    )


def test_sixteen_bits_are_scaled_not_clipped():
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    gray = np.asarray(decode_rgb(encoded(Image.fromarray(values))))
    assert gray[0, :, 0].tolist() == [0, 1, 128, 255]


def test_what_is_transparent_is_white():
    clear = Image.new("RGBA", (2, 2), (200, 10, 10, 0))
    assert np.asarray(decode_rgb(encoded(clear))).min() == 255


def test_the_exif_orientation_is_applied():
    image = gradient(8).resize((8, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: to be shown rotated by 270 degrees counter-clockwise
    assert decode_rgb(encoded(image, "JPEG", exif=exif)).size == (4, 8)


def test_damaged_exif_does_not_spoil_a_photo():
    image = gradient(8).resize((8, 4))
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, 72.0  # orientation and resolution
    data = encoded(image, "JPEG", exif=exif)
    # A resolution that claims to be text hides no orientation; without TIFF's header nothing can be read.
    text = data.replace(b"\x01\x1a\x00\x05", b"\x01\x1a\x00\x02")
    headless = encoded(image, "PNG", exif=exif.tobytes().replace(b"MM\0*", b"XX\0*"))
    assert text != data
    assert np.array_equal(np.asarray(decode_rgb(text)), np.asarray(decode_rgb(data)))
    assert np.array_equal(np.asarray(decode_rgb(headless)), np.asarray(image))


def empty_profile() -> bytes:
    """A PNG with an empty colour profile behind its pixels, over which Pillow stumbles with an IndexError."""
    data, chunk = encoded(gradient()), b"iCCP"
    return data[:-12] + struct.pack(">I", 0) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[-12:]


@pytest.mark.parametrize(
    "data",
    [b"", b"text", encoded(gradient(64), "JPEG")[:-200], empty_profile()],
    ids=["empty", "text", "truncated", "empty profile"],
)
def test_what_is_no_photo_is_unreadable(data):
    with pytest.raises(UnreadablePhotoError):
        decode_rgb(data)
