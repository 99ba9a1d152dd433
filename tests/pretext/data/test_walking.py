import json
import os
from collections import Counter

import pytest
from refusals import refused

from pretext.data.walking import BROKEN_LINKS, HIDDEN, LINKS, PICTURES, tell_left_out, walk_files


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def found(folder, suffixes=(".jpg",)):
    walked = walk_files(folder, suffixes)
    return [str(path.relative_to(folder)) for path in walked.files], walked.left_out


def test_files_come_in_the_order_of_their_paths(tmp_path):
    make(tmp_path, "b/2.jpg", "b/10.JPG", "a-b/1.jpg", "a/1.jpg", "a/b/c.jpg", "z.jpg", "a/text.txt")
    expected = sorted(p for p in tmp_path.rglob("*") if p.suffix.lower() == ".jpg")
    assert walk_files(tmp_path, {".jpg"}).files == expected
    assert found(tmp_path)[1] == Counter()


def test_linked_folders_are_followed(tmp_path):
    make(tmp_path, "store/a/1.jpg", "store/b/2.jpg", "photos/c/3.jpg")
    for name in "ab":
        (tmp_path / "photos" / name).symlink_to(tmp_path / "store" / name)
    assert found(tmp_path / "photos") == (["a/1.jpg", "b/2.jpg", "c/3.jpg"], Counter())


def test_a_real_folder_is_read_once_and_by_its_own_path(tmp_path):
    make(tmp_path, "photos/z/1.jpg", "store/2.jpg")
    for name, target in {
        "a": "photos/z",
        "s1": "store",
        "s2": "store",
        "z/up": "photos",
        "z/top": ".",
    }.items():
        (tmp_path / "photos" / name).symlink_to(tmp_path / target)
    (tmp_path / "store/back").symlink_to(tmp_path / "photos/z")
    (tmp_path / "store/itself").symlink_to(".")
    make(tmp_path, "elsewhere.jpg")
    assert found(tmp_path / "photos") == (["s1/2.jpg", "z/1.jpg"], Counter({LINKS: 6}))


def test_a_linked_file_is_a_file_and_a_link_to_nothing_is_left_out(tmp_path):
    make(tmp_path, "a.jpg")
    (tmp_path / "b.jpg").symlink_to("a.jpg")
    (tmp_path / "c.jpg").symlink_to("nothing.jpg")
    (tmp_path / "d.jpg").symlink_to("d.jpg")
    assert found(tmp_path) == (["a.jpg", "b.jpg"], Counter({BROKEN_LINKS: 2}))


@pytest.mark.parametrize(
    "hidden",
    [
        ".thumbnails/1.jpg",
        "@eaDir/a.jpg/1.jpg",
        "$RECYCLE.BIN/1.jpg",
        "lost+found/1.jpg",
        "__MACOSX/1.jpg",
        "._1.jpg",
    ],
)
def test_hidden_and_system_entries_are_left_out(tmp_path, hidden):
    folder = tmp_path / ".cache"  # the folder that was asked for may be hidden
    make(folder, "1.jpg", hidden, "sub/" + hidden, ".text")
    assert found(folder) == (["1.jpg"], Counter({HIDDEN: 2}))


def test_the_pictures_of_a_run_are_left_out(tmp_path):
    make(tmp_path, "run/color_grids/iter_1.jpg", "mine/color_grids/1.jpg", "other/color_grids/1.jpg")
    (tmp_path / "run/config.json").write_text(json.dumps({"config": {}, "data_fingerprint": ""}))
    (tmp_path / "other/config.json").write_text("[]")
    expected = ["mine/color_grids/1.jpg", "other/color_grids/1.jpg"]
    assert found(tmp_path) == (expected, Counter({PICTURES: 1}))


def test_a_folder_that_cannot_be_read_is_an_error_that_names_it(tmp_path, refuse_folder):
    make(tmp_path, "a/1.jpg", "b/2.jpg")
    refuse_folder("b")
    with refused(tmp_path / "b"):
        walk_files(tmp_path, {".jpg"})
    walked = walk_files(tmp_path, {".jpg"}, skip_unreadable=True)
    assert walked.files == [tmp_path / "a/1.jpg"]
    assert walked.unreadable == {tmp_path / "b": "Permission denied"}
    with refused(tmp_path / "b"):
        walk_files(tmp_path / "b", {".jpg"}, skip_unreadable=True)


def test_names_that_are_not_utf8_are_found(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    make(tmp_path, name, "a\nb.jpg")
    assert found(tmp_path)[0] == ["a\nb.jpg", name]


def test_what_is_left_out_is_said_once_by_the_first_process(tmp_path, monkeypatch, capsys):
    left_out = Counter({HIDDEN: 2, LINKS: 0})
    monkeypatch.setenv("RANK", "1")
    tell_left_out(tmp_path, left_out)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("RANK", "0")
    tell_left_out(tmp_path, left_out)
    tell_left_out(tmp_path, left_out)
    tell_left_out(tmp_path, Counter())
    assert capsys.readouterr().err == f"{tmp_path}: left out {HIDDEN} (2)\n"
