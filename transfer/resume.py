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

from pretext.checks import check_at_least
from pretext.config import plain
from pretext.distributed import rank_and_world_size
from pretext.files import write_whole
from pretext.old_names import spelled_for_hash
from pretext.progress import LOG
from transfer.stage import FREE_KEYS, Job


@runtime_checkable
class Stateful(Protocol):
    """What has a state: a model, an optimiser, a schedule."""

    def state_dict(self) -> dict[str, Any]:
        """The state."""

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Take over a state."""


@dataclass(frozen=True)
class Unfinished:
    """The newest state of a run, in one file.

    Attributes:
        path: The file; it is there only while the run is not finished.
        interval: Steps between two writings.
    """

    path: Path
    interval: int

    def restore(self, **parts: Stateful) -> tuple[int, Any]:
        """Give every part its state back.

        Returns:
            After how many steps that was, 0 if there is none; and what was saved as ``extra``.
        """
        if not self.path.is_file():
            return 0, None
        saved = torch.load(self.path, map_location="cpu", weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved["parts"][name])
        LOG.info(f"goes on after step {saved['step']}")
        return int(saved["step"]), saved["extra"]

    def save(self, step: int, extra: Any = None, **parts: Stateful) -> None:
        """Write the state after a step, whole or not at all, if it is time; by the first of several processes.

        Raises:
            InputError: There is no room for it; the state before stays.
        """
        if step % self.interval or rank_and_world_size()[0] != 0:
            return
        buffer = io.BytesIO()
        states = {name: part.state_dict() for name, part in parts.items()}
        torch.save({"step": step, "extra": extra, "parts": states}, buffer)
        write_whole(self.path, buffer.getvalue())


@contextmanager
def resumable(job: Job, *identity: str) -> Iterator[Unfinished]:
    """Hold the state of a run until it has ended well.

    Args:
        job: The same config (but for `FREE_KEYS`) and seed, with as many processes, go on where it stopped. Its config
            has ``checkpoint_interval``.
        identity: What else tells the run from others: the hash of its backbone, the fingerprint of its data.

    Raises:
        InputError: The interval is no whole number from 1.
    """
    check_at_least("checkpoint_interval", job.config["checkpoint_interval"], 1)
    rank, world_size = rank_and_world_size()
    recipe = {key: value for key, value in plain(job.config).items() if key not in FREE_KEYS}
    content = json.dumps([spelled_for_hash(recipe), job.seed, world_size, *identity], sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()
    path = job.work_dir / "unfinished" / f"{digest[:16]}.pth"
    yield Unfinished(path, job.config["checkpoint_interval"])
    if world_size > 1:
        dist.barrier()
    if rank == 0:
        path.unlink(missing_ok=True)
        with suppress(OSError):  # of a folder that was never made, or holds other runs
            path.parent.rmdir()
