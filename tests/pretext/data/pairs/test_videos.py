import os

import cv2
import numpy as np
import pytest
from refusals import refused

from pretext.__main__ import main
from pretext.data.pairs.tracks import Tracks
from pretext.data.pairs.videos import CAMERA, LOST, NO_ROOM, SHORT, STILL, follow, moving_points, track_videos
from pretext.data.sources import open_photos

HEIGHT, WIDTH, SIDE = 120, 160, 44
LENGTH = 10


def texture(height, width, blocks, low, high, seed):
    pixels = np.random.default_rng(seed).integers(low, high, (blocks, blocks, 3), dtype=np.uint8)
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_CUBIC)


def frames(start=(30, 40), step=(3, 1), camera=(0, 0), count=LENGTH + 1):
    """A textured square that moves by ``step`` pixels a frame over a background that moves by ``camera``."""
    background = texture(HEIGHT + 80, WIDTH + 80, 24, 40, 200, 0)
    square = texture(SIDE, SIDE, 9, 0, 255, 1)
    made = []
    for number in range(count):
        left, top = number * camera[0], number * camera[1]
        frame = background[top : top + HEIGHT, left : left + WIDTH].copy()
        x, y = start[0] + number * step[0], start[1] + number * step[1]
        part = frame[max(0, y) : y + SIDE, max(0, x) : x + SIDE]
        part[:] = square[max(0, -y) :, max(0, -x) :][: part.shape[0], : part.shape[1]]
        made.append(frame)
    return made


def write_video(path, pictures):
    path.parent.mkdir(parents=True, exist_ok=True)
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (WIDTH, HEIGHT))
    for picture in pictures:
        video.write(picture)
    video.release()


def test_points_move_where_the_square_is():
    first, second = frames(count=2)
    points, moving = moving_points(first, second)
    inside = ((points >= (30, 40)) & (points < (30 + SIDE, 40 + SIDE))).all(1)
    assert 0.25 < moving.mean() < 0.75
    assert (moving == inside).mean() > 0.9
    assert not moving_points(first, first)[1].any()


def test_a_track_follows_the_square():
    first, last = follow(frames(), 0.4)
    # The box holds the square's moving points, and goes where the square goes.
    assert first[2] == last[2] == 48
    assert abs(first[0] + 24 - (30 + SIDE / 2)) < 8
    assert abs(first[1] + 24 - (40 + SIDE / 2)) < 8
    assert abs(last[0] - first[0] - 3 * LENGTH) <= 6
    assert abs(last[1] - first[1] - LENGTH) <= 6


@pytest.mark.parametrize(
    ("clip", "reason"),
    [
        ({"step": (0, 0)}, STILL),
        # The camera goes by the square, goes with it, and goes by it while it moves.
        ({"step": (-2, -1), "camera": (2, 1)}, CAMERA),
        ({"step": (0, 0), "camera": (2, 1)}, CAMERA),
        ({"step": (3, 1), "camera": (2, 1)}, CAMERA),
        ({"start": (90, 40), "step": (7, 0)}, LOST),
    ],
)
def test_clips_that_give_no_track(clip, reason):
    assert follow(frames(**clip), 0.4) == reason


def test_frames_without_texture_give_no_track():
    assert follow([np.full((HEIGHT, WIDTH, 3), 90, np.uint8)] * 3, 0.4) == STILL


@pytest.mark.parametrize("patch", [0.05, 0.99])
def test_a_patch_must_have_room_in_the_frame(patch):
    assert follow(frames(), patch) == NO_ROOM
    # All of the frame but its border.
    assert follow(frames(), 118 / 120) != NO_ROOM


def test_videos_become_a_list_of_tracks(tmp_path, capsys):
    write_video(tmp_path / "videos" / "deep" / "moving one.avi", frames(count=2 * (LENGTH + 1) + 3))
    write_video(tmp_path / "videos" / "still.avi", frames(step=(0, 0)))
    (tmp_path / "videos" / "broken.mp4").write_bytes(b"no video")
    out = tmp_path / "tracks"
    command = [
        "tracks",
        str(tmp_path / "videos"),
        "--out",
        str(out),
        "--length",
        str(LENGTH),
        "--patch",
        "0.4",
    ]
    assert main(command) == 0
    said = capsys.readouterr().out
    photos = open_photos(out / "list.tracks")
    assert isinstance(photos, Tracks)
    assert f"list.tracks: {len(photos)} tracks" in said
    assert "1 with little motion" in said
    assert "1 with an unreadable video" in said
    # Two whole clips, in the second of which the square has moved on; three frames are left.
    assert len(photos) == 2
    for clip in range(2):
        first, last = photos.boxes[clip]
        moved = (LENGTH + 1) * clip * np.array([3, 1])
        np.testing.assert_allclose(first[:2] + 24, np.array([30, 40]) + SIDE / 2 + moved, atol=8)
        np.testing.assert_allclose(last[:2] - first[:2], [3 * LENGTH, LENGTH], atol=6)
    assert [path.name for path in sorted(out.rglob("*.jpg"))] == [f"{n:06d}.jpg" for n in (0, 10, 11, 21)]
    # What is shown is the same square twice.
    pair = np.asarray(photos.image(0), dtype=float)
    side = pair.shape[0]
    middle = slice(side // 4, 3 * side // 4)
    a, b = pair[middle, :side][:, middle], pair[middle, side:][:, middle]
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.5
    assert main(command) == 2
    assert str(out / "list.tracks") in capsys.readouterr().err


def test_large_frames_are_made_smaller(tmp_path):
    write_video(tmp_path / "videos" / "a.avi", frames())
    track_videos(tmp_path / "videos", tmp_path / "out", length=LENGTH, size=90, patch=0.4)
    assert {cv2.imread(path).shape for path in (tmp_path / "out").rglob("*.jpg")} == {(90, 120, 3)}
    assert (open_photos(tmp_path / "out" / "list.tracks").boxes <= (120, 90, 120, 90)).all()


@pytest.mark.parametrize("option", ["length", "size", "patch"])
def test_options_out_of_their_range_are_refused(tmp_path, option):
    value = {"length": 0, "size": 8, "patch": 1.0}[option]
    with refused(option, received=value):
        track_videos(tmp_path, tmp_path / "out", **{option: value})


def test_videos_without_tracks_are_refused(tmp_path):
    with refused(tmp_path, allowed=".avi"):
        track_videos(tmp_path, tmp_path / "out")
    with refused(received=str(tmp_path / "gone")):
        track_videos(tmp_path / "gone", tmp_path / "out")
    write_video(tmp_path / "still.avi", frames(step=(0, 0)))
    with refused("1 videos", tmp_path, received=f"1 with {STILL}", allowed=f"length={LENGTH}"):
        track_videos(tmp_path, tmp_path / "out", length=LENGTH)
    with refused("1 videos", received=f"1 with {SHORT}"):
        track_videos(tmp_path, tmp_path / "out", length=LENGTH + 1)


@pytest.mark.parametrize("name", [b"caf\xe9.avi", b"two\nlines.avi"])
def test_names_of_videos_may_have_any_sign(tmp_path, name):
    write_video(tmp_path / "store" / "a.avi", frames())
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/linked").symlink_to(tmp_path / "store")
    (tmp_path / "store/a.avi").rename(tmp_path / "store" / os.fsdecode(name))
    (tmp_path / "store/._a.avi").write_bytes(b"Mac OS X")
    assert track_videos(tmp_path / "videos", tmp_path / "out", length=LENGTH, patch=0.4)[0] == 1
