import struct
import zlib
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
from made_photos import encoded, gradient
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pretext.data import decoding
from pretext.data.decoding import UnreadablePhotoError, decode_rgb, read_rgb


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_lossless_kinds_come_back_as_they_were(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(
        np.asarray(decode_rgb(encoded(gradient(), kind, **options))), np.asarray(gradient())
    )


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_every_mode_becomes_rgb(mode):
    kind, most = ("JPEG", 12) if mode == "CMYK" else ("PNG", 1)
    image = decode_rgb(
        encoded(gradient().convert(mode), kind, **({"quality": 100} if kind == "JPEG" else {}))
    )
    assert image.mode == "RGB"
    expected = np.asarray(gradient().convert(mode).convert("RGB"), dtype=int)
    assert np.abs(np.asarray(image, dtype=int) - expected).max() <= most


def test_sixteen_bits_are_scaled_not_clipped():
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    gray = np.asarray(decode_rgb(encoded(Image.fromarray(values))))
    assert gray[0, :, 0].tolist() == [0, 1, 128, 255]


def test_what_is_transparent_is_white():
    clear = Image.new("RGBA", (2, 2), (200, 10, 10, 0))
    assert np.asarray(decode_rgb(encoded(clear))).min() == 255


def png(depth: int, color: int, row: bytes, *chunks: tuple[bytes, bytes], width: int = 2) -> bytes:
    """A PNG of one row, with more chunks before its pixels."""
    header = struct.pack(">IIBBBBB", width, 1, depth, color, 0, 0, 0)
    listed = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in listed
    )


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (png(8, 2, bytes([9, 0, 0, 8, 0, 0]), (b"tRNS", struct.pack(">3H", 9, 0, 0))), (8, 0, 0)),
        # 16 bits of colour become 8, as does the colour that is transparent.
        (
            png(16, 2, struct.pack(">6H", 2570, 0, 0, 2048, 0, 0), (b"tRNS", struct.pack(">3H", 2570, 0, 0))),
            (8, 0, 0),
        ),
        (png(16, 0, struct.pack(">2H", 10, 257), (b"tRNS", struct.pack(">H", 10))), (1, 1, 1)),
        (png(8, 0, bytes([7, 8]), (b"tRNS", struct.pack(">H", 7))), (8, 8, 8)),
        # Values of 0 to 3 become 0, 85, 170 and 255.
        (png(2, 0, bytes([0b10010000]), (b"tRNS", struct.pack(">H", 2))), (85, 85, 85)),
        (png(1, 0, bytes([0b01000000]), (b"tRNS", struct.pack(">H", 1))), (0, 0, 0)),
        (png(8, 3, bytes([1, 0]), (b"PLTE", bytes([8, 8, 8, 9, 9, 9])), (b"tRNS", b"\xff\0")), (8, 8, 8)),
    ],
    ids=["RGB", "RGB of 16 bits", "gray of 16 bits", "gray", "gray of 2 bits", "black and white", "palette"],
)
def test_the_transparent_colour_of_a_png_is_white(data, shown):
    pixels = np.asarray(decode_rgb(data))[0].tolist()
    transparent = pixels.index([255, 255, 255])
    assert tuple(pixels[1 - transparent]) == shown


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
    ("data", "reason"),
    [
        (b"", "it is empty"),
        (b"text", "it is a file of an unknown kind"),
        (encoded(gradient(64), "JPEG")[:-200], "it is a damaged JPEG file: image file is truncated"),
        (encoded(gradient(64))[:-60], "it is a damaged PNG file"),
        (encoded(gradient(64), "WEBP")[:-20], "it is a damaged WebP file"),
        (empty_profile(), "it is a damaged PNG file"),
        (encoded(gradient(), "GIF"), "it is a GIF file"),
        (encoded(gradient(), "BMP"), "it is a BMP file"),
        (encoded(gradient(), "TIFF"), "it is a TIFF file"),
        (encoded(gradient(), "ICO"), "it is an icon"),
        (encoded(gradient(), "PPM"), "it is a file of an unknown kind"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "it is a PostScript file"),
        (b"%PDF-1.7\n", "it is a PDF file"),
        (b"\0\0\0\x18ftypheic", "it is a HEIC file"),
        (b"\0\0\0\x18ftypisom", "it is a video"),
        (b"\n <!DOCTYPE html>", "it is a page of HTML"),
        (b"RIFF\0\0\0\0WAVE", "it is a file of an unknown kind"),
    ],
)
def test_only_whole_photos_are_read_and_others_are_named(data, reason):
    with pytest.raises(UnreadablePhotoError) as caught:
        decode_rgb(data)
    assert str(caught.value).startswith(reason)
    assert "BytesIO" not in str(caught.value)


def test_pillow_is_not_asked_to_guess(monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("any reader may open it"))
    for kind in ("JPEG", "PNG", "WEBP"):
        assert decode_rgb(encoded(gradient(), kind)).size == (16, 16)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_photo_may_have_only_so_many_pixels(kind, monkeypatch):
    photo = encoded(gradient(), kind)
    for most in (256, 255):
        formats = tuple(replace(one, max_pixels=most) for one in decoding.FORMATS)
        monkeypatch.setattr(decoding, "FORMATS", formats)
        with pytest.raises(UnreadablePhotoError, match="16x16 pixels") if most < 256 else nullcontext():
            assert decode_rgb(photo).size == (16, 16)


def test_large_photos_are_read_without_a_warning():
    large = encoded(Image.new("1", (9500, 9500)))  # Pillow warns of so many pixels
    assert decode_rgb(large).size == (9500, 9500)


def test_a_decompression_bomb_is_unreadable():
    header = (b"IHDR", struct.pack(">IIBBBBB", 65535, 65535, 8, 2, 0, 0, 0))
    data = png(8, 2, b"")
    chunk = struct.pack(">I", 13) + header[0] + header[1] + struct.pack(">I", zlib.crc32(b"".join(header)))
    with pytest.raises(UnreadablePhotoError, match="65535x65535 pixels"):
        decode_rgb(data[:8] + chunk + data[33:])


XMP = '<x:xmpmeta><rdf:Description tiff:Orientation="6"/>{}</x:xmpmeta>'


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("kind", ["zTXt", "iTXt"])
def test_long_texts_do_not_spoil_a_png(kind, zipped):
    for key, length, turned in (
        ("XML:com.adobe.xmp", 9, True),
        ("XML:com.adobe.xmp", 2 << 20, False),
        ("Note", 2 << 20, False),
    ):
        info = PngInfo()
        text = XMP.format(" " * length)
        info.add_itxt(key, text, zip=zipped) if kind == "iTXt" else info.add_text(key, text, zip=zipped)
        image = decode_rgb(encoded(gradient(8).resize((8, 4)), pnginfo=info))
        assert image.size == ((4, 8) if turned else (8, 4))


def test_a_text_bomb_costs_no_memory(monkeypatch):
    text = b"Note\0\0" + zlib.compress(bytes(64 << 20))
    monkeypatch.setattr(zlib, "decompress", lambda *_: pytest.fail("unpacked as a whole"))
    assert decode_rgb(png(8, 0, b"ab", (b"zTXt", text))).size == (2, 1)


def test_a_text_that_pillow_would_take_for_transparency_is_not():
    assert np.asarray(decode_rgb(png(8, 2, bytes(6), (b"tEXt", b"transparency\0abc")))).max() == 0


def test_a_file_that_cannot_be_read_is_unreadable(tmp_path):
    with pytest.raises(UnreadablePhotoError, match="No such file"):
        read_rgb(tmp_path / "gone.jpg")
    gradient().save(tmp_path / "there.png")
    assert np.array_equal(read_rgb(tmp_path / "there.png"), gradient())
