"""The length of a run and the schedule of its learning rate."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.optim import CosineAnnealingLR, LinearLR, MultiStepLR, PolyLR

from pretext.checks import check_at_least, check_choice, check_share
from pretext.errors import InputError


def total_steps(config: Mapping[str, Any], steps_per_epoch: int) -> int:
    """Return the steps of a run: the config's ``steps``, or those of its ``epochs``.

    A step is one batch per process. With gradient accumulation over n batches, every n-th step updates the weights.

    Raises:
        InputError: Both or none are given, or the number is below 1.
    """
    steps, epochs = config["steps"], config["epochs"]
    if (steps is None) == (epochs is None):
        raise InputError(
            "a run needs either steps or epochs",
            received=f"steps={steps} and epochs={epochs}",
            allowed="set one to a whole number from 1 up and the other to None",
        )
    for key in ("steps", "epochs"):
        if config[key] is not None:
            check_at_least(key, config[key], 1)
    return int(steps or epochs * steps_per_epoch)


def check_schedule(schedule: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise InputError unless the schedule's name is one of ``names`` and its warm-up a share of the steps."""
    check_choice("schedule", schedule["name"], names)
    check_share("schedule.warmup", schedule["warmup"], below_one=True)


def schedulers(schedule: Mapping[str, Any], steps: int) -> list[dict[str, Any]]:
    """Return the schedulers of mmengine that make up one schedule.

    Args:
        schedule: A schedule that passes :func:`check_schedule`. Over the share ``warmup`` of all steps the rate rises
            linearly. Then it follows ``name``: ``cosine`` falls to zero by half a cosine; ``poly`` falls as the share
            of remaining steps to the power ``power``; ``step`` multiplies it by f at step s for each (s, f) of
            ``milestones``; ``constant`` keeps it.
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
