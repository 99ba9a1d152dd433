"""``toyworld``: render the toy data."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pretext.command_line import seed_number


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the command's options."""
    parser.add_argument("out", type=Path, help="folder to make")
    parser.add_argument("--seed", type=seed_number, default=0)
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="size relative to the default of about 9,000 photos (default: 1)",
    )


def run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Render, and print the folder."""
    from pretext.data.toyworld import ToyworldSizes, render_toyworld

    render_toyworld(options.out, seed=options.seed, sizes=ToyworldSizes.scaled(options.scale))
    print(options.out)
