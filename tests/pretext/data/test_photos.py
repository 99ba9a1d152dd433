import io
import struct
import tarfile
import zlib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
from PIL import Image

from pretext.data.photos import UnreadablePhotoError, decode_rgb, fingerprint, open_photos
from pretext.errors import InputError


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def gradient(side: int = 16) -> Image.Image:
    rows = np.linspace(0, 255, side).astype(np.uint8)
    return Image.fromarray(
        np.stack(
            [np.tile(rows, (side, 1)), np.tile(rows[:, None], side), np.full((side, side), 90)], 2
        ).astype(np.uint8)
    )


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "photos"
    (root / "deep" / "er").mkdir(parents=True)
    gradient().save(root / "b.jpg")
    gradient().save(root / "deep" / "a.PNG")
    gradient().save(root / "deep" / "er" / "c.webp")
    (root / "notes.txt").write_text("no photo")
    return root


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


def test_a_folder_is_searched_through_in_order(folder):
    photos = open_photos(folder)
    names = [photos.name(i).removeprefix(f"{folder}/") for i in range(len(photos))]
    assert names == ["b.jpg", "deep/a.PNG", "deep/er/c.webp"]
    assert decode_rgb(photos.read(1)).size == (16, 16)


def test_a_list_file_gives_its_order(folder):
    (folder / "list.txt").write_text("deep/a.PNG\nb.jpg\n\n")
    photos = open_photos(folder / "list.txt")
    assert [photos.name(i) for i in range(2)] == [str(folder / "deep/a.PNG"), str(folder / "b.jpg")]
    (folder / "list.txt").write_text("gone.jpg\n")
    with pytest.raises(InputError, match=r"lists 1 files that do not exist, first .*gone.jpg"):
        open_photos(folder / "list.txt")


@pytest.fixture
def shards(tmp_path):
    for shard in range(2):
        with tarfile.open(tmp_path / f"set-{shard}.tar", "w") as tar:
            for key in range(3):
                data = encoded(Image.new("RGB", (4, 4), (shard, key, 0)))
                for name, content in ((f"{key:03d}.png", data), (f"{key:03d}.json", b"{}")):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return tmp_path


@pytest.fixture
def server(shards):
    """The address of a web server that offers the shards on this machine."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(shards))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.mark.parametrize("form", ["folder", "pattern", "file url", "http url"])
def test_shards_are_read_at_random(shards, server, tmp_path, form):
    source = {
        "folder": str(shards),
        "pattern": f"{shards}/set-{{0..1}}.tar",
        "file url": f"file:{shards}/set-{{0..1}}.tar",
        "http url": f"{server}/set-{{0..1}}.tar",
    }
    photos = open_photos(source[form], cache=tmp_path / "cache")
    assert len(photos) == 6
    assert [decode_rgb(photos.read(i)).getpixel((0, 0)) for i in (4, 0, 5)] == [
        (1, 1, 0),
        (0, 0, 0),
        (1, 2, 0),
    ]
    assert (tmp_path / "cache").exists() == form.endswith("url")


def test_a_shard_that_a_server_does_not_have_is_refused(server, tmp_path):
    with pytest.raises(InputError, match="cannot fetch the shard http://.*gone.tar"):
        open_photos(f"{server}/gone.tar", cache=tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_the_fingerprint_follows_the_names(folder):
    before = fingerprint(open_photos(folder))
    assert before == fingerprint(open_photos(folder))
    (folder / "b.jpg").rename(folder / "z.jpg")
    assert fingerprint(open_photos(folder)) != before


def test_what_holds_no_photos_is_refused(tmp_path, folder):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(
        InputError, match=r"no photos in .*empty: allowed are files ending in \.jpeg, \.jpg, \.png, \.webp"
    ):
        open_photos(empty)
    (empty / "a.txt").write_text("text")
    with pytest.raises(InputError, match="no photos in"):
        open_photos(empty)
    with pytest.raises(InputError, match="neither a folder, a list file"):
        open_photos(tmp_path / "gone")
    with pytest.raises(InputError, match="no such shard"):
        open_photos(tmp_path / "gone.tar")
    with pytest.raises(InputError, match="received the scheme ftp, allowed are file, http"):
        open_photos("ftp://host/a.tar")
    (tmp_path / "bad.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(InputError, match="expected an uncompressed tar file"):
        open_photos(tmp_path / "bad.tar")
