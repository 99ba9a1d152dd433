"""Errors carry their parts, and checks fill them."""

import math
import pickle

import pytest
from refusals import refused

from pretext.checks import check_at_least, check_choice, check_share
from pretext.errors import InputError


def test_an_error_is_its_three_parts():
    error = InputError("unknown layer of alexnet", received="conv9", allowed=("conv1", "conv2"))
    assert (error.what, error.received, error.allowed) == (
        "unknown layer of alexnet",
        "conv9",
        ("conv1", "conv2"),
    )
    assert str(error) == "unknown layer of alexnet: received conv9; allowed are conv1, conv2"
    assert str(InputError("no room", received=3, allowed="make room")) == "no room: received 3; make room"
    assert str(InputError("no room", allowed=[3])) == "no room; allowed is 3"


def test_what_would_not_show_is_quoted():
    assert str(InputError("x", received="")) == "x: received ''"
    assert str(InputError("x", received="a\nb", allowed=["c "])) == "x: received 'a\\nb'; allowed is 'c '"


def test_an_error_crosses_processes():
    error = pickle.loads(pickle.dumps(InputError("no room", received=3, allowed=(1, 2))))
    assert (error.what, error.received, error.allowed) == ("no room", 3, (1, 2))


def test_a_worker_of_a_loader_adds_its_stack():
    raised_anew = InputError(
        "Caught InputError in worker 0.\nTraceback ...\npretext.errors.InputError: no room\n"
    )
    assert str(raised_anew) == "no room"


def test_choice():
    check_choice("colour", "red", ["red", "blue"])
    with refused("colour", received="green", allowed=("red", "blue")):
        check_choice("colour", "green", ["red", "blue"])


@pytest.mark.parametrize("number", [3, 4])
def test_numbers_large_enough(number):
    check_at_least("steps", number, 3)
    check_at_least("rate", number, 3.0)
    check_at_least("rate", number + 0.5, 3.0)


@pytest.mark.parametrize(
    ("number", "least"),
    [(2, 3), (2.9, 3.0), (math.nan, 0.0), (3.5, 3), ("4", 3), (None, 0), (True, 0), (math.inf, 0.0)],
)
def test_numbers_too_small_or_of_another_type(number, least):
    with refused("steps"):
        check_at_least("steps", number, least)


def test_shares():
    for share in (0, 0.5, 1):
        check_share("drop", share)
    for share in (-0.1, 1.1, math.nan, "0.5", True):
        with refused("drop"):
            check_share("drop", share)
    with refused("drop", received=0):
        check_share("drop", 0, above_zero=True)
    with refused("drop", received=1):
        check_share("drop", 1, below_one=True)
