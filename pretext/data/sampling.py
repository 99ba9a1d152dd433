"""The order in which photos are drawn.

Every draw is a function of (seed, epoch, index of the photo) alone, so that a run on one process or two, with
no worker or four, or stopped and resumed in mid-epoch, sees the same crops.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
from torch.utils.data import Sampler

from pretext.errors import InputError


@dataclass(frozen=True)
class Draw:
    """One sample of a run: the photo and the epoch it is seen in."""

    epoch: int
    index: int


def draw_rng(seed: int, draw: Draw) -> np.random.Generator:
    """Return the random numbers of one draw of a run with that seed."""
    return np.random.default_rng((seed, draw.epoch, draw.index))


class EpochSampler(Sampler[Draw]):
    """An endless stream of draws, each epoch a new permutation, that can start anywhere.

    Process ``rank`` takes the ``rank``-th part of each global batch, so that two processes with batches of 20
    see together what one process with batches of 40 sees. What does not fill a global batch is left out of
    that epoch.

    Args:
        num_samples: Photos in an epoch.
        batch_size: Samples per process and step.
        seed: Seed of the permutations.
        rank: Number of this process.
        world_size: Number of processes.

    Raises:
        InputError: One global batch needs more photos than there are.
    """

    def __init__(self, num_samples: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1):
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.steps_per_epoch = num_samples // (batch_size * world_size)
        self._skipped_steps = 0
        if self.steps_per_epoch == 0:
            raise InputError(
                f"the photos do not fill one batch of batch_size={batch_size} on each of {world_size} processes",
                received=f"{num_samples} photos",
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
            order = np.random.default_rng((self.seed, number)).permutation(self.num_samples)
            for current in range(step, self.steps_per_epoch):
                start = (current * self.world_size + self.rank) * self.batch_size
                for index in order[start : start + self.batch_size]:
                    yield Draw(number, int(index))
            step = 0
