"""Sets of permutations that are far from each other, for jigsaw puzzles; and their files."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import factorial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pretext.checks import check_at_least
from pretext.errors import InputError
from pretext.files import write_whole

#: Most tiles: all permutations of nine are looked at, and ten times as many of ten.
MAX_TILES = 9


@dataclass(frozen=True)
class PermutationSet:
    """Permutations, of which no two are alike.

    Attributes:
        permutations: Each a tuple of all numbers from 0 on; place i of a shuffled puzzle shows tile ``permutation[i]``.
        minimum_distance: Least Hamming distance between two: in how many places they differ.
        mean_distance: The mean over all pairs.
    """

    permutations: tuple[tuple[int, ...], ...]
    minimum_distance: int
    mean_distance: float

    def save(self, path: Path) -> None:
        """Write the set and its distances as JSON."""
        content = {
            "tiles": len(self.permutations[0]),
            "count": len(self.permutations),
            "minimum_distance": self.minimum_distance,
            "mean_distance": self.mean_distance,
            "permutations": self.permutations,
        }
        lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()]
        write_whole(path, "{\n" + ",\n".join(lines).replace("], [", "],\n    [") + "\n}\n")

    @classmethod
    def load(cls, path: Path) -> "PermutationSet":
        """Read a set that was saved.

        Raises:
            InputError: The file is not there, cut short, holds what is no permutation or one twice, or its number of
                permutations or its distances are not the ones it claims.
        """
        try:
            content = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path} is no set of permutations ({error}); make one by `python -m pretext permutations --out {path}`"
            ) from error
        permutations = _checked(content, path)
        found = measure(permutations)
        claims = {
            "count": len(permutations),
            "minimum_distance": found.minimum_distance,
            "mean_distance": found.mean_distance,
        }
        for key, value in claims.items():
            received = content.get(key)
            if not isinstance(received, (int, float)) or abs(received - value) > 1e-9:
                raise InputError(
                    f"{path} does not hold the permutations it claims: {key} is given as {received!r} and is {value};"
                    " make the file anew"
                )
        return found


def _checked(content: Any, path: Path) -> list[tuple[int, ...]]:
    rows = content.get("permutations") if isinstance(content, dict) else None
    tiles = content.get("tiles") if isinstance(content, dict) else None
    if not isinstance(rows, list) or len(rows) < 2 or type(tiles) is not int:
        raise InputError(
            f"{path} is no set of permutations: expected a JSON object with tiles and with a list of two permutations"
            " and more"
        )
    for number, row in enumerate(rows):
        whole = isinstance(row, list) and all(type(place) is int for place in row)
        if not whole or sorted(row) != list(range(tiles)):
            raise InputError(
                f"{path}: number {number} is no permutation: received {row}, expected each of 0 to {tiles - 1} once"
            )
    permutations = [tuple(row) for row in rows]
    if len(set(permutations)) < len(permutations):
        raise InputError(f"{path} holds a permutation twice; each stands for a class of its own")
    return permutations


def measure(permutations: Sequence[tuple[int, ...]]) -> PermutationSet:
    """The set of these permutations, two or more, with its distances."""
    table = np.array(permutations)
    distances = [int((table[i] != table[j]).sum()) for i, j in combinations(range(len(table)), 2)]
    return PermutationSet(tuple(permutations), min(distances), float(np.mean(distances)))


def distant_permutations(count: int, *, tiles: int = MAX_TILES, seed: int = 0) -> PermutationSet:
    """Choose permutations that are far from each other.

    After Noroozi and Favaro (ECCV 2016), algorithm 1: the first is drawn, then again and again the one that is farthest
    from all that are chosen. The paper's algorithm takes the one with the greatest mean Hamming distance, which
    hundreds have in common and which allows two that are nearly the same. Here it is the one whose least distance is
    greatest, and of those the one with the greatest mean; of these the first in order.

    Args:
        count: How many.
        tiles: Length of a permutation.
        seed: Of the first one.

    Raises:
        InputError: There are not as many permutations of so many tiles, or ``count`` is below 2.
    """
    check_at_least("count of permutations", count, 2)
    check_at_least("tiles", tiles, 2)
    if tiles > MAX_TILES or count > factorial(tiles):
        raise InputError(
            f"there are no such permutations: received count={count} of {tiles} tiles, allowed are up to {MAX_TILES}"
            f" tiles and as many permutations as there are ({factorial(min(tiles, MAX_TILES))})"
        )
    # A row for each place: comparing one place of all permutations runs through memory in order.
    places = _all_permutations(tiles)
    number = int(np.random.default_rng(seed).integers(places.shape[1]))
    summed = np.zeros(places.shape[1], dtype=np.int64)
    least = np.full(places.shape[1], tiles, dtype=np.uint8)
    chosen = [number]
    while len(chosen) < count:
        distance = np.zeros(places.shape[1], dtype=np.uint8)
        for place in places:
            distance += place != place[number]
        summed += distance
        np.minimum(least, distance, out=least)
        farthest = np.flatnonzero(least == least.max())
        number = int(farthest[summed[farthest].argmax()])
        chosen.append(number)
    return measure([tuple(places[:, number].tolist()) for number in chosen])


def _all_permutations(tiles: int) -> npt.NDArray[np.uint8]:
    """All permutations in lexicographic order, one a column."""
    table = np.zeros((1, 1), dtype=np.uint8)
    for length in range(2, tiles + 1):
        # Each first number in turn, followed by the permutations of the others.
        parts = []
        for first in range(length):
            rest = table + (table >= first)
            parts.append(np.concatenate([np.full((1, table.shape[1]), first, dtype=np.uint8), rest]))
        table = np.concatenate(parts, axis=1).astype(np.uint8)
    return table
