"""``compare``: run a grid of backbones, colorizers, stages and seeds, and report it."""

import argparse
from collections.abc import Sequence

from pretext.command_line import folder_path
from pretext.config import config_names, find_config
from pretext.errors import InputError
from pretext.files import WORK_DIRS


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the command's options."""
    parser.add_argument(
        "grid",
        help=f"backbones, colorizers, stages and seeds: {', '.join(config_names('compare'))}, or the path of a config",
    )
    parser.add_argument(
        "data",
        nargs="?",
        metavar="DATA",
        help="a data set that takes the place of all that the grid names:"
        f" {', '.join(config_names('data'))}, or the path of a config (default: those of the grid)",
    )
    parser.add_argument(
        "--work-dir",
        type=folder_path,
        help="folder of the grid (default: work_dirs/compare/<grid>_<data set>)",
    )
    parser.add_argument(
        "--jobs", type=_jobs, help="how many cells run side by side (default: one per GPU, or one)"
    )


def run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Run what is not done yet; print the table and the path of the page.

    Raises:
        InputError: The grid cannot be planned, or a cell failed.
    """
    path = find_config("compare", options.grid)
    data = find_config("data", options.data).stem if options.data else None
    # Imported here: they take seconds, and a wrong name is told before.
    from transfer.compare.grid import plan
    from transfer.compare.run import devices, last_line, run_grid
    from transfer.report.files import build_report
    from transfer.report.views import console_table
    from transfer.scores.score import collect_scores, latest_scores

    name = "_".join([path.stem, *([data] if data else [])])
    work_dir = options.work_dir or WORK_DIRS / "compare" / name
    tasks = plan(path, work_dir, options.data)
    failed = run_grid(tasks, work_dir, options.jobs or max(1, len(devices())))
    # What an earlier version of the grid left is not this grid's.
    folders = sorted({task.folder for task in tasks})
    scores = [score for folder in folders for score in collect_scores(folder)]
    if scores:
        print(console_table(latest_scores(scores), work_dirs=folders))
        print(build_report(folders, work_dir / "report").html)
    if failed:
        raise InputError(
            f"{len(failed)} of {len(tasks)} cells failed",
            received=f"first {failed[0].name}: {last_line(failed[0])}",
            allowed="the same command goes on with what is not done",
        )


def _jobs(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"received {text!r}, allowed are whole numbers from 1")
    return int(text)
