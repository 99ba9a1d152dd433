"""mmengine's Runner as this project uses it: the only module that imports it."""

import logging
import math
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook, Hook, LoggerHook
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import nn

from pretext.distributed import on_first, rank_and_world_size
from pretext.errors import InputError, TrainingDivergedError
from pretext.files import move_into_place
from pretext.precision import mixed_precision
from pretext.training.checkpoints import newest_whole
from pretext.training.hooks import FollowSchedule
from pretext.training.schedules import Schedule

#: Steps between two entries in the log.
LOG_INTERVAL = 10


class WholeCheckpointRunner(Runner):  # type: ignore[misc]  # mmengine is not typed
    """mmengine's Runner with checkpoints that are written whole or not at all, and a quiet terminal.

    It keeps the two newest checkpoints in its folder and goes on from the newer one, or from the older one if the
    newer is damaged.

    Args:
        work_dir: Folder of the run.
        steps: Steps of the whole run.
        schedule: Schedule of the learning rate, over ``steps``.
        checkpoint_interval: Steps between two checkpoints, rounded up to a multiple of ``accumulate``: a checkpoint
            holds no gradients, so it is written only after an update of the weights.
        accumulate: Steps between two updates of the weights.
        seed: Seed of the random numbers that are not drawn step by step.
        until: Steps after which the run ends nevertheless; None for all of them.
        validate_every: Steps between two validations, if there are ``val_*`` among the further arguments; there is one
            after the last step, too.
        optim_wrapper: The optimizer, whose groups have their base rates.
        custom_hooks: Hooks besides that of the schedule.
        **kwargs: Further arguments of mmengine's Runner.

    Raises:
        InputError: Every checkpoint in the folder is damaged.
    """

    def __init__(
        self,
        work_dir: Path,
        *,
        steps: int,
        schedule: Schedule,
        checkpoint_interval: int,
        accumulate: int,
        seed: int,
        optim_wrapper: OptimWrapper,
        custom_hooks: Sequence[Hook],
        until: int | None = None,
        validate_every: int = 1,
        **kwargs: Any,
    ):
        # Were each process to look for itself, they might go on from different steps.
        checkpoint = on_first(lambda: latest_checkpoint(work_dir))
        interval = accumulate * math.ceil(checkpoint_interval / accumulate)
        rates = [group["lr"] for group in optim_wrapper.optimizer.param_groups]
        super().__init__(
            work_dir=str(work_dir),
            # Two runs of one process would share their logs if they shared a name.
            experiment_name=f"{work_dir.name}-{uuid.uuid4().hex[:8]}",
            train_cfg={
                "type": IterBasedTrainLoop,
                "max_iters": steps if until is None else until,
                "val_interval": validate_every,
            },
            # The hook below moves the rates.
            param_scheduler=[],
            optim_wrapper=optim_wrapper,
            custom_hooks=[FollowSchedule(schedule, steps, rates), *custom_hooks],
            default_hooks={
                "logger": LoggerHook(LOG_INTERVAL, log_metric_by_epoch=False),
                "checkpoint": CheckpointHook(
                    interval, by_epoch=False, max_keep_ckpts=2, filename_tmpl="step_{:08d}.pth"
                ),
            },
            load_from=str(checkpoint) if checkpoint else None,
            resume=checkpoint is not None,
            launcher="pytorch" if rank_and_world_size()[1] > 1 else "none",
            log_processor={"by_epoch": False},
            randomness={"seed": seed},
            cfg=EmptyConfig(),
            **kwargs,
        )

    def train(self) -> nn.Module:
        """Train to the end and return the model."""
        trained: nn.Module = super().train()
        # The loaders' workers end now, at once. Left to the garbage collector, they keep it waiting for five seconds.
        del self.train_loop.dataloader_iterator
        return trained

    def build_logger(
        self, log_level: int | str = "INFO", log_file: str | None = None, **kwargs: Any
    ) -> MMLogger:
        """Log everything to the file, and only warnings to the terminal."""
        logger = super().build_logger(log_level, log_file, **kwargs)
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.setLevel(max(handler.level, logging.ERROR))
        return logger

    def dump_config(self) -> None:
        """Write nothing: the caller has written the resolved config."""

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Write a checkpoint whole or not at all.

        Raises:
            TrainingDivergedError: A weight is not finite.
            InputError: There is no room for it.
        """
        if self._rank != 0:
            return
        for name, weight in self.model.state_dict().items():
            if weight.is_floating_point() and not bool(torch.isfinite(weight).all()):
                raise TrainingDivergedError(f"the weight {name} is not finite at step {self.iter + 1}")
        partial = Path(out_dir) / f"{filename}.partial"
        try:
            super().save_checkpoint(out_dir, partial.name, *args, **kwargs)
            move_into_place(partial, Path(out_dir) / filename)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise InputError(
                f"cannot write the checkpoint {filename} to {out_dir}: {error.strerror or error}",
                allowed="make room and start the same command again: it goes on from the checkpoint before",
            ) from error


class EmptyConfig(Config):  # type: ignore[misc]
    """mmengine's record of a config, which holds nothing: the caller has written the resolved config.

    Its text is not formatted for each checkpoint. While mmengine does that, it takes Ctrl-C for an error of syntax.
    """

    pretty_text = ""


class CpuAmpOptimWrapper(OptimWrapper):  # type: ignore[misc]
    """Mixed precision on a CPU, in bfloat16; mmengine's own refuses a CPU."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass in bfloat16 where torch considers it safe."""
        with super().optim_context(model), mixed_precision(torch.device("cpu"), "bfloat16"):
            yield


def norm_limit(max_grad_norm: float | None) -> dict[str, float] | None:
    """Return a limit of gradients' norm as mmengine's wrappers of optimizers take it: a new dict, which they change."""
    return None if max_grad_norm is None else {"max_norm": max_grad_norm}


def latest_checkpoint(work_dir: Path) -> Path | None:
    """Return the newest whole checkpoint of a run, None if there are no checkpoints.

    Raises:
        InputError: Every checkpoint is damaged.
    """
    return newest_whole(sorted(work_dir.glob("step_*.pth"), reverse=True), weights_only=False)
