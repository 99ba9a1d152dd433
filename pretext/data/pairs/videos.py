"""Find tracks of moving objects in videos, and write the list that `pretext.data.pairs.tracks` reads.

Wang and Gupta (ICCV 2015, section 4): points that move where most others do not, the window that holds most of them,
and a tracker that follows it for some frames.

Differences from the paper: corners in place of SURF points, and their optical flow in place of improved dense
trajectories, which compensate for a moving camera; instead a camera moves if most points outside the patch do (in the
paper, if more than 75 % of all points do); OpenCV's MIL tracker in place of KCF, and its track is checked.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from pretext.checks import check_at_least, check_share
from pretext.data.walking import tell_left_out, walk_files
from pretext.errors import InputError
from pretext.files import write_whole

VIDEO_SUFFIXES = frozenset({".avi", ".mkv", ".mov", ".mp4", ".webm"})
#: The list's name in the folder that is made.
LIST_NAME = "list.tracks"

#: A point moves if it goes so many pixels from one frame to the next.
MOVING = 0.5
#: Fewer moving points than this share of all may be noise.
LEAST_MOVING = 0.25
#: If more of the points outside a patch move, it is the camera that moves.
MOST_MOVING_OUTSIDE = 0.5
#: The patch is lost if fewer of the moving points that it began with are in it.
LEAST_KEPT = 0.5
#: Most corners that are looked at, and fewest that tell anything.
MAX_POINTS, MIN_POINTS = 400, 8
#: Why a clip gives no track.
STILL, CAMERA, LOST = "little motion", "a moving camera", "a patch that is lost or leaves the frame"
UNREADABLE, SHORT = "an unreadable video", "a video that is shorter than a track"
NO_ROOM = "frames that have no room for such a patch"
#: Least side of a patch, and of the frames' shorter side, in pixels.
MIN_PATCH, MIN_SIZE = 8, 32

Frame = UInt8[np.ndarray, "h w 3"]
#: Left, top, width and height in pixels.
Box = tuple[int, int, int, int]


def track_videos(
    videos: Path, out: Path, *, length: int = 30, size: int = 448, patch: float = 0.5
) -> tuple[int, Counter[str]]:
    """Cut videos into clips, look for one track in each, and write first and last frames as JPEG and a list of them.

    The tracker (OpenCV's MIL tracker, which needs no weights) draws random numbers by the clock: twice the same videos
    give boxes that differ by some pixels.

    Args:
        videos: A folder, searched by `walk_files` for .avi, .mkv, .mov, .mp4 and .webm.
        out: The folder to make, with ``list.tracks`` and the folder ``frames``.
        length: Frames from a track's first to its last.
        size: Frames whose shorter side is longer than this are made smaller; in pixels.
        patch: Side of a patch as a share of the shorter side; 227 / 448 in the paper.

    Returns:
        How many tracks were found, and how many clips (or videos) gave none, by the reason.

    Raises:
        InputError: No videos, no tracks in any, an option out of its range, or a list is there already.
    """
    check_at_least("length", length, 1)
    check_at_least("size", size, MIN_SIZE)
    check_share("patch", patch, above_zero=True, below_one=True)
    if not videos.is_dir():
        raise InputError("no such folder of videos", received=str(videos))
    walked = walk_files(videos, VIDEO_SUFFIXES)
    tell_left_out(videos, walked.left_out)
    files = walked.files
    if not files:
        endings = ", ".join(sorted(VIDEO_SUFFIXES))
        raise InputError(f"no videos in {videos}", allowed=f"videos end in {endings}, in subfolders too")
    if (out / LIST_NAME).exists():
        raise InputError(f"{out / LIST_NAME} is there already", allowed="name another folder, or delete it")
    lines: list[str] = []
    left_out: Counter[str] = Counter()
    for number, file in enumerate(files):
        clips = 0
        for start, frames in _clips(file, length, size):
            clips += 1
            boxes = follow(frames, patch) if len(frames) > length else SHORT
            if isinstance(boxes, str):
                left_out[boxes] += 1
                continue
            words = []
            for place, box in ((start, boxes[0]), (start + length, boxes[1])):
                name = f"frames/{number:06d}/{place:06d}.jpg"
                _write_jpeg(out / name, frames[place - start])
                x, y, width, height = box
                words.append(f"{name} {x} {y} {x + width} {y + height}")
            lines.append(" ".join(words) + "\n")
        if clips == 0:
            left_out[UNREADABLE] += 1
    if not lines:
        reasons = ", ".join(f"{count} with {reason}" for reason, count in left_out.items())
        raise InputError(
            f"no tracks in {len(files)} videos of {videos}",
            received=reasons,
            allowed=f"a track is an object that moves before a camera that does not, for length={length} frames",
        )
    write_whole(out / LIST_NAME, "".join(lines))
    return len(lines), left_out


def follow(frames: list[Frame], patch: float) -> tuple[Box, Box] | str:
    """Find the box around what moves in the first of some frames, and its place in the last; or say why there is none.

    The tracker searches within the frame and always finds something. So each moving point of the first box is followed
    by itself, from frame to frame, and half of them must be in the tracker's box all the time.

    Args:
        frames: BGR, consecutive, two or more.
        patch: Side of the box as a share of the frames' shorter side.
    """
    height, width = frames[0].shape[:2]
    side = round(patch * min(height, width))
    if not MIN_PATCH <= side <= min(height, width) - 2:
        return NO_ROOM
    points, moving = moving_points(frames[0], frames[1])
    if len(points) < MIN_POINTS or moving.mean() < LEAST_MOVING:
        return STILL
    box = first = _fullest_window(points[moving], (height, width), side)
    followed = points[moving & _inside(points, first)]
    needed = LEAST_KEPT * len(followed)
    tracker: Any = cv2.TrackerMIL.create()
    tracker.init(frames[0], first)
    for previous, following in pairwise(frames):
        points, moving = moving_points(previous, following)
        outside = moving[~_inside(points, box)]
        if len(outside) >= MIN_POINTS and outside.mean() > MOST_MOVING_OUTSIDE:
            return CAMERA
        box = tracker.update(following)[1]
        at_border = box[0] <= 0 or box[1] <= 0 or box[0] + box[2] >= width or box[1] + box[3] >= height
        ends, found = _flow(previous, following, followed)
        followed = ends[found]
        if at_border or _inside(followed, box).sum() < needed:
            return LOST
    return first, box


def moving_points(
    previous: Frame, following: Frame
) -> tuple[Float[np.ndarray, "n 2"], Bool[np.ndarray, " n"]]:
    """Find corners of a frame again in the next: where they were, as x and y, and whether each has moved."""
    gray = cv2.cvtColor(previous, cv2.COLOR_BGR2GRAY)
    corners: Any = cv2.goodFeaturesToTrack(gray, MAX_POINTS, qualityLevel=0.01, minDistance=5)
    if corners is None:
        return np.empty((0, 2), np.float32), np.empty(0, bool)
    points = corners[:, 0]
    ends, found = _flow(previous, following, points)
    return points[found], np.linalg.norm(ends - points, axis=1)[found] > MOVING


def _flow(
    previous: Frame, following: Frame, points: Float[np.ndarray, "n 2"]
) -> tuple[Float[np.ndarray, "n 2"], Bool[np.ndarray, " n"]]:
    """Follow points of a frame to the next: where they are there, and whether they are found."""
    if len(points) == 0:
        return points, np.empty(0, bool)
    gray, next_gray = (cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in (previous, following))
    ends, status, _ = cv2.calcOpticalFlowPyrLK(gray, next_gray, points[:, None], points[:, None].copy())
    return ends[:, 0], status[:, 0] == 1


def _inside(points: Float[np.ndarray, "n 2"], box: Sequence[int]) -> Bool[np.ndarray, " n"]:
    corner, size = np.array(box[:2]), np.array(box[2:])
    inside: Bool[np.ndarray, " n"] = ((points >= corner) & (points < corner + size)).all(1)
    return inside


def _fullest_window(points: Float[np.ndarray, "n 2"], size: tuple[int, int], side: int) -> Box:
    """Return the square within a frame of that height and width, not at its border, that holds most points.

    Where several hold as many, the one nearest to their middle.
    """
    height, width = size
    left, top = np.meshgrid(np.arange(1, width - side), np.arange(1, height - side))
    inside = np.zeros(left.shape, dtype=np.int64)
    for x, y in points:
        inside += (left <= x) & (x < left + side) & (top <= y) & (y < top + side)
    best = np.argwhere(inside == inside.max())
    y, x = best[np.square(best - best.mean(0)).sum(1).argmin()] + 1
    return int(x), int(y), side, side


def _clips(path: Path, length: int, size: int) -> Iterator[tuple[int, list[Frame]]]:
    """Yield each ``length`` + 1 frames of a video, one after the other, with the number of the first of them.

    The rest at the end is not a clip, unless it is all that there is.
    """
    frames: list[Frame] = []
    start = 0
    for frame in _frames(path):
        factor = size / min(frame.shape[:2])
        if factor < 1:
            frame = cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        frames.append(frame)
        if len(frames) > length:
            yield start, frames
            start, frames = start + len(frames), []
    if start == 0 and frames:
        yield start, frames


def _frames(path: Path) -> Iterator[Frame]:
    with tempfile.TemporaryDirectory() as folder:
        # OpenCV takes names in UTF-8 only.
        link = Path(folder) / f"video{path.suffix}"
        link.symlink_to(path.absolute())
        video = cv2.VideoCapture(str(link))
        while (read := video.read())[0]:
            yield read[1]
        video.release()


def _write_jpeg(path: Path, frame: Frame) -> None:
    encoded = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    write_whole(path, encoded.tobytes())
