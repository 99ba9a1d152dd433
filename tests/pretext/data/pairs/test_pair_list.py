import os

import numpy as np
import pytest
import torch
from PIL import Image
from refusals import refused

from pretext.data.decoding import UnreadablePhotoError
from pretext.data.pairs.frames import FramePairs
from pretext.data.pairs.pair_list import halves
from pretext.data.pairs.tracks import PATCH_SIDE, Tracks
from pretext.data.photos import Photos
from pretext.data.sources import fingerprint, open_photos


def noise(width, height, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def folder(tmp_path):
    """Two frames of 40 x 30 pixels below a list's folder, one of 20 x 30, and one that is no photo."""
    (tmp_path / "frames").mkdir()
    for number in range(2):
        noise(40, 30, number).save(tmp_path / "frames" / f"{number}.png")
    noise(20, 30, 2).save(tmp_path / "frames" / "narrow.png")
    (tmp_path / "frames" / "broken.png").write_bytes(b"no photo")
    return tmp_path


def listed(folder, ending, *lines):
    path = folder / f"list{ending}"
    path.write_text("".join(f"{line}\n" for line in lines))
    return open_photos(path)


def test_a_list_of_frames_gives_both_and_their_motion(folder):
    photos = listed(
        folder, ".pairs", "frames/0.png frames/1.png 1.5 -2 3e1", "", " frames/1.png\tframes/0.png 0 0 -7 "
    )
    assert isinstance(photos, FramePairs)
    assert isinstance(photos, Photos)
    assert len(photos) == 2
    assert photos.motions.tolist() == [[1.5, -2, 30], [0, 0, -7]]
    joined = np.asarray(photos.image(1))
    assert np.array_equal(joined[:, :40], np.asarray(noise(40, 30, 1)))
    assert np.array_equal(joined[:, 40:], np.asarray(noise(40, 30, 0)))
    assert photos.name(1) == f"{folder}/frames/1.png frames/0.png 0 0 -7"


def test_a_list_of_tracks_gives_both_patches(folder):
    frame = Image.new("RGB", (40, 30), "red")
    frame.paste("blue", (20, 10, 40, 30))
    frame.save(folder / "frames" / "blue.png")
    photos = listed(folder, ".tracks", "frames/blue.png 22 12 38 28 frames/blue.png 0 10 40.0 30.0")
    assert isinstance(photos, Tracks)
    assert photos.boxes.tolist() == [[[22, 12, 38, 28], [0, 10, 40, 30]]]
    joined = np.asarray(photos.image(0))
    assert joined.shape == (PATCH_SIDE, 2 * PATCH_SIDE, 3)
    first, last = joined[:, :PATCH_SIDE], joined[:, PATCH_SIDE:]
    assert (first == [0, 0, 255]).all()
    # Half of the second box is red.
    half = PATCH_SIDE // 2
    assert (last[10:, : half - 10] == [255, 0, 0]).all()
    assert (last[10:, half + 10 :] == [0, 0, 255]).all()


@pytest.mark.parametrize(
    ("ending", "line", "received", "allowed"),
    [
        (".pairs", "frames/0.png frames/1.png 1 2", None, FramePairs.form),
        (".pairs", "frames/0.png frames/1.png 1 2 3 4", None, FramePairs.form),
        (
            ".pairs",
            "frames/0.png frames/gone.png 1 2 3",
            "frames/gone.png",
            "relative to the list's own folder",
        ),
        (".pairs", "frames/0.png frames/1.png 1 two 3", "two", FramePairs.form),
        (".pairs", "frames/0.png frames/1.png 1 nan 3", "nan", FramePairs.form),
        (".tracks", "frames/0.png 0 0 9 9 frames/1.png 0 0 9", None, Tracks.form),
        (
            ".tracks",
            "frames/0.png 0 0 9 9 frames/gone.png 0 0 9 9",
            "frames/gone.png",
            "relative to the list's own",
        ),
        (".tracks", "frames/0.png 0 0 9 9 frames/1.png 5 0 5 9", None, "0 <= x1 < x2 and 0 <= y1 < y2"),
        (".tracks", "frames/0.png -1 0 9 9 frames/1.png 0 0 9 9", None, "0 <= x1 < x2 and 0 <= y1 < y2"),
    ],
)
def test_a_wrong_line_is_named_by_its_number(folder, ending, line, received, allowed):
    good = {
        ".pairs": "frames/0.png frames/1.png 0 0 0",
        ".tracks": "frames/0.png 0 0 9 9 frames/1.png 0 0 9 9",
    }
    with refused(f"list{ending}, line 3", received=received or line, allowed=allowed):
        listed(folder, ending, good[ending], "", line)


@pytest.mark.parametrize(
    ("ending", "line", "received", "allowed"),
    [
        (".pairs", "frames/0.png frames/narrow.png 0 0 0", "40x30 and 20x30", "one camera"),
        (".tracks", "frames/0.png 0 0 9 9 frames/narrow.png 0 0 21 9", "0 0 21 9", "20x30 pixels"),
    ],
)
def test_a_line_that_does_not_fit_its_frames_is_named_when_it_is_read(
    folder, ending, line, received, allowed
):
    photos = listed(folder, ending, "", line)
    with refused(f"list{ending}, line 2", received=received, allowed=allowed):
        photos.image(0)


def test_frames_that_cannot_be_decoded_are_unreadable_photos_and_named(folder):
    photos = listed(folder, ".pairs", "frames/0.png frames/broken.png 0 0 0")
    with pytest.raises(UnreadablePhotoError, match=r"^frames/broken.png: "):
        photos.image(0)
    (folder / "frames/broken.png").unlink()
    with pytest.raises(UnreadablePhotoError, match=r"^frames/broken.png: "):
        photos.image(0)


def test_what_is_not_a_list_is_refused(folder):
    (folder / "bytes.pairs").write_bytes(b"\xff\xfe\x00")
    with refused(folder / "bytes.pairs"):
        open_photos(folder / "bytes.pairs")
    with refused("list.tracks", allowed=".png"):
        listed(folder, ".tracks")
    with refused(received=str(folder / "gone.pairs"), allowed=".pairs"):
        open_photos(folder / "gone.pairs")


@pytest.mark.parametrize("name", [b"caf\xe9.png", "a\u00a0b.png".encode(), b"a,b.png"])
def test_names_of_frames_may_have_any_sign_but_blanks(folder, name):
    noise(40, 30, 5).save(folder / "frames/other.png")
    (folder / "frames/other.png").rename(folder / os.fsdecode(b"frames/" + name))
    path = folder / "list.pairs"
    path.write_bytes(b"\xef\xbb\xbfframes/" + name + b"\tframes/1.png 0 0 1\r\n")
    photos = open_photos(path)
    assert len(photos) == 1
    assert os.fsencode(photos.key(0)) == b"frames/" + name + b" frames/1.png 0 0 1"
    assert np.array_equal(np.asarray(photos.image(0))[:, :40], np.asarray(noise(40, 30, 5)))
    assert len(fingerprint(photos)) == 64


def test_the_fingerprint_follows_the_motions(folder):
    before = fingerprint(listed(folder, ".pairs", "frames/0.png frames/1.png 0 0 1"))
    assert before != fingerprint(listed(folder, ".pairs", "frames/0.png frames/1.png 0 0 2"))
    assert before == fingerprint(listed(folder, ".pairs", "frames/0.png frames/1.png 0 0 1"))
    assert before != fingerprint(listed(folder, ".pairs", "frames/1.png frames/1.png 0 0 1"))


def test_the_fingerprint_follows_the_boxes(folder):
    line = "frames/0.png 0 0 8 8 frames/1.png 0 0 8 8"
    before = fingerprint(listed(folder, ".tracks", line))
    assert before == fingerprint(listed(folder, ".tracks", line))
    for other in (
        line.replace("0.png 0", "0.png 1"),
        line.replace("1.png 0", "1.png 1"),
        line.replace("0.png", "1.png"),
    ):
        assert before != fingerprint(listed(folder, ".tracks", other))


def test_batches_that_another_view_has_cut_are_refused():
    with refused(received="8x9 pixels", allowed="PairCrop"):
        halves(torch.zeros(1, 3, 8, 9, dtype=torch.uint8))
