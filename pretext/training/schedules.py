"""Schedules: what the learning rate is multiplied by at each step of a run, in shares of the run.

Shares keep their meaning when a run is shortened. Nothing heavy is imported here: settings hold schedules.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Literal

from pretext.checks import check_at_least, check_choice, check_share
from pretext.errors import InputError
from pretext.training.fields import read_fields


@dataclass(frozen=True)
class Schedule:
    """A schedule, which begins with a linear warm-up if it has one.

    Attributes:
        warmup: Share of the run that the warm-up takes.
        warmup_start: Factor of the first step of the warm-up, whose last step has factor 1. None for one over its
            steps. A warm-up of a single step that starts elsewhere would never end, and is left out.

    Raises:
        InputError: A share, a factor or a milestone is out of range.
    """

    warmup: float = 0.0
    warmup_start: float | None = None

    def __post_init__(self) -> None:
        check_share("schedule.warmup", self.warmup, below_one=True)
        if self.warmup_start is not None:
            check_share("schedule.warmup_start", self.warmup_start)
        if self.warmup == 0:  # equal schedules are equal
            object.__setattr__(self, "warmup_start", None)

    def factor(self, step: int, steps: int) -> float:
        """Return what the rate is multiplied by.

        Args:
            step: Step of the run, from 0.
            steps: Steps of the whole run.
        """
        warmup: int = round(self.warmup * steps)
        if warmup == 1 and self.warmup_start is not None:
            warmup = 0
        if step >= warmup:
            return self._after_warmup(step, steps, warmup)
        if self.warmup_start is None:
            return (step + 1) / warmup
        return self.warmup_start + (1 - self.warmup_start) * step / (warmup - 1)

    def fitted(self, optimizer: Mapping[str, Any], scale: float) -> "Schedule":
        """Return the schedule for an optimizer and a run that is shortened by ``scale``."""
        return self

    def spec(self) -> dict[str, Any]:
        """Return what a config says of it: its name and its arguments."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if not f.metadata.get("fitted")}
        return {"type": type(self).__name__} | given

    def _after_warmup(self, step: int, steps: int, warmup: int) -> float:
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Schedule):
    """The same rate throughout."""

    def _after_warmup(self, step: int, steps: int, warmup: int) -> float:
        return 1.0


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine down to 0 (Loshchilov, Hutter, "SGDR", ICLR 2017, without restarts)."""

    def _after_warmup(self, step: int, steps: int, warmup: int) -> float:
        return (1 + math.cos(math.pi * ((step - warmup) / max(steps - warmup, 1)))) / 2


@dataclass(frozen=True)
class Poly(Schedule):
    """The share of the steps that are left, to a power; the last step has factor 0.

    Attributes:
        power: The power.
    """

    power: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("schedule.power", self.power, 0.0)

    def _after_warmup(self, step: int, steps: int, warmup: int) -> float:
        left = 1 - (step - warmup) / max(steps - warmup - 1, 1)
        # A scheduler of torch asks for the step behind the last, too.
        return float(max(left, 0.0) ** self.power)


@dataclass(frozen=True)
class Step(Schedule):
    """Another factor from each milestone on; a milestone in the warm-up counts from its end.

    Attributes:
        milestones: Shares of the whole run, rising.
        factors: For each milestone the factor from there on, relative to the base rate.
        rounding: Which step a milestone between two steps falls on: the ``nearest``, or the next one ``up``.
    """

    milestones: tuple[float, ...] = ()
    factors: tuple[float, ...] = ()
    rounding: Literal["nearest", "up"] = "nearest"

    def __post_init__(self) -> None:
        super().__post_init__()
        for factor in self.factors:
            check_at_least("a factor of the schedule", factor, 0.0)
        for share in self.milestones:
            check_share("a milestone of the schedule", share)
        if any(
            later <= earlier for earlier, later in zip(self.milestones, self.milestones[1:], strict=False)
        ):
            raise InputError("schedule.milestones must rise", received=self.milestones)
        if len(self.milestones) != len(self.factors):
            raise InputError(
                "schedule.milestones and schedule.factors differ in length",
                received=f"{len(self.milestones)} milestones and {len(self.factors)} factors",
                allowed="give one factor per milestone",
            )

    def _after_warmup(self, step: int, steps: int, warmup: int) -> float:
        factor = 1.0
        for share, factor_from_there in zip(self.milestones, self.factors, strict=True):
            if step >= round(share * steps) if self.rounding == "nearest" else step / steps >= share:
                factor = factor_from_there
        return factor


@dataclass(frozen=True)
class Bottou(Schedule):
    """1 / sqrt(1 + rate * weight decay * steps done) (Bottou, "SGD Tricks", 2012; DeepCluster).

    The steps are those of the run before it was shortened.

    Attributes:
        strength: Base rate times weight decay, which `fitted` reads from the optimizer.
        scale: Share of the run that is left, likewise.
    """

    strength: float | None = field(default=None, metadata={"fitted": True})
    scale: float = field(default=1.0, metadata={"fitted": True})

    def fitted(self, optimizer: Mapping[str, Any], scale: float) -> Schedule:
        """Return the schedule for an optimizer, with the rate and the weight decay that it has.

        Raises:
            InputError: The optimizer has none.
        """
        for key in ("lr", "weight_decay"):
            check_at_least(f"optimizer.{key} of the schedule Bottou", optimizer.get(key), 0.0)
        return replace(self, strength=optimizer["lr"] * optimizer["weight_decay"], scale=scale)

    def _after_warmup(self, step: int, steps: int, warmup: int) -> float:
        if self.strength is None:
            raise ValueError("fitted() tells the schedule Bottou what it depends on")
        return float((1 + self.strength * (step / self.scale)) ** -0.5)


#: Every schedule by the name that configs and records have.
SCHEDULES: Mapping[str, type[Schedule]] = MappingProxyType(
    {"Bottou": Bottou, "Constant": Constant, "Cosine": Cosine, "Poly": Poly, "Step": Step}
)


def make_schedule(spec: Any) -> Schedule:
    """Make a schedule from what a config says; a schedule stays as it is.

    Args:
        spec: ``type``, one of `SCHEDULES`, and its arguments.

    Raises:
        InputError: It is something else, an argument is unknown, or its value is not allowed.
    """
    if isinstance(spec, Schedule):
        return spec
    if not isinstance(spec, Mapping) or "type" not in spec:
        in_steps = isinstance(spec, Mapping) and "name" in spec
        raise InputError(
            "schedule must be a dict with a type",
            received=dict(spec) if isinstance(spec, Mapping) else spec,
            allowed="its milestones are in steps, and without the config's steps they are no shares of the run"
            if in_steps
            else f"its types are {', '.join(SCHEDULES)}",
        )
    check_choice("schedule", spec["type"], SCHEDULES)
    kind = SCHEDULES[spec["type"]]
    arguments = {key: value for key, value in spec.items() if key != "type"}
    if fitted := [
        each.name for each in fields(kind) if each.metadata.get("fitted") and each.name in arguments
    ]:
        raise InputError(f"{spec['type']} takes these from the optimizer", received=", ".join(fitted))
    return kind(**read_fields(kind, arguments, "schedule."))


def total_steps(steps: int | None, epochs: int | None, steps_per_epoch: int) -> int:
    """Return the steps of a run: ``steps``, or those of its ``epochs``.

    A step is one batch per process. With gradient accumulation over n batches, every n-th step updates the weights.

    Raises:
        InputError: Both or none are given, or the number is below 1.
    """
    if (steps is None) == (epochs is None):
        raise InputError(
            "a run needs either steps or epochs",
            received=f"steps={steps} and epochs={epochs}",
            allowed="set one to a whole number from 1 up and the other to None",
        )
    for name, value in (("steps", steps), ("epochs", epochs)):
        if value is not None:
            check_at_least(name, value, 1)
    return int(steps or (epochs or 0) * steps_per_epoch)


def run_length(scale: float, steps: int) -> int:
    """Return the steps of a run whose whole schedule has ``steps``, shortened by ``scale``.

    Raises:
        InputError: The scale is not above 0 and at most 1.
    """
    check_share("scale", scale, above_zero=True)
    return max(1, round(scale * steps))
