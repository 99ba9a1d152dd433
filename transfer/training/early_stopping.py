"""Early stopping: how many steps to train is chosen on a part of the training photos that is held out.

A first run, on the rest, goes through the whole schedule, and what is held out is scored from time to time. The
second run, on all training photos, ends at the step where that score was best; its rates are those of the whole
schedule up to there.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from mmengine.hooks import Hook

from pretext.files import write_whole


def parted(count: int, share: float, seed: int) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " h"]]:
    """Part the numbers of training photos at random into those that are kept and those that are held out.

    Args:
        count: How many photos there are.
        share: How many of them are held out; at least one.
        seed: Seed of the draw.
    """
    order = np.random.default_rng((seed, count)).permutation(count)
    held = max(1, round(share * count))
    return np.sort(order[held:]), np.sort(order[:held])


class KeepScores(Hook):  # type: ignore[misc]  # mmengine is not typed
    """Keep the score of each validation in a file, from which a run that was interrupted goes on.

    Args:
        path: The file.
        metric: Name of the score.
        every: Steps between two validations.
        writes: Whether this process writes the file.
    """

    def __init__(self, path: Path, metric: str, every: int, writes: bool):
        self.path, self.metric, self.every, self.writes = path, metric, every, writes

    def before_train(self, runner: Any) -> None:
        """Validate the state from which a run goes on, if it was interrupted between checkpoint and validation."""
        due = runner.iter % self.every == 0 or runner.iter == runner.max_iters
        if runner.iter and due and runner.iter not in read_scores(self.path):
            runner.val_loop.run()

    def after_val_epoch(self, runner: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Write the score."""
        assert metrics is not None
        if self.writes:
            scores = read_scores(self.path) | {runner.iter: float(metrics[self.metric])}
            write_whole(self.path, json.dumps(scores))


def read_scores(path: Path) -> dict[int, float]:
    """Return the scores by step; none if there is no file."""
    if not path.is_file():
        return {}
    return {int(step): score for step, score in json.loads(path.read_text()).items()}


def best_step(scores: Mapping[int, float]) -> int:
    """Return the step with the best score, the earliest of several."""
    return max(sorted(scores), key=lambda step: scores[step])
