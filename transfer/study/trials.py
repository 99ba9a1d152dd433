"""Which pairs a participant sees, in which order, and on which side the true photo is.

Source: Zhang, Isola, Efros, "Colorful Image Colorization", ECCV 2016, section 3.1: 10 practice pairs and 40 test pairs
of one system, 10 % of them against an obvious fake. Everything here is a function of its arguments.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Side = Literal["left", "right"]
Part = Literal["practice", "test"]
#: How many systems a participant judges: ``one``, as in the paper, or ``all`` of them in turn.
Design = Literal["one", "all"]

SIDES: tuple[Side, ...] = get_args(Side)
DESIGNS: tuple[Design, ...] = get_args(Design)


@dataclass(frozen=True)
class Trial:
    """One pair.

    Attributes:
        part: ``practice``, with feedback, or ``test``, which counts.
        photo: Number of the photo in the study.
        system: Whose colours the true photo stands against; None for an obvious fake, which tests attention.
        real: Side of the true photo.
    """

    part: Part
    photo: int
    system: str | None
    real: Side

    @property
    def fake(self) -> Side:
        """Side of the fake."""
        return SIDES[1 - SIDES.index(self.real)]


def vigilance_pairs(pairs: int, share: float) -> int:
    """Return how many of some pairs test attention: the share, rounded half up."""
    return int(pairs * share + 0.5)


def choose_systems(counts: Mapping[str, int], design: Design, rng: random.Random) -> tuple[str, ...]:
    """Choose what a participant judges.

    Args:
        counts: How many participants each system has so far.
        design: ``one`` takes a system with the fewest, drawn among equals; ``all`` takes all.
        rng: What is drawn from.
    """
    if design == "all":
        return tuple(counts)
    fewest = min(counts.values())
    return (rng.choice([system for system, count in counts.items() if count == fewest]),)


def draw_trials(
    photos: int, systems: Sequence[str], practice: int, tests: int, vigilance: float, rng: random.Random
) -> tuple[Trial, ...]:
    """Draw a participant's pairs: practice first, no photo twice.

    In either part the share of pairs that test attention is as given. The other pairs are dealt evenly to the systems,
    to within one. In either part as a whole, for each system of it, and for the pairs that test attention, the true
    photo is as often on the left as on the right, to within one.

    Args:
        photos: How many photos the study has, at least ``practice + tests``.
        systems: Names of the systems that the participant judges.
        practice: Pairs with feedback.
        tests: Pairs that count.
        vigilance: Share of the pairs of either part that test attention, 0 to 1.
        rng: What is drawn from.
    """
    drawn = iter(rng.sample(range(photos), practice + tests))
    trials: list[Trial] = []
    parts: tuple[tuple[Part, int], ...] = (("practice", practice), ("test", tests))
    for part, pairs in parts:
        attentive = vigilance_pairs(pairs, vigilance)
        first = rng.randrange(len(systems))
        dealt = sorted((first + k) % len(systems) for k in range(pairs - attentive))
        shown = [*(systems[number] for number in dealt), *[None] * attentive]
        # Sides alternate along the systems in order, so that each of them is balanced, too.
        start = rng.randrange(2)
        own = [Trial(part, next(drawn), system, SIDES[(start + k) % 2]) for k, system in enumerate(shown)]
        rng.shuffle(own)
        trials += own
    return tuple(trials)
