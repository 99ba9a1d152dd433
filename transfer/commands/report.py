"""``report``: make the tables and the page from all results."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pretext.command_line import folder_path, seed_number, split_overrides
from pretext.errors import InputError
from pretext.files import WORK_DIRS, file_name

#: Photos of a sheet, at most: a picture has less than 2^16 pixels a side.
MAX_PHOTOS = 100


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--work-dir",
        type=folder_path,
        default=WORK_DIRS,
        help=f"every results.jsonl below this folder counts (default: {WORK_DIRS})",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="folder for the report (default: WORK_DIR/report; for chosen scores it is named after the choice)",
    )
    parser.add_argument(
        "--photos",
        type=_photos,
        default=0,
        metavar="N",
        help=f"also draw sheets of N photos, at most {MAX_PHOTOS}, painted anew by all colorizers that were judged"
        " (default: none)",
    )
    parser.add_argument(
        "--photo-metric",
        metavar="METRIC",
        help="metric by which these sheets show the best and the worst photos (default: auc)",
    )
    parser.add_argument("--data", help="only the scores of this data set (as data=NAME does)")
    parser.add_argument("--seed", type=seed_number, help="only the scores of this seed (as seed=N does)")
    parser.add_argument(
        "words",
        nargs="*",
        metavar="field=value",
        help="only the scores with this value in a field: method=random, stage=linear-probe, ...",
    )


def run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Write the report; print its table and the path of its page.

    Raises:
        InputError: The words, the options or the scores cannot be used.
    """
    if options.photo_metric is not None and not options.photos:
        raise InputError("--photo-metric is for sheets of photos", received="no --photos N")
    _, words = split_overrides(options.words, 0, "field=value")
    where = dict(word.split("=", 1) for word in words)
    where |= {name: str(value) for name in ("data", "seed") if (value := getattr(options, name)) is not None}
    # Imported here: plots take seconds, and wrong words are told before.
    from transfer.report.files import build_report
    from transfer.report.views import console_table
    from transfer.scores.score import collect_scores, latest_scores, select_scores

    chosen = [file_name(f"{field}-{value}") for field, value in where.items()]
    out = options.out or options.work_dir / "_".join(["report", *chosen])
    paths = build_report([options.work_dir], out, where, options.photos, options.photo_metric or "auc")
    scores = latest_scores(select_scores(collect_scores(options.work_dir), where))
    print(console_table(scores, work_dirs=[options.work_dir], chosen=bool(where)))
    print(paths.html)


def _photos(text: str) -> int:
    if not text.isdecimal() or int(text) > MAX_PHOTOS:
        raise argparse.ArgumentTypeError(
            f"received {text!r}, allowed are whole numbers from 0 to {MAX_PHOTOS}"
        )
    return int(text)
