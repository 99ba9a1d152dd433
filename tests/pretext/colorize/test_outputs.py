import os
from pathlib import Path

import pytest
from refusals import refused

from pretext.colorize.outputs import NameTakenError, Record, plan, sole_use
from pretext.colorize.reference import Reference
from pretext.colorize.settings import Decoding, PaintingSettings, Steering

SETTINGS = PaintingSettings()


@pytest.fixture
def album(tmp_path, monkeypatch):
    """A folder with photos in subfolders; it is the current folder's ``album``."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "sub/b.PNG", "sub/c.webp", "notes.md"):
        (tmp_path / "album" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "album" / name).touch()
    return Path("album")


def names(*places, out="out", **settings):
    planned = plan([str(place) for place in places], Path(out), PaintingSettings(**settings))
    assert not planned.failed
    return {str(job.photo): job.names for job in planned.jobs}


def test_results_mirror_the_folder(album):
    expected = {
        "album/a.jpg": ("a.jpg",),
        "album/sub/b.PNG": ("sub/b.PNG",),
        "album/sub/c.webp": ("sub/c.png",),
    }
    assert names(album) == expected
    assert names("album/") == expected


def test_a_format_changes_the_ending(album):
    assert [name for (name,) in names(album, format="jpeg").values()] == ["a.jpg", "sub/b.jpg", "sub/c.jpg"]
    assert [name for (name,) in names(album, format="png").values()] == ["a.png", "sub/b.PNG", "sub/c.png"]


def test_samples_and_maps_have_names_of_their_own(album):
    made = names("album/a.jpg", samples=2, decoding=Decoding("coherent"), uncertainty=True)
    assert made == {"album/a.jpg": ("a_sample0.jpg", "a_sample1.jpg", "a_entropy.png", "a_entropy.npy")}


def test_files_go_by_their_names_and_lists_by_their_folder(album, tmp_path):
    (album / "photo.1936").touch()
    assert names("album/sub/c.webp", "album/photo.1936") == {
        "album/sub/c.webp": ("c.png",),
        "album/photo.1936": ("photo.1936.png",),
    }
    (tmp_path / "far.jpg").touch()
    (album / "list.txt").write_text(f"sub/b.PNG\n../far.jpg\n{tmp_path}/album/a.jpg\n")
    assert [name for (name,) in names("album/list.txt").values()] == ["sub/b.PNG", "far.jpg", "a.jpg"]
    (album / "list.txt").write_text("gone.jpg\n")
    with refused("list.txt", received="album/gone.jpg"):
        names("album/list.txt")


def test_a_photo_named_twice_is_coloured_once_and_two_with_one_result_are_told(album):
    assert len(names("album/a.jpg", "album", "album/a.jpg")) == 3
    (album / "sub" / "c.png").touch()
    planned = plan(["album"], Path("out"), SETTINGS)
    assert [str(job.photo) for job in planned.jobs] == ["album/a.jpg", "album/sub/b.PNG", "album/sub/c.png"]
    (reason,) = planned.failed.items()
    assert reason[0] == "album/sub/c.webp"
    assert "album/sub/c.png" in reason[1]


def test_results_within_the_folder_are_not_photos(album):
    (album / "colour" / "sub").mkdir(parents=True)
    (album / "colour" / "sub" / "b.png").touch()
    assert len(names(album, out="album/colour")) == 3
    assert len(names(album)) == 4
    with refused("photos are", received="album/../album"):
        names(album, out="album/../album")


def test_links_to_nothing_are_named(album):
    (album / "lost.jpg").symlink_to("nothing.jpg")
    (album / "loop.jpg").symlink_to("loop.jpg")
    planned = plan(["album"], Path("out"), SETTINGS)
    assert planned.failed == dict.fromkeys(["album/lost.jpg", "album/loop.jpg"], "it is a link to nothing")
    assert len(planned.jobs) == 3


def test_a_folder_that_cannot_be_read_is_named_and_the_others_are_coloured(album, refuse_folder):
    refuse_folder("sub")
    planned = plan(["album"], Path("out"), SETTINGS)
    assert [str(job.photo) for job in planned.jobs] == ["album/a.jpg"]
    assert planned.failed == {"album/sub": "the folder cannot be read: Permission denied"}


def test_places_without_photos_are_refused(album):
    with refused(received="gone"):
        names("gone")
    (album / "empty").mkdir()
    with refused("album/empty"):
        names("album/empty")


def test_a_record_tells_results_from_other_files(tmp_path):
    record = Record(tmp_path, {"seed": 0})
    assert not record.is_finished(["a.jpg"], "1")
    record.claim(["a.jpg", "a_entropy.npy"], "1")
    assert not record.is_finished(["a.jpg", "a_entropy.npy"], "1")
    (tmp_path / "a.jpg").touch()
    (tmp_path / "b.jpg").symlink_to("nothing")
    assert not record.is_finished(["a.jpg", "a_entropy.npy"], "1")
    (tmp_path / "a_entropy.npy").touch()
    for one in (record, Record(tmp_path, {"seed": 0})):
        assert one.is_finished(["a.jpg", "a_entropy.npy"], "1")
        with pytest.raises(NameTakenError, match=r"a\.jpg is there already, made of other pixels"):
            one.is_finished(["a.jpg"], "2")
        with pytest.raises(NameTakenError, match=r"b\.jpg is there already"):
            one.is_finished(["b.jpg"], "1")


def test_a_record_of_other_settings_names_the_difference(tmp_path):
    Record(tmp_path, {"colorizer": "0"})  # by which nothing could be coloured
    Record(tmp_path, {"colorizer": "1", "seed": 0, "size": 64}).claim(["a.jpg"], "1")
    with refused(tmp_path, received="seed=1, size=32", allowed="seed=0, size=64"):
        Record(tmp_path, {"colorizer": "1", "seed": 1, "size": 32})


def test_a_record_of_before_colours_were_chosen_at_the_photo_goes_on(tmp_path):
    Record(tmp_path, {"seed": 0}).claim(["a.jpg"], "1")
    Record(tmp_path, {"seed": 0, "decode_at": "map"})
    with refused(tmp_path, received="decode_at=photo", allowed="decode_at=map"):
        Record(tmp_path, {"seed": 0, "decode_at": "photo"})


def test_a_record_of_before_colours_were_steered_goes_on(tmp_path):
    values = SETTINGS.as_json()
    steered = PaintingSettings(steering=Steering(Reference("f" * 64, b""), "energy", 30.0)).as_json()
    before = {key: value for key, value in values.items() if key not in ("reference", "transfer", "bias")}
    Record(tmp_path, before).claim(["a.jpg"], "1")
    Record(tmp_path, values)
    with refused(
        tmp_path,
        "bias=30.0",
        f"reference={'f' * 64}",
        "transfer=energy",
        allowed="there it is reference=None",
    ):
        Record(tmp_path, steered)


def test_a_line_that_was_cut_short_is_dropped(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    Record(tmp_path, {}).claim([name], "1")
    record = tmp_path / "colorized.jsonl"
    whole = record.read_bytes()
    record.write_bytes(whole + b'{"names": ["b')
    (tmp_path / name).touch()
    assert Record(tmp_path, {}).is_finished([name], "1")
    assert record.read_bytes() == whole


@pytest.mark.parametrize("text", ["", "no json\n", "[1]\n", '{"format_version": 9, "settings": {}}\n'])
def test_a_damaged_record_is_told(tmp_path, text):
    (tmp_path / "colorized.jsonl").write_text(text)
    with refused(tmp_path / "colorized.jsonl"):
        Record(tmp_path, {})


def test_a_folder_is_used_by_one_process(tmp_path):
    with sole_use(tmp_path / "out"), refused(tmp_path / "out"), sole_use(tmp_path / "out"):
        pytest.fail("it was used twice")
    assert not list((tmp_path / "out").iterdir())
    (tmp_path / "file").touch()
    with refused(tmp_path / "file"), sole_use(tmp_path / "file" / "out"):
        pytest.fail("there is no such folder")


@pytest.mark.parametrize(
    ("arguments", "names", "received"),
    [
        ({"samples": 2}, ["annealed"], 2),
        ({"samples": 0}, ["samples"], 0),
        ({"size": 0}, ["size"], 0),
        ({"format": "webp"}, ["format"], "webp"),
        ({"upsampling": "nearest"}, ["upsampling"], "nearest"),
        ({"decode_at": "network"}, ["decode_at"], "network"),
    ],
)
def test_settings_out_of_range_are_refused(arguments, names, received):
    with refused(*names, received=received):
        PaintingSettings(**arguments)
