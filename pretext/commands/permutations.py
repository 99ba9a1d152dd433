"""``permutations``: choose permutations for jigsaw puzzles."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pretext.command_line import seed_number


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the command's options."""
    parser.add_argument("--count", type=int, default=64, help="how many (default: 64)")
    parser.add_argument("--out", type=Path, required=True, help="the file to write (.json)")
    parser.add_argument("--seed", type=seed_number, default=0)


def run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Choose, and print how far from each other the permutations are."""
    from pretext.methods.parts.permutations import distant_permutations

    chosen = distant_permutations(options.count, seed=options.seed)
    chosen.save(options.out)
    print(
        f"{options.out}: {options.count} permutations, Hamming distance at least {chosen.minimum_distance},"
        f" {chosen.mean_distance:.3f} on average"
    )
