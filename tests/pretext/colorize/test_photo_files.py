import io

import numpy as np
import pytest
import torch
from made_photos import encoded, gradient
from PIL import ExifTags, Image, ImageCms

from pretext.colorize.photo_files import CannotWriteError, encode_entropy, encode_photo, upright_exif
from pretext.data.decoding import StoredPhoto, UnreadablePhotoError, decode_rgb, decode_stored

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GRAY = SRGB[:16] + b"GRAY" + SRGB[20:]


def opened(data):
    return Image.open(io.BytesIO(data))


def pixels_of(image):
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def written(data, kind):
    photo = decode_stored(data)
    return opened(encode_photo(pixels_of(photo.rgb), photo, kind))


def with_exif(kind="JPEG", **options):
    """A photo of a camera held upright, with a date and a thumbnail's directory."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.DateTime] = "1936:03:01 12:00:00"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ISOSpeedRatings] = 100
    return encoded(gradient(16).resize((24, 16)), kind, exif=exif.tobytes(), **options)


@pytest.mark.parametrize("kind", ["png", "jpeg"])
@pytest.mark.parametrize("source", ["JPEG", "PNG", "WebP"])
def test_exif_stays_and_is_upright(kind, source):
    image = written(with_exif(source), kind)
    assert image.size == (16, 24)
    exif = image.getexif()
    assert exif[ExifTags.Base.Orientation] == 1
    assert exif[ExifTags.Base.DateTime] == "1936:03:01 12:00:00"
    assert exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ISOSpeedRatings] == 100


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_gray_thumbnail_is_taken_out_and_nothing_else_moves(order):
    exif = Image.Exif()
    exif.endian = order
    exif[ExifTags.Base.Orientation] = 8
    data = bytearray(exif.tobytes())
    end = len(data) - 4
    data[end:] = (40).to_bytes(4, "little" if order == "<" else "big")
    data += b"thumbnail"
    kept = upright_exif(bytes(data))
    assert len(kept) == len(data)
    assert kept[end : end + 4] == bytes(4)
    assert kept.endswith(b"thumbnail")


@pytest.mark.parametrize(
    "damaged", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0XX*\0\x08"]
)
def test_damaged_exif_is_left_out(damaged):
    assert upright_exif(damaged) is None
    photo = StoredPhoto(gradient(), None, damaged, None)
    assert "exif" not in opened(encode_photo(pixels_of(photo.rgb), photo, "jpeg")).info


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_a_profile_of_rgb_stays_and_one_of_gray_does_not(kind):
    for profile, kept in ((SRGB, SRGB), (GRAY, None)):
        photo = StoredPhoto(gradient(), None, None, profile)
        image = opened(encode_photo(pixels_of(photo.rgb), photo, kind))
        assert image.info.get("icc_profile") == kept


def test_alpha_stays_in_png_and_does_not_fit_into_jpeg():
    alpha = Image.linear_gradient("L").resize((16, 16))
    source = gradient()
    source.putalpha(alpha)
    image = written(encoded(source), "png")
    assert image.mode == "RGBA"
    assert image.getchannel("A").tobytes() == alpha.tobytes()
    # The colours are the stored ones, also where nothing shows.
    assert image.convert("RGB").tobytes() == gradient().tobytes()
    with pytest.raises(CannotWriteError, match="transparent"):
        written(encoded(source), "jpeg")
    source.putalpha(255)
    assert written(encoded(source), "jpeg").mode == "RGB"


def test_what_jpeg_cannot_hold_is_told():
    photo = StoredPhoto(gradient(), None, None, None)
    with pytest.raises(CannotWriteError, match="JPEG"):
        encode_photo(torch.zeros(3, 1, 70_000, dtype=torch.uint8), photo, "jpeg")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_is_read_as_for_training_where_it_is_opaque(mode):
    image = gradient().convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.array(image).astype(np.uint16) * 257)
    data = encoded(image)
    photo = decode_stored(data)
    assert photo.rgb.tobytes() == decode_rgb(data).tobytes()
    assert (photo.alpha is not None) == (mode in ("LA", "RGBA"))


def test_a_transparent_colour_and_cmyk_are_read():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    photo = decode_stored(encoded(image, transparency=0))
    assert photo.alpha.tobytes() == b"\x00\xff"
    assert photo.rgb.getpixel((0, 0)) == (10, 20, 30)
    photo = decode_stored(encoded(gradient().convert("CMYK"), "JPEG"))
    assert (photo.rgb.mode, photo.alpha) == ("RGB", None)


@pytest.mark.parametrize("kind", ["PNG", "WebP"])
def test_an_animated_photo_is_refused(kind):
    frames = [gradient(), gradient().rotate(90)]
    with pytest.raises(UnreadablePhotoError, match="animated, with 2 frames"):
        decode_stored(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))


def test_the_picture_of_entropy_is_black_where_it_is_certain():
    picture = opened(encode_entropy(torch.tensor([[0.0, 8.0]]), 8.0, (40, 20)))
    assert (picture.mode, picture.size) == ("L", (40, 20))
    assert picture.getpixel((0, 10)) == 0
    assert picture.getpixel((39, 10)) == 255
