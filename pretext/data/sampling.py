"""The order in which photos are drawn.

Every draw is a function of (seed, epoch, index of the photo, how often it came before) alone, so that a run on one
process or two, with no worker or four, or stopped and resumed in mid-epoch, sees the same crops.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from jaxtyping import Int
from torch.utils.data import DataLoader, Sampler

from pretext.errors import InputError

#: Gives the photos of an epoch, (n,) in their order; it draws from the random numbers that it is given.
Order = Callable[[np.random.Generator], Int[np.ndarray, " n"]]


@dataclass(frozen=True)
class Draw:
    """One sample of a run: the photo, the epoch it is seen in, and how often that epoch has shown it before."""

    epoch: int
    index: int
    repeat: int = 0


def draw_rng(seed: int, draw: Draw) -> np.random.Generator:
    """Return the random numbers of one draw of a run with that seed."""
    key = (seed, draw.epoch, draw.index)
    return np.random.default_rng((*key, draw.repeat) if draw.repeat else key)


class EpochSampler(Sampler[Draw]):
    """An endless stream of draws, each epoch a new permutation or order, that can start anywhere.

    Process ``rank`` takes the ``rank``-th part of each global batch, so that two processes with batches of 20
    see together what one process with batches of 40 sees. What does not fill a global batch is left out of
    that epoch.

    With ``order`` the stream ends with each epoch, and goes on with the next one when it is asked again: what a network
    has learned in an epoch may decide the next one's order, so nobody may read ahead. `EpochLoader` asks again.

    Args:
        num_samples: Photos in an epoch.
        batch_size: Samples per process and step.
        seed: Seed of the permutations.
        rank: Number of this process.
        world_size: Number of processes.
        order: Gives the ``num_samples`` photos of an epoch, the same on all processes, and the same again where a run
            resumes in that epoch. None for each photo once, in random order.

    Raises:
        InputError: One global batch needs more photos than there are.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        order: Order | None = None,
    ):
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.order = order
        self.steps_per_epoch = num_samples // (batch_size * world_size)
        self._skipped_steps = 0
        if self.steps_per_epoch == 0:
            raise InputError(
                f"the photos do not fill one batch of batch_size={batch_size}"
                + (f" on each of {world_size} processes" if world_size > 1 else ""),
                received=f"{num_samples} photos to train on",
                allowed="use more photos or a smaller batch_size",
            )

    def __len__(self) -> int:
        """Return the draws of this process in one epoch; the stream itself does not end."""
        return self.steps_per_epoch * self.batch_size

    def skip(self, num_samples: int) -> None:
        """Start after the first ``num_samples`` draws of this process (whole batches), without drawing them."""
        self._skipped_steps = num_samples // self.batch_size

    def __iter__(self) -> Iterator[Draw]:
        epoch, step = divmod(self._skipped_steps, self.steps_per_epoch)
        for number in count(epoch):
            yield from self._draws(number, step)
            step = 0
            if self.order is not None:
                self._skipped_steps = (number + 1) * self.steps_per_epoch
                return

    def _draws(self, epoch: int, first: int) -> Iterator[Draw]:
        """Yield this process's draws of an epoch from a step on."""
        rng = np.random.default_rng((self.seed, epoch))
        if self.order is None:
            order, repeats = rng.permutation(self.num_samples), np.zeros(self.num_samples, dtype=np.int64)
        else:
            order = self.order(rng)
            repeats = times_before(order)
        for step in range(first, self.steps_per_epoch):
            start = (step * self.world_size + self.rank) * self.batch_size
            for place in range(start, start + self.batch_size):
                yield Draw(epoch, int(order[place]), int(repeats[place]))


def times_before(values: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Return how often each value came before."""
    places = np.argsort(values, kind="stable")
    ordered = values[places]
    starts = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))
    counts = np.empty(len(values), dtype=np.int64)
    counts[places] = np.arange(len(values)) - np.repeat(starts, np.diff(starts, append=len(values)))
    return counts


class EpochLoader(DataLoader[Any]):
    """Batches without an end, whether or not the sampler ends with each epoch.

    Its workers read ahead as far as the sampler's stream goes.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch's has a length, too
        while True:
            yield from super().__iter__()
