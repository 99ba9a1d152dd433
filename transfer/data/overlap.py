"""Photos that are trained on and scored."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from pretext.distributed import rank_and_world_size
from pretext.progress import say


def tell_overlap(train: Iterable[str | Path], test: Sequence[str | Path]) -> None:
    """Say how many of the photos that are scored are trained on, too: scores are then too good.

    Args:
        train: Files of the photos that are trained on.
        test: Files of the photos that are scored.
    """
    trained = set(map(str, train))
    shared = sum(str(path) in trained for path in test)
    if shared and rank_and_world_size()[0] == 0:
        say(f"warning: {shared} of the {len(test)} photos that are scored are trained on, too")
