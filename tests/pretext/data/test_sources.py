import io
import tarfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from made_photos import encoded, gradient
from PIL import Image

from pretext.data.sources import data_path, fingerprint, open_photos
from pretext.errors import InputError


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "photos"
    (root / "deep" / "er").mkdir(parents=True)
    gradient().save(root / "b.jpg")
    gradient().save(root / "deep" / "a.PNG")
    gradient().save(root / "deep" / "er" / "c.webp")
    (root / "notes.txt").write_text("no photo")
    return root


def test_a_folder_is_searched_through_in_order(folder):
    photos = open_photos(folder)
    names = [photos.name(i).removeprefix(f"{folder}/") for i in range(len(photos))]
    assert names == ["b.jpg", "deep/a.PNG", "deep/er/c.webp"]
    assert photos.image(1).size == (16, 16)


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
    assert [photos.image(i).getpixel((0, 0)) for i in (4, 0, 5)] == [
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


def test_data_is_found_below_pretext_data(tmp_path, monkeypatch):
    monkeypatch.delenv("PRETEXT_DATA", raising=False)
    with pytest.raises(InputError, match="no such data: received faces, .* PRETEXT_DATA is not set"):
        data_path("faces")
    (tmp_path / "faces").mkdir()
    monkeypatch.setenv("PRETEXT_DATA", str(tmp_path))
    assert data_path("faces") == str(tmp_path / "faces")


def test_a_brace_pattern_is_found_below_pretext_data(tmp_path, monkeypatch):
    (tmp_path / "s-000001.tar").touch()
    monkeypatch.setenv("PRETEXT_DATA", str(tmp_path))
    pattern = "s-{000000..000001}.tar"
    assert data_path(pattern) == str(tmp_path / pattern)
    assert data_path(str(tmp_path / pattern)) == str(tmp_path / pattern)
    with pytest.raises(
        InputError, match=r"no such data: received t-\{0..1\}.tar, which is no path below PRETEXT"
    ):
        data_path("t-{0..1}.tar")
    with pytest.raises(InputError, match=r"the pattern s-\{0..1.tar has unbalanced braces"):
        data_path("s-{0..1.tar")
