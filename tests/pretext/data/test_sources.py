import gzip
import hashlib
import io
import os
import tarfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from made_photos import encoded, gradient
from PIL import Image
from refusals import refused

from pretext.data.places import data_path
from pretext.data.sources import fingerprint, open_photos, spelled_fingerprint


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
    with refused(folder / "list.txt", "1 files", received=str(folder / "gone.jpg")):
        open_photos(folder / "list.txt")


@pytest.mark.parametrize(
    "name", [b"caf\xe9.jpg", "caf\u00e9.jpg".encode(), b"a, b.jpg", b" a\x0bb .jpg", b" a.jpg", b"a\tb.jpg"]
)
def test_lists_and_folders_hold_names_of_any_signs(folder, name):
    (folder / "b.jpg").rename(folder / os.fsdecode(name))
    (folder / "list.txt").write_bytes(b"\xef\xbb\xbf" + name + b"\r\ndeep/a.PNG\r\n")
    listed, found = open_photos(folder / "list.txt"), open_photos(folder)
    assert len(listed) == 2
    assert len(found) == 3
    assert os.fsencode(listed.name(0)) == os.fsencode(folder) + b"/" + name
    assert listed.image(0).size == (16, 16)
    assert len(fingerprint(listed)) == len(fingerprint(found)) == 64


def test_a_list_that_is_not_text_is_refused(folder):
    (folder / "list.txt").write_text("b.jpg\n", encoding="utf-16")
    with refused(folder / "list.txt", received="text in UTF-16"):
        open_photos(folder / "list.txt")


def test_linked_folders_count_and_hidden_ones_do_not(folder, capsys):
    (folder.parent / "store").mkdir()
    (folder / "b.jpg").rename(folder.parent / "store/b.jpg")
    (folder / "linked").symlink_to(folder.parent / "store")
    (folder / ".thumbnails").mkdir()
    gradient().save(folder / ".thumbnails/b.jpg")
    (folder / "._c.jpg").write_bytes(b"Mac OS X")
    photos = open_photos(folder)
    names = [photos.name(i).removeprefix(f"{folder}/") for i in range(len(photos))]
    assert names == ["deep/a.PNG", "deep/er/c.webp", "linked/b.jpg"]
    assert capsys.readouterr().err == f"{folder}: left out hidden or system entries (2)\n"


def test_a_folder_may_be_spelled_in_many_ways(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    (folder / "list.txt").write_text("b.jpg\ndeep/a.PNG\n")
    (folder.parent / "moved").symlink_to("photos")
    for inside in ("", "/list.txt"):
        spelled = ["photos", "./photos", str(folder), "moved", f"{folder.parent}/moved", "photos/../photos"]
        same = {fingerprint(open_photos(place + inside)) for place in spelled}
        monkeypatch.chdir(folder)
        same.add(fingerprint(open_photos("." + inside)))
        monkeypatch.chdir(folder.parent)
        assert len(same) == 1
    assert fingerprint(open_photos("photos/")) == fingerprint(open_photos("photos"))


def test_fingerprints_are_those_of_the_first_versions(folder, shards, tmp_path):
    def hashed(*names):
        return hashlib.sha256(
            b"%d" % len(names) + "".join(f"{name}\n" for name in names).encode()
        ).hexdigest()

    photos = ("photos/b.jpg", "deep/a.PNG", "er/c.webp")
    assert fingerprint(open_photos(folder)) == spelled_fingerprint(open_photos(folder)) == hashed(*photos)
    (folder.parent / "moved").symlink_to("photos")
    assert spelled_fingerprint(open_photos(folder.parent / "moved")) == hashed("moved/b.jpg", *photos[1:])
    (folder / "list.txt").write_text("deep/a.PNG\nb.jpg\n")
    assert fingerprint(open_photos(folder / "list.txt")) == hashed("deep/a.PNG", "photos/b.jpg")
    members = [f"set-{shard}.tar/{key:03d}.png" for shard in range(2) for key in range(3)]
    assert fingerprint(open_photos(f"{shards}/set-{{0..1}}.tar")) == hashed(*members)
    (folder / "l.pairs").write_text("b.jpg  b.jpg\t1 2 3\n")
    assert fingerprint(open_photos(folder / "l.pairs")) == hashed("b.jpg b.jpg 1 2 3")
    assert spelled_fingerprint(open_photos(folder / "l.pairs")) == hashed("b.jpg b.jpg 1 2 3")


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
    with refused(f"{server}/gone.tar"):
        open_photos(f"{server}/gone.tar", cache=tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


@pytest.mark.parametrize("answer", ["page", "half a shard", "nothing"])
def test_a_bad_answer_of_a_server_is_not_kept(server, shards, tmp_path, answer):
    good = (shards / "set-0.tar").read_bytes()
    bad = {"page": b"<html>log in</html>", "half a shard": good[:1100], "nothing": b""}[answer]
    (shards / "set-0.tar").write_bytes(bad)
    with refused(f"{server}/set-0.tar"):
        open_photos(f"{server}/set-0.tar", cache=tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    (shards / "set-0.tar").write_bytes(good)
    assert len(open_photos(f"{server}/set-0.tar", cache=tmp_path / "cache")) == 3
    # A bad copy that an earlier version kept is fetched again; a good one is not.
    (copy,) = (path for path in (tmp_path / "cache").rglob("*.tar"))
    copy.write_bytes(bad)
    assert len(open_photos(f"{server}/set-0.tar", cache=tmp_path / "cache")) == 3
    (shards / "set-0.tar").unlink()
    assert len(open_photos(f"{server}/set-0.tar", cache=tmp_path / "cache")) == 3


@pytest.mark.parametrize("name", [b"caf\xe9.png", b"a\nb.png", b"./a.png"])
def test_members_of_shards_have_names_of_any_signs(tmp_path, name, capsys):
    with tarfile.open(tmp_path / "s.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for member in (os.fsdecode(name), "._a.png", "./.cache/a.png"):
            info, data = tarfile.TarInfo(member), encoded(gradient())
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    photos = open_photos(tmp_path / "s.tar")
    assert os.fsencode(photos.name(0)) == os.fsencode(tmp_path) + b"/s.tar/" + name
    assert len(photos) == 1
    assert photos.image(0).size == (16, 16)
    assert len(fingerprint(photos)) == 64
    assert "hidden or system entries (2)" in capsys.readouterr().err


def test_the_fingerprint_follows_the_names(folder):
    before = fingerprint(open_photos(folder))
    assert before == fingerprint(open_photos(folder))
    (folder / "b.jpg").rename(folder / "z.jpg")
    assert fingerprint(open_photos(folder)) != before


def test_what_holds_no_photos_is_refused(tmp_path, folder):
    empty = tmp_path / "empty"
    empty.mkdir()
    for ending in (".jpeg", ".jpg", ".png", ".webp"):
        with refused(empty, allowed=ending):
            open_photos(empty)
    (empty / "a.txt").write_text("text")
    with refused(empty):
        open_photos(empty)
    with refused(received=str(tmp_path / "gone"), allowed=".txt"):
        open_photos(tmp_path / "gone")
    with refused(received=str(tmp_path / "gone.tar")):
        open_photos(tmp_path / "gone.tar")
    with refused("ftp://host/a.tar", received="ftp", allowed=("file", "http", "https", "gs", "s3", "hf")):
        open_photos("ftp://host/a.tar")
    (tmp_path / "bad.tar").write_bytes(b"no tar" * 200)
    with refused(tmp_path / "bad.tar", allowed="uncompressed tar file"):
        open_photos(tmp_path / "bad.tar")
    (tmp_path / "packed.tar").write_bytes(gzip.compress(b"tar" * 200))
    with refused(tmp_path / "packed.tar", "gzip", allowed="uncompressed tar file"):
        open_photos(tmp_path / "packed.tar")


def test_data_is_found_below_pretext_data(tmp_path, monkeypatch):
    monkeypatch.delenv("PRETEXT_DATA", raising=False)
    with refused(received="faces", allowed="PRETEXT_DATA"):
        data_path("faces")
    (tmp_path / "faces").mkdir()
    monkeypatch.setenv("PRETEXT_DATA", str(tmp_path))
    assert data_path("faces") == str(tmp_path / "faces")


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_not_the_current_folder(name):
    with refused("data", received=name):
        data_path(name)


def test_a_brace_pattern_is_found_below_pretext_data(tmp_path, monkeypatch):
    (tmp_path / "s-000001.tar").touch()
    monkeypatch.setenv("PRETEXT_DATA", str(tmp_path))
    pattern = "s-{000000..000001}.tar"
    assert data_path(pattern) == str(tmp_path / pattern)
    assert data_path(str(tmp_path / pattern)) == str(tmp_path / pattern)
    with refused(received="t-{0..1}.tar", allowed=str(tmp_path)):
        data_path("t-{0..1}.tar")
    with refused("s-{0..1.tar"):
        data_path("s-{0..1.tar")


@pytest.mark.parametrize("ending", [".txt", ".pairs"])
def test_a_text_that_is_not_a_list_is_refused(tmp_path, ending):
    text = tmp_path / f"readme{ending}"
    text.write_text("A sentence that is longer than any name of a file. " * 8)
    with refused(text):
        open_photos(text)
    text.write_text(f"{'a' * 300}.jpg b.jpg 1 2 3")
    with refused(text):
        open_photos(text)
