"""How long a run is, and how its learning rate goes."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.optim import CosineAnnealingLR, LinearLR, MultiStepLR, PolyLR

from pretext.checks import check_at_least, check_choice
from pretext.errors import InputError


def total_steps(config: Mapping[str, Any], steps_per_epoch: int) -> int:
    """Steps of a run: those of its config, or of its ``epochs``.

    A step is one batch a process. With gradient accumulation over n batches every n-th step updates the weights.

    Raises:
        InputError: Both are given or none, or the number is below 1.
    """
    steps, epochs = config["steps"], config["epochs"]
    if (steps is None) == (epochs is None):
        raise InputError(
            f"a run needs steps or epochs, the other None: received steps={steps}, epochs={epochs}"
        )
    for key in ("steps", "epochs"):
        if config[key] is not None:
            check_at_least(key, config[key], 1)
    return int(steps or epochs * steps_per_epoch)


def check_schedule(schedule: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise InputError unless the schedule's name is one of ``names`` and its warm-up a share of all steps."""
    check_choice("schedule", schedule["name"], names)
    if not 0 <= schedule["warmup"] < 1:
        raise InputError(
            f"schedule.warmup is a share of all steps: received {schedule['warmup']}, allowed are 0 to below 1"
        )


def schedulers(schedule: Mapping[str, Any], steps: int) -> list[dict[str, Any]]:
    """The schedulers of mmengine that make up one schedule.

    Args:
        schedule: One that :func:`check_schedule` has passed. ``warmup`` is the share of all steps over which the
            rate rises in a line. Then it goes by ``name``: ``cosine`` falls to zero by half a cosine, ``poly`` by
            the share of steps that is left to the power ``power``; ``step`` multiplies it by f at step s for each
            (s, f) of ``milestones``; ``constant`` leaves it.
        steps: Steps of the whole run.
    """
    warmup = round(schedule["warmup"] * steps)
    # mmengine's warm-up of one step would never end.
    warmup = warmup if warmup > 1 else 0
    parts: list[dict[str, Any]] = []
    if warmup:
        parts.append({"type": LinearLR, "start_factor": 0.01, "end": warmup})
    if schedule["name"] == "cosine":
        parts.append({"type": CosineAnnealingLR, "begin": warmup, "end": steps})
    elif schedule["name"] == "poly":
        parts.append({"type": PolyLR, "power": schedule["power"], "begin": warmup, "end": steps})
    elif schedule["name"] == "step":
        parts += [
            {"type": MultiStepLR, "milestones": [step], "gamma": factor}
            for step, factor in schedule["milestones"]
        ]
    return [part | {"by_epoch": False} for part in parts]
