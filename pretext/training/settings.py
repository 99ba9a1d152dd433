"""Settings: configs that were checked, with a name and a type for each key. Nothing heavy is imported here."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from pretext.checks import check_at_least, check_choice
from pretext.config import plain
from pretext.errors import InputError
from pretext.training.fields import Spec, read_fields
from pretext.training.schedules import Schedule, make_schedule, total_steps

S = TypeVar("S", bound="Settings")

#: What pretraining starts from, besides a backbone file: random filters, scaled on photos, or fitted to photos.
STARTS = ("he", "gaussian", "kmeans")


def free() -> Any:
    """Declare a field that changes no number: an interrupted run goes on with another value."""
    return field(metadata={"free": True})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a run. Each kind of run has its own, and each checks its own when it is made.

    Raises:
        InputError: A value is out of range.
    """

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raise InputError where a value is out of range."""

    @classmethod
    def keys(cls) -> tuple[str, ...]:
        """Return the keys of a config."""
        return tuple(each.name for each in fields(cls))

    @classmethod
    def free_keys(cls) -> frozenset[str]:
        """Return the keys that change no number."""
        return frozenset(each.name for each in fields(cls) if each.metadata.get("free"))

    @classmethod
    def from_config(cls: type[S], config: Mapping[str, Any]) -> S:
        """Make settings from a config.

        Raises:
            InputError: A key is unknown or missing, or a value has a wrong type or is out of range.
        """
        return cls(**read_fields(cls, config, readers={Schedule: make_schedule}))

    def config(self) -> dict[str, Any]:
        """Return the resolved config: the settings as JSON can hold them."""
        values = {key: getattr(self, key) for key in self.keys()}
        return {k: plain(v.spec() if isinstance(v, Schedule) else v) for k, v in values.items()}

    def recipe(self) -> dict[str, Any]:
        """Return the config without what changes no number."""
        return {key: value for key, value in self.config().items() if key not in self.free_keys()}


@dataclass(frozen=True, kw_only=True)
class RunSettings(Settings):
    """What all runs that train by gradient descent share.

    Attributes:
        batch_size: Photos of a step, in each process.
        epochs: Length of the run in epochs; or None.
        steps: Length of the run in steps; or None. One of the two is given.
        optimizer: An optimizer of `pretext.training.optimizers.OPTIMIZERS`, ``lr`` and other arguments.
        schedule: The schedule of the learning rate.
        workers: Processes that decode photos.
        checkpoint_interval: Steps between two states from which an interrupted run goes on.
    """

    batch_size: int
    epochs: int | None
    steps: int | None
    optimizer: Spec
    schedule: Schedule
    workers: int = free()
    checkpoint_interval: int = free()

    def check(self) -> None:
        """Raise InputError where a value is out of range."""
        super().check()
        check_at_least("batch_size", self.batch_size, 1)
        check_at_least("workers", self.workers, 0)
        check_at_least("checkpoint_interval", self.checkpoint_interval, 1)
        total_steps(self.steps, self.epochs, 1)

    def length(self, steps_per_epoch: int) -> int:
        """Return the steps of the run."""
        return total_steps(self.steps, self.epochs, steps_per_epoch)


@dataclass(frozen=True, kw_only=True)
class PretrainingSettings(RunSettings):
    """Settings of pretraining.

    Attributes:
        name: What tables call the backbone; None for the method's own name.
        data: Photos to train on.
        view: A view of `pretext.data.crops.VIEWS`, and its arguments.
        held_out: Photos that are not trained on, for pictures; at most a tenth of all.
        backbone: ``architecture``, and arguments of `pretext.backbones.checkpoint.build`.
        method: A method of `pretext.methods.METHODS`, and its arguments.
        accumulate: Steps between two updates of the weights, whose gradients are added up.
        max_grad_norm: Gradients are scaled down to this norm; None for no limit.
        mixed_precision: ``bfloat16``, where the device has it, or on a GPU ``float16``; None for single precision.
        preview_interval: Steps between two pictures; 0 for none.
        init: What the backbone starts from: one of `STARTS`, or the path of a backbone file.
    """

    name: str | None
    data: str
    view: Spec
    held_out: int
    backbone: Spec
    method: Spec
    accumulate: int
    max_grad_norm: float | None
    mixed_precision: str | None
    preview_interval: int
    init: str = "he"

    @property
    def init_file(self) -> Path | None:
        """The backbone file to start from; None if the start is one of `STARTS`."""
        return None if self.init in STARTS else Path(self.init)

    def check(self) -> None:
        """Raise InputError where a value is out of range."""
        super().check()
        if not isinstance(self.backbone.get("architecture"), str):
            raise InputError(
                "backbone names no architecture",
                received=self.backbone,
                allowed="write backbone.architecture=alexnet",
            )
        check_at_least("accumulate", self.accumulate, 1)
        check_at_least("held_out", self.held_out, 0)
        if self.name is not None and (not self.name.strip() or self.name == "random"):
            raise InputError(
                "name, the backbone's in tables, cannot be this",
                received=self.name,
                allowed="allowed are texts other than random, and None for the method's name",
            )
        check_at_least("preview_interval", self.preview_interval, 0)
        check_choice("mixed_precision", self.mixed_precision, (None, "bfloat16", "float16"))
        check_limit(self.max_grad_norm)
        if self.init not in STARTS and not self.init.endswith(".safetensors"):
            raise InputError(
                "unknown init",
                received=self.init,
                allowed=f"allowed are {', '.join(STARTS)}, and the path of a backbone file (.safetensors)",
            )


def check_limit(max_grad_norm: float | None) -> None:
    """Raise InputError unless a limit of gradients' norm is a number, or None."""
    if max_grad_norm is not None:
        check_at_least("max_grad_norm", max_grad_norm, 0.0)
