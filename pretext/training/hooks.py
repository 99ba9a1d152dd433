"""Hooks around a training step: random numbers, unreadable photos, bad losses, progress, pictures."""

import hashlib
import io
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from pretext.errors import InputError, TrainingDivergedError
from pretext.files import read_lines, write_whole
from pretext.progress import ProgressDisplay
from pretext.training.schedules import Schedule

#: More unreadable photos than this share of all of them stop a run.
MAX_UNREADABLE = 0.01
#: What would break a line of a list, or its columns.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def step_seed(*parts: str | int) -> int:
    """Return the seed of the random numbers of a step, from what tells it from all others."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:7], "little")


class PinRandomNumbers(Hook):  # type: ignore[misc]  # mmengine is not typed
    """Seed torch before each step from (seed, step, rank), so that a resumed run draws the same numbers."""

    priority = "VERY_HIGH"

    def __init__(self, seed: int, rank: int):
        self.seed, self.rank = seed, rank

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Seed torch for the step."""
        torch.manual_seed(step_seed(self.seed, batch_idx, self.rank))


class FollowSchedule(Hook):  # type: ignore[misc]
    """Set the learning rate of each group of weights before each step.

    The rate follows from the step alone, so that a run that goes on needs no state of it.

    Args:
        schedule: The schedule.
        steps: Steps of the whole run.
        rates: Base rate of each group.
    """

    priority = "VERY_HIGH"

    def __init__(self, schedule: Schedule, steps: int, rates: Sequence[float]):
        self.schedule, self.steps, self.rates = schedule, steps, rates

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Set the rates of the step."""
        factor = self.schedule.factor(batch_idx, self.steps)
        for group, rate in zip(runner.optim_wrapper.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor


class SkipUnreadable(Hook):  # type: ignore[misc]
    """Count the photos that could not be read and list them; too many stop the run.

    The list (``unreadable.txt``, one line per photo: its name, a tab, the reason) is the count: all processes append to
    it, and a resumed run goes on with it. A name with a line break or another control character is written escaped.

    Args:
        path: The list.
        num_photos: How many photos the run has.
        held_out: The held-out photos that could not be read, and why; they count like the others.

    Raises:
        InputError: More than 1 % of the photos are unreadable.
    """

    priority = "VERY_HIGH"

    def __init__(self, path: Path, num_photos: int, held_out: dict[str, str]):
        self.path, self.num_photos, self.held_out = path, num_photos, held_out
        self._known = self._listed()

    def before_train(self, runner: Any) -> None:
        """List the held-out photos that are unreadable, and stop if there are too many."""
        self._list(runner, self.held_out)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Take the unreadable photos out of the batch, list the new ones, and stop if there are too many."""
        self._list(runner, dict(data_batch.pop("unreadable")))

    def _list(self, runner: Any, unreadable: dict[str, str]) -> None:
        named = {_one_line(name): why for name, why in unreadable.items()}
        new = {name: why for name, why in named.items() if name not in self._known}
        if not new:
            return
        with self.path.open("ab") as file:
            file.write(b"".join(os.fsencode(f"{name}\t{_one_line(why)}\n") for name, why in new.items()))
        self._known = self._listed()
        runner.logger.warning(f"{len(self._known)} unreadable photos so far, listed in {self.path}")
        check_unreadable(self._known, self.num_photos)

    def _listed(self) -> dict[str, str]:
        lines = read_lines(self.path) if self.path.is_file() else []
        return dict(line.partition("\t")[::2] for line in lines)


def _one_line(text: str) -> str:
    """Return a text that has no control characters: as it is, or escaped."""
    return text.encode("unicode_escape").decode() if CONTROL.search(text) else text


def check_unreadable(unreadable: dict[str, str], num_photos: int) -> None:
    """Raise InputError if more than 1 % of the photos are unreadable; it names the first of them."""
    if len(unreadable) > MAX_UNREADABLE * num_photos:
        first = "; ".join(f"{name} ({why})" for name, why in list(unreadable.items())[:3])
        raise InputError(
            "too many unreadable photos",
            received=f"{len(unreadable)} of {num_photos}, first {first}",
            allowed=f"at most {MAX_UNREADABLE:.0%} are skipped: mend or remove them",
        )


class BeginEpochs(Hook):  # type: ignore[misc]
    """Let the method look at all photos before each epoch, and before the first of the epoch's photos is chosen.

    torch is seeded before as for the epoch's first step.

    Args:
        steps_per_epoch: Steps of an epoch.
        batches: All training photos, in batches of `pretext.data.views.collate`.
        seed: Seed of the run.
        rank: Number of this process.
    """

    # A checkpoint of an epoch's last step is written before: a run that goes on from it begins the next epoch itself.
    priority = "LOWEST"

    def __init__(self, steps_per_epoch: int, batches: Iterable[dict[str, Any]], seed: int, rank: int):
        self.steps_per_epoch, self.batches, self.seed, self.rank = steps_per_epoch, batches, seed, rank

    def before_train(self, runner: Any) -> None:
        """Call the method if the run begins or goes on where an epoch begins."""
        self._begin(runner, runner.iter)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Call the method if the next step begins an epoch."""
        self._begin(runner, batch_idx + 1)

    def _begin(self, runner: Any, step: int) -> None:
        if step % self.steps_per_epoch or step == runner.max_iters:
            return
        torch.manual_seed(step_seed(self.seed, step, self.rank))
        method = runner.model.module if is_model_wrapper(runner.model) else runner.model
        device = next(method.parameters()).device
        for parameter in method.begin_epoch(step // self.steps_per_epoch, self._on(device)) or ():
            # A gradient may be under way where gradients are accumulated.
            parameter.grad = None
            runner.optim_wrapper.optimizer.state.pop(parameter, None)

    def _on(self, device: torch.device) -> Iterator[dict[str, Tensor]]:
        for batch in self.batches:
            yield {key: batch[key].to(device) for key in ("image", "index")}


class StopOnNonFinite(Hook):  # type: ignore[misc]
    """Stop the run at the first loss that is not finite, before it can reach a checkpoint."""

    priority = "HIGH"

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Raise TrainingDivergedError if the step's loss is not finite."""
        loss = _last_loss(runner)
        if not math.isfinite(loss):
            raise TrainingDivergedError(
                f"the loss is {loss} at step {batch_idx + 1}; the last good checkpoint is kept."
                " Lower optimizer.lr, or lengthen the warm-up, and start again with another --work-dir"
            )


class ShowProgress(Hook):  # type: ignore[misc]
    """Show step, epoch, loss and learning rate on a display that the caller has begun and ends."""

    def __init__(self, display: ProgressDisplay, images_per_step: int, steps_per_epoch: int):
        self.display, self.images_per_step, self.steps_per_epoch = display, images_per_step, steps_per_epoch

    def before_train(self, runner: Any) -> None:
        """Set the display to the step the run goes on from."""
        self.display.start_at(runner.iter)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Show the step."""
        self.display.step(
            self.images_per_step,
            epoch=batch_idx // self.steps_per_epoch + 1,
            loss=_last_loss(runner),
            lr=runner.optim_wrapper.get_lr()["lr"][0],
        )


def _last_loss(runner: Any) -> float:
    """Return the loss of this step, which mmengine has read from the device for its log already."""
    return float(runner.message_hub.get_scalar("train/loss").current())


class SavePreviews(Hook):  # type: ignore[misc]
    """Write what the method makes of a few held-out photos as ``color_grids/iter_XXXXXXXX.png``.

    Args:
        photos: Held-out photos (N, 3, H, W) uint8.
        folder: Folder of the pictures.
        interval: Steps between two pictures; there is one after the last step, too.
    """

    def __init__(self, photos: Tensor, folder: Path, interval: int):
        self.photos, self.folder, self.interval = photos, folder, interval

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Write a picture if the step is due."""
        step = batch_idx + 1
        if step % self.interval and step != runner.max_iters:
            return
        method = runner.model.module if is_model_wrapper(runner.model) else runner.model
        method.eval()
        pictures = method.preview(self.photos.to(next(method.parameters()).device))
        method.train()
        if pictures is not None:
            write_whole(self.folder / f"iter_{step:08d}.png", _png(pictures.cpu()))


def _png(pictures: Tensor) -> bytes:
    grid = make_grid(pictures, nrow=2 if len(pictures) > 1 else 1, padding=4, pad_value=255)
    buffer = io.BytesIO()
    Image.fromarray(grid.permute(1, 2, 0).numpy()).save(buffer, format="PNG")
    return buffer.getvalue()
