import random
from collections import Counter

import pytest

from transfer.study.trials import SIDES, Trial, choose_systems, draw_trials, vigilance_pairs

PAPER = {"practice": 10, "tests": 40, "vigilance": 0.1}
CASES = [
    {"photos": 50, "systems": ("full",), **PAPER},
    {"photos": 1000, "systems": ("full", "class", "l2"), **PAPER},
    {"photos": 60, "systems": ("a", "b"), "practice": 3, "tests": 17, "vigilance": 0.25},
    {"photos": 9, "systems": ("a", "b", "c", "d"), "practice": 0, "tests": 9, "vigilance": 0.0},
    {"photos": 5, "systems": ("a",), "practice": 1, "tests": 1, "vigilance": 0.1},
]


def drawn(case, seed):
    return draw_trials(**case, rng=random.Random(seed))


def draws(case):
    return [drawn(case, seed) for seed in range(25)]


@pytest.mark.parametrize("case", CASES, ids=str)
class TestDrawTrials:
    def test_practice_comes_first_and_no_photo_twice(self, case):
        for trials in draws(case):
            assert [t.part for t in trials] == ["practice"] * case["practice"] + ["test"] * case["tests"]
            photos = [t.photo for t in trials]
            assert len(set(photos)) == len(photos)
            assert set(photos) <= set(range(case["photos"]))

    def test_the_share_of_obvious_fakes_is_as_asked_in_either_part(self, case):
        for trials in draws(case):
            for part, pairs in (("practice", case["practice"]), ("test", case["tests"])):
                obvious = sum(t.system is None for t in trials if t.part == part)
                assert abs(obvious - pairs * case["vigilance"]) <= 0.5

    def test_sides_are_balanced_as_a_whole_and_for_each_system(self, case):
        for trials in draws(case):
            for part in ("practice", "test"):
                own = [t for t in trials if t.part == part]
                groups = [own, *([t for t in own if t.system == s] for s in (None, *case["systems"]))]
                for group in groups:
                    sides = Counter(t.real for t in group)
                    assert abs(sides["left"] - sides["right"]) <= 1

    def test_systems_are_dealt_evenly(self, case):
        for trials in draws(case):
            for part in ("practice", "test"):
                counts = Counter(t.system for t in trials if t.part == part)
                dealt = [counts[system] for system in case["systems"]]
                assert max(dealt) - min(dealt) <= 1


def test_the_papers_session_has_four_obvious_fakes_among_the_tests_and_one_in_practice():
    trials = drawn(CASES[0], 0)
    assert [sum(t.system is None for t in trials[a:b]) for a, b in ((0, 10), (10, 50))] == [1, 4]


def test_the_same_seed_draws_the_same_and_another_one_not():
    assert drawn(CASES[1], 1) == drawn(CASES[1], 1) != drawn(CASES[1], 2)


def test_every_place_and_side_may_come():
    # Over many participants neither order nor side tells anything.
    runs = [drawn(CASES[0], seed)[10:] for seed in range(200)]
    obvious = Counter(place for run in runs for place, trial in enumerate(run) if trial.system is None)
    left = Counter(place for run in runs for place, trial in enumerate(run) if trial.real == "left")
    assert all(0 < obvious[place] < 45 for place in range(40))  # 20 expected
    assert all(55 < left[place] < 145 for place in range(40))  # 100 expected, 6 standard deviations


def test_shares_are_rounded_half_up():
    assert [vigilance_pairs(n, 0.1) for n in (0, 4, 5, 10, 14, 15, 40)] == [0, 0, 1, 1, 1, 2, 4]


def test_the_fake_is_on_the_other_side():
    assert {Trial("test", 0, None, side).fake for side in SIDES} == set(SIDES)
    assert Trial("test", 0, None, "left").fake == "right"


class TestChooseSystems:
    def test_one_is_of_those_with_the_fewest_participants(self):
        chosen = {
            choose_systems({"a": 3, "b": 2, "c": 2}, "one", random.Random(seed))[0] for seed in range(40)
        }
        assert chosen == {"b", "c"}

    def test_all_are_all(self):
        assert choose_systems({"a": 3, "b": 2}, "all", random.Random(0)) == ("a", "b")
