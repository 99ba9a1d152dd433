"""The training loop that classification and detection share."""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch import distributed as dist
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset

from pretext.checks import check_at_least, check_choice, check_share
from pretext.config import build
from pretext.data.sampling import EpochSampler
from pretext.distributed import rank_and_world_size
from pretext.errors import TrainingDivergedError
from pretext.progress import ProgressDisplay
from pretext.training.optimizers import OPTIMIZERS
from pretext.training.schedules import check_schedule, total_steps
from transfer.job import Job
from transfer.protocols import run_length
from transfer.training.resume import Stateful, Unfinished


def check_config(config: Mapping[str, Any], settings: Iterable[str]) -> None:
    """Check what all fine-tuning configs share.

    Args:
        config: The stage's config.
        settings: Allowed values of its key ``train``.

    Raises:
        InputError: ``train``, ``batch_norm``, ``reinit_from`` or ``schedule.name`` is none of the allowed values,
            or a number is out of range.
    """
    check_choice("train", config["train"], settings)
    check_choice("batch_norm", config["batch_norm"], ("absorb", "frozen", "train"))
    check_schedule(config["schedule"], ("cosine", "step"))
    if config["schedule"]["name"] == "step":
        check_at_least("schedule.stages", config["schedule"]["stages"], 1.0)
        check_at_least("schedule.decay", config["schedule"]["decay"], 0.0)
    check_new_layers(config)
    check_at_least("batch_size", config["batch_size"], 1)
    check_at_least("workers", config["workers"], 0)
    run_length(config, total_steps(config, 1))


def check_new_layers(config: Mapping[str, Any]) -> None:
    """Raise InputError unless what the config says of fc6 and fc7 can be built."""
    check_choice("reinit_from", config["reinit_from"], ("fc6", "fc8"))
    for key in ("fc_channels", "fc6_size"):
        check_at_least(key, config[key], 1)
    if config["new_std"] is not None:
        check_at_least("new_std", config["new_std"], 0.0)
    check_share("dropout", config["dropout"], below_one=True)


def fine_tune(
    model: nn.Module,
    samples: Dataset[Any],
    loss_of: Callable[[Any], Float[Tensor, ""]],
    job: Job,
    title: str,
    collate: Callable[[list[Any]], Any] | None = None,
    unfinished: Unfinished | None = None,
) -> None:
    """Train what requires a gradient in ``model`` by gradient descent, and leave it in eval mode.

    Every random number that is drawn on the way depends on (seed, step) or (seed, epoch, index of the photo).
    With several processes each computes its share of a batch, and gradients are averaged.

    Args:
        model: On the job's device.
        samples: Training samples by :class:`pretext.data.sampling.Draw`; their number is ``len(samples)``.
        loss_of: From a batch to the loss that is minimised.
        job: Its config has ``epochs`` or ``steps`` with their ``scale``, ``batch_size``, ``workers``,
            ``optimizer``, ``bias_lr_factor``, ``decay_biases``, ``max_grad_norm`` (None for no limit) and
            ``schedule``.
        title: What the progress display says.
        collate: From samples to a batch; by default torch's.
        unfinished: Where an interrupted run goes on, and where this one leaves its state meanwhile.

    Raises:
        InputError: There are fewer samples than one batch needs, or the length of the run is out of range; or there is
            no room for a state.
        TrainingDivergedError: The loss is no longer finite.
    """
    config, (rank, world_size) = job.config, rank_and_world_size()
    images = config["batch_size"] * world_size
    sampler = EpochSampler(len(samples), config["batch_size"], job.seed, rank, world_size)  # type: ignore[arg-type]
    steps = run_length(config, total_steps(config, sampler.steps_per_epoch))
    optimizer = _optimizer(model, config)
    scheduler = LambdaLR(optimizer, lambda step: rate_factor(step, steps, config["schedule"]))
    _share_weights(model, world_size)
    parts: dict[str, Stateful] = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    start = unfinished.restore(**parts)[0] if unfinished is not None else 0
    sampler.skip(start * config["batch_size"])
    batches = islice(loader(samples, job, sampler, collate), steps - start)
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    # On leaving, torch's generators are as they were.
    devices = [job.device] if job.device.type == "cuda" else []
    model.train()
    with torch.random.fork_rng(devices), ProgressDisplay(title, steps, start, enabled=rank == 0) as display:
        for step, batch in enumerate(batches, start):
            torch.manual_seed(_step_seed(job.seed, step, rank))
            optimizer.zero_grad()
            loss = loss_of(batch)
            loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
            check_finite(loss.item(), step, title)
            _average_gradients(weights, world_size)
            if config["max_grad_norm"] is not None:
                nn.utils.clip_grad_norm_(weights, config["max_grad_norm"])
            optimizer.step()
            scheduler.step()
            display.step(images, loss=loss.item())
            if unfinished is not None:
                unfinished.save(step + 1, **parts)
    model.eval()


def loader(
    samples: Dataset[Any],
    job: Job,
    sampler: Iterable[Any],
    collate: Callable[[list[Any]], Any] | None = None,
) -> DataLoader[Any]:
    """Batches of the samples that ``sampler`` names, decoded by the config's ``workers``."""
    return DataLoader(
        samples,
        batch_size=job.config["batch_size"],
        sampler=sampler,
        num_workers=job.config["workers"],
        collate_fn=collate,
        pin_memory=job.device.type == "cuda",
    )


def rate_factor(step: int, steps: int, schedule: Mapping[str, Any]) -> float:
    """What the learning rate is multiplied by at one step of a schedule.

    A linear warm-up over the share ``warmup`` of all steps, then ``cosine``: half a cosine down to 0; or
    ``step``: times ``decay`` after each of ``stages`` equal parts but the last (Kraehenbuehl et al. 2016: 0.5
    and 8 for classification, 0.1 and 3 for detection).
    """
    warmup: int = round(schedule["warmup"] * steps)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(steps - warmup, 1)
    if schedule["name"] == "cosine":
        return (1 + math.cos(math.pi * done)) / 2
    decay: float = schedule["decay"]
    return float(decay ** min(int(done * schedule["stages"]), math.ceil(schedule["stages"]) - 1))


def gather(items: list[Any]) -> list[Any]:
    """The items of all processes: those of process 0, then those of process 1, and so on."""
    if rank_and_world_size()[1] == 1:
        return items
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, items)
    return [item for part in gathered for item in part]


def _optimizer(model: nn.Module, config: Mapping[str, Any]) -> torch.optim.Optimizer:
    # In Caffe's nets biases learn at twice the rate.
    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    weights = [weight for _, weight in named if weight.ndim > 1]
    others = [weight for _, weight in named if weight.ndim <= 1]
    rate = config["optimizer"]["lr"] * config["bias_lr_factor"]
    groups: list[dict[str, Any]] = [{"params": weights}, {"params": others, "lr": rate}]
    if not config["decay_biases"]:
        groups[1]["weight_decay"] = 0.0
    optimizer: torch.optim.Optimizer = build(config["optimizer"], OPTIMIZERS, groups)
    return optimizer


def _step_seed(seed: int, step: int, rank: int) -> int:
    digest = hashlib.sha256(f"fine-tuning/{seed}/{step}/{rank}".encode()).digest()
    return int.from_bytes(digest[:7], "little")


def check_finite(loss: float, step: int, title: str) -> None:
    """Raise TrainingDivergedError unless the loss of a step, from 0, is a finite number."""
    if not math.isfinite(loss):
        raise TrainingDivergedError(
            f"the loss of the {title} is {loss} at step {step + 1}; no score is written. Lower optimizer.lr"
        )


def _share_weights(model: nn.Module, world_size: int) -> None:
    """Give all processes the model of the first: what was measured on photos may differ in the last digits."""
    if world_size > 1:
        for value in model.state_dict().values():
            dist.broadcast(value, 0)


def _average_gradients(weights: Sequence[Tensor], world_size: int) -> None:
    if world_size == 1:
        return
    for weight in weights:
        weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
        dist.all_reduce(weight.grad)
        weight.grad /= world_size
