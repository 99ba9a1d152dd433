"""``tracks``: find tracks of moving objects in videos."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pretext.data.places import data_path


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the command's options."""
    parser.add_argument("videos", help="a folder of videos")
    parser.add_argument("--out", type=Path, required=True, help="folder to make, with list.tracks and frames")
    parser.add_argument("--length", type=int, default=30, help="frames of a track (default: 30)")
    parser.add_argument(
        "--size", type=int, default=448, help="longest shorter side of a frame in pixels (default: 448)"
    )
    parser.add_argument(
        "--patch", type=float, default=0.5, help="side of a patch as a share of it (default: 0.5)"
    )


def run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Find the tracks, and print how many there are."""
    videos = Path(data_path(options.videos))
    # Imported here: it takes seconds, and missing videos are told before.
    from pretext.data.pairs.videos import LIST_NAME, track_videos

    count, left_out = track_videos(
        videos,
        options.out,
        length=options.length,
        size=options.size,
        patch=options.patch,
    )
    print(f"{options.out / LIST_NAME}: {count} tracks")
    print(f"left out: {', '.join(f'{n} with {reason}' for reason, n in left_out.items()) or 'none'}")
