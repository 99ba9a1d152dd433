"""Optimizers: those that a config can name, and which weights learn at which rate."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from pretext.checks import check_at_least
from pretext.config import build

#: Every optimizer by the name that configs and records have.
OPTIMIZERS: Mapping[str, type[Optimizer]] = MappingProxyType(
    {"Adam": Adam, "AdamW": AdamW, "RMSprop": RMSprop, "SGD": SGD}
)
#: Beginning of parameters' names, or several.
Prefix = str | tuple[str, ...]


def parameter_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    lr: float,
    *,
    bias_lr_factor: float = 1.0,
    decay_biases: bool = False,
    rate_factors: Mapping[Prefix, float] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """Return the groups of an optimizer: weights, then biases and norms, of each rate.

    Args:
        named_parameters: Those that do not require a gradient are left out.
        lr: Base rate.
        bias_lr_factor: Rate of biases and norms, relative to that of weights.
        decay_biases: Whether weight decay is for biases and norms, too.
        rate_factors: Rates relative to ``lr`` of parameters whose name begins so.

    Returns:
        The groups that are not empty: first those of the base rate, then those of ``rate_factors`` in their order.
    """
    trained = {name: p for name, p in named_parameters if p.requires_grad}
    parts = []
    for prefix, factor in {**rate_factors, "": 1.0}.items():
        parts.append((factor, [trained.pop(name) for name in list(trained) if name.startswith(prefix)]))
    groups: list[dict[str, Any]] = []
    for factor, chosen in parts[-1:] + parts[:-1]:
        rate = lr * factor
        groups.append({"params": [p for p in chosen if p.ndim > 1], "lr": rate})
        others = {"params": [p for p in chosen if p.ndim <= 1], "lr": rate * bias_lr_factor}
        groups.append(others if decay_biases else others | {"weight_decay": 0.0})
    return [group for group in groups if group["params"]]


def make_optimizer(
    spec: Mapping[str, Any], named_parameters: Iterable[tuple[str, nn.Parameter]], **options: Any
) -> Optimizer:
    """Make the optimizer that a config names.

    Args:
        spec: ``type``, one of `OPTIMIZERS`, ``lr`` and other arguments.
        named_parameters: See `parameter_groups`.
        **options: Further arguments of `parameter_groups`.

    Raises:
        InputError: The optimizer has no rate, or does not take an argument or its value.
    """
    check_at_least("optimizer.lr", spec.get("lr"), 0.0)
    made: Optimizer = build(spec, OPTIMIZERS, parameter_groups(named_parameters, spec["lr"], **options))
    return made
