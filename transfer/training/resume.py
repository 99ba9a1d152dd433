"""Where the training of a stage goes on after it was interrupted."""

import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import distributed as dist

from pretext.distributed import on_first, rank_and_world_size
from pretext.files import write_whole
from pretext.old_names import spelled_for_hash
from pretext.progress import LOG
from pretext.training.checkpoints import newest_whole
from pretext.training.claim import sole_run
from transfer.job import Job
from transfer.protocols.settings import TrainingSettings


@runtime_checkable
class Stateful(Protocol):
    """Something with a state: a model, an optimiser, a schedule."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Take over a state."""


@dataclass(frozen=True)
class Unfinished:
    """The two newest states of a run, each in a file, which are there until the run is finished.

    Attributes:
        path: File of the newest state.
        interval: Steps between two states.
    """

    path: Path
    interval: int

    @property
    def before(self) -> Path:
        """File of the state before the newest."""
        return self.path.with_name(f"{self.path.stem}.before.pth")

    def restore(self, **parts: Stateful) -> tuple[int, Any]:
        """Give every part its state back: the newest, or the one before if the newest is damaged.

        Returns:
            The steps done, 0 if there is no state; and what was saved as ``extra``.

        Raises:
            InputError: Both states are damaged.
        """
        # Were each process to look for itself, they might go on from different steps.
        path = on_first(self._newest)
        if path is None:
            return 0, None
        saved = torch.load(path, map_location="cpu", weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved["parts"][name])
        LOG.info(f"goes on after step {saved['step']}")
        return int(saved["step"]), saved["extra"]

    def save(self, step: int, extra: Any = None, **parts: Stateful) -> None:
        """Write the state after a step, whole or not at all, if it is due; only the first process writes.

        Raises:
            InputError: There is no room for it; the state before stays.
        """
        if step % self.interval or rank_and_world_size()[0] != 0:
            return
        buffer = io.BytesIO()
        states = {name: part.state_dict() for name, part in parts.items()}
        torch.save({"step": step, "extra": extra, "parts": states}, buffer)
        with suppress(FileNotFoundError):
            self.path.replace(self.before)
        write_whole(self.path, buffer.getvalue())

    def delete(self) -> None:
        """Delete the states."""
        for path in (self.path, self.before):
            path.unlink(missing_ok=True)

    def _newest(self) -> Path | None:
        states = [path for path in (self.path, self.before) if path.exists()]
        newest = newest_whole(states, weights_only=True)
        if newest == self.before:
            # Damaged. The next state would push it into the place of the only whole one.
            self.path.unlink(missing_ok=True)
        return newest


def run_digest(*identity: Any) -> str:
    """Return the SHA-256 of what tells a run from others, by which its unfinished state is found again."""
    content = json.dumps(spelled_for_hash(identity), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


@contextmanager
def resumable(job: Job[TrainingSettings], *identity: str) -> Iterator[Unfinished]:
    """Hold the states of a run, and keep the same run in another process out, until it has ended well.

    Args:
        job: The run. Another with the same settings (but for free ones), seed and number of processes goes on where it
            stopped.
        identity: What else tells the run from others: the hash of its backbone, the fingerprint of its data.

    Raises:
        InputError: Another process is at the same run.
    """
    rank, world_size = rank_and_world_size()
    digest = run_digest(job.settings.recipe(), job.seed, world_size, *identity)
    path = job.work_dir / "unfinished" / f"{digest[:16]}.pth"
    unfinished = Unfinished(path, job.settings.checkpoint_interval)
    with sole_run(path.with_suffix(".lock"), path):
        yield unfinished
        if world_size > 1:
            dist.barrier()
        if rank == 0:
            unfinished.delete()
    if rank == 0:
        with suppress(OSError):  # of a folder that is gone already, or holds other runs
            path.parent.rmdir()
