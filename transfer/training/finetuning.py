"""The training loop that classification and detection share."""

import math
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch import distributed as dist
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset

from pretext.data.sampling import EpochSampler
from pretext.distributed import data_parallel, rank_and_world_size
from pretext.errors import TrainingDivergedError
from pretext.progress import ProgressDisplay
from pretext.training.hooks import step_seed
from pretext.training.optimizers import make_optimizer
from transfer.job import Job
from transfer.protocols.settings import FineTuningSettings, TrainingSettings
from transfer.training.resume import Stateful, Unfinished


def fine_tune(
    model: nn.Module,
    samples: Dataset[Any],
    loss_of: Callable[[nn.Module, Any], Float[Tensor, ""]],
    job: Job[FineTuningSettings],
    title: str,
    collate: Callable[[list[Any]], Any] | None = None,
    unfinished: Unfinished | None = None,
) -> None:
    """Train what requires a gradient in ``model`` by gradient descent, and leave it in eval mode.

    Every random number that is drawn on the way depends on (seed, step) or (seed, epoch, index of the photo).
    With several processes each computes its share of a batch, and gradients are averaged; the batch norms that are
    trained take their statistics over all.

    Args:
        model: On the job's device.
        samples: Training samples by :class:`pretext.data.sampling.Draw`; their number is ``len(samples)``.
        loss_of: From the model and a batch to the loss that is minimised. With several processes the model that it gets
            is one that averages gradients.
        job: Gives the settings.
        title: What the progress display says.
        collate: From samples to a batch; by default torch's.
        unfinished: Where an interrupted run goes on, and where this one leaves its state meanwhile.

    Raises:
        InputError: There are fewer samples than one batch needs, or the length of the run is out of range; or there is
            no room for a state.
        TrainingDivergedError: The loss is no longer finite.
    """
    settings, (rank, world_size) = job.settings, rank_and_world_size()
    images = settings.batch_size * world_size
    sampler = EpochSampler(len(samples), settings.batch_size, job.seed, rank, world_size)  # type: ignore[arg-type]
    steps = settings.length(sampler.steps_per_epoch)
    shared = data_parallel(model, job.device)
    optimizer, scheduler = optimizer_and_scheduler(model, settings, steps)
    parts: dict[str, Stateful] = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    start = unfinished.restore(**parts)[0] if unfinished is not None else 0
    sampler.skip(start * settings.batch_size)
    batches = islice(loader(samples, job, sampler, collate), steps - start)
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    # On leaving, torch's generators are as they were.
    devices = [job.device] if job.device.type == "cuda" else []
    model.train()
    with torch.random.fork_rng(devices), ProgressDisplay(title, steps, start, enabled=rank == 0) as display:
        for step, batch in enumerate(batches, start):
            torch.manual_seed(step_seed("fine-tuning", job.seed, step, rank))
            optimizer.zero_grad()
            loss = loss_of(shared, batch)
            loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
            value = loss.item()
            check_finite(value, step, title)
            if settings.max_grad_norm is not None:
                nn.utils.clip_grad_norm_(weights, settings.max_grad_norm)
            optimizer.step()
            scheduler.step()
            display.step(images, loss=value)
            if unfinished is not None:
                unfinished.save(step + 1, **parts)
    model.eval()


def loader(
    samples: Dataset[Any],
    job: Job[FineTuningSettings],
    sampler: Iterable[Any],
    collate: Callable[[list[Any]], Any] | None = None,
) -> DataLoader[Any]:
    """Return batches of the samples that ``sampler`` names, decoded by ``workers``."""
    return DataLoader(
        samples,
        batch_size=job.settings.batch_size,
        sampler=sampler,
        num_workers=job.settings.workers,
        collate_fn=collate,
        pin_memory=job.device.type == "cuda",
    )


def optimizer_and_scheduler(
    model: nn.Module, settings: TrainingSettings, steps: int
) -> tuple[torch.optim.Optimizer, LambdaLR]:
    """Return the optimizer of all that requires a gradient, and what moves its rates from step to step."""
    optimizer = make_optimizer(
        settings.optimizer,
        model.named_parameters(),
        bias_lr_factor=settings.bias_lr_factor,
        decay_biases=settings.decay_biases,
    )
    schedule = settings.schedule.fitted(settings.optimizer, settings.scale)
    return optimizer, LambdaLR(optimizer, lambda step: schedule.factor(step, steps))


def gather(items: list[Any]) -> list[Any]:
    """Return the items of all processes: those of process 0, then those of process 1, and so on."""
    if rank_and_world_size()[1] == 1:
        return items
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, items)
    return [item for part in gathered for item in part]


def check_finite(loss: float, step: int, title: str) -> None:
    """Raise TrainingDivergedError unless the loss of a step, from 0, is a finite number."""
    if not math.isfinite(loss):
        raise TrainingDivergedError(
            f"the loss of the {title} is {loss} at step {step + 1}; no score is written. Lower optimizer.lr"
        )
