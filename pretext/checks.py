"""Checks of options and settings, each an `InputError` with the parts what, received and allowed."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from pretext.errors import InputError


def check_choice(what: str, received: Any, allowed: Iterable[Any]) -> None:
    """Raise InputError unless ``received`` is one of ``allowed``."""
    allowed = tuple(allowed)
    if received not in allowed:
        raise InputError(f"unknown {what}", received=received, allowed=allowed)


def check_at_least(name: str, received: Any, least: int | float) -> None:
    """Raise InputError unless ``received`` is a number from ``least`` up; a whole one if ``least`` is an int."""
    kind = "whole numbers" if isinstance(least, int) else "numbers"
    allowed = f"allowed are {kind} from {least} up"
    if isinstance(received, bool) or not isinstance(received, (int, type(least))):
        raise InputError(f"{name} has a wrong type", received=repr(received), allowed=allowed)
    if not received >= least:
        raise InputError(f"{name} is too small", received=received, allowed=allowed)
    if received == math.inf:
        raise InputError(f"{name} is infinite", received=received, allowed=allowed)


def check_seed(received: Any) -> None:
    """Raise InputError unless ``received`` is a seed that every generator takes: a whole number below 2^32."""
    check_at_least("seed", received, 0)
    if received >= 2**32:
        raise InputError(
            "seed is too large", received=received, allowed="allowed are whole numbers below 2^32"
        )


def check_share(name: str, received: Any, *, above_zero: bool = False, below_one: bool = False) -> None:
    """Raise InputError unless ``received`` is a number from 0 to 1.

    Args:
        name: What the number is called.
        received: What was given for it.
        above_zero: Whether 0 is refused.
        below_one: Whether 1 is refused.
    """
    low, high = "above 0" if above_zero else "from 0", "below 1" if below_one else "1"
    allowed = f"allowed are numbers {low} to {high}"
    if isinstance(received, bool) or not isinstance(received, (int, float)):
        raise InputError(f"{name} has a wrong type", received=repr(received), allowed=allowed)
    if not 0 <= received <= 1 or (above_zero and received == 0) or (below_one and received == 1):
        raise InputError(f"{name} is not a share", received=received, allowed=allowed)


@contextmanager
def room_for(network: str, size: str) -> Iterator[None]:
    """Say in InputError that photos are too small where torch would say it of some layer's map.

    Args:
        network: What looks at the photos.
        size: Their side as the user gave it, for instance ``view.size=20``.
    """
    try:
        yield
    except RuntimeError as error:
        raise InputError(
            f"{network} cannot look at photos of {size}: {error}", allowed="choose a larger one"
        ) from error
