"""Sets of permutations that are far from each other, for jigsaw puzzles, and their files."""

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

#: Most tiles: the search looks at all permutations, and ten tiles would have ten times as many as nine.
MAX_TILES = 9


@dataclass(frozen=True)
class PermutationSet:
    """Permutations, no two of them equal.

    Attributes:
        permutations: Tuples of all numbers from 0 on; place i of a shuffled puzzle shows tile ``permutation[i]``.
        minimum_distance: Least Hamming distance (number of places in which two differ) over all pairs.
        mean_distance: Mean Hamming distance over all pairs.
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
            InputError: The file is missing or cut short, holds something that is not a permutation, or one twice; or
                the number of permutations or their distances are not those it claims.
        """
        try:
            content = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path} is not a set of permutations ({error})",
                allowed=f"make one by `python -m pretext permutations --out {path}`",
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
                    f"{path} does not hold the permutations it claims: {key} is wrong",
                    received=received,
                    allowed=f"the permutations give {value}; make the file anew",
                )
        return found


def _checked(content: Any, path: Path) -> list[tuple[int, ...]]:
    rows = content.get("permutations") if isinstance(content, dict) else None
    tiles = content.get("tiles") if isinstance(content, dict) else None
    if not isinstance(rows, list) or len(rows) < 2 or type(tiles) is not int:
        raise InputError(
            f"{path} is not a set of permutations",
            allowed="expected is a JSON object with tiles (a number) and permutations (a list of two or more)",
        )
    for number, row in enumerate(rows):
        whole = isinstance(row, list) and all(type(place) is int for place in row)
        if not whole or sorted(row) != list(range(tiles)):
            raise InputError(
                f"permutation {number} of {path} is not one",
                received=row,
                allowed=f"it must hold each number from 0 to {tiles - 1} once",
            )
    permutations = [tuple(row) for row in rows]
    if len(set(permutations)) < len(permutations):
        raise InputError(f"{path} holds a permutation twice", allowed="each is a class of its own")
    return permutations


def measure(permutations: Sequence[tuple[int, ...]]) -> PermutationSet:
    """Return the set of these permutations, two or more, with its distances."""
    table = np.array(permutations)
    distances = [int((table[i] != table[j]).sum()) for i, j in combinations(range(len(table)), 2)]
    return PermutationSet(tuple(permutations), min(distances), float(np.mean(distances)))


def distant_permutations(count: int, *, tiles: int = MAX_TILES, seed: int = 0) -> PermutationSet:
    """Choose permutations that are far from each other.

    After Noroozi and Favaro (ECCV 2016), algorithm 1: the first is drawn, and each further one is the farthest from all
    that are chosen. The paper's algorithm takes the one with the greatest mean Hamming distance, which hundreds share
    and which allows two that are nearly the same. Here it is the one with the greatest least distance; among equals the
    one with the greatest mean, and then the first in order.

    Args:
        count: Number of permutations, 2 or more.
        tiles: Length of a permutation.
        seed: Seed that draws the first one.

    Raises:
        InputError: A number is out of range, or there are fewer than ``count`` permutations of so many tiles.
    """
    check_at_least("count of permutations", count, 2)
    check_at_least("tiles", tiles, 2)
    if tiles > MAX_TILES:
        raise InputError("tiles is too large", received=tiles, allowed=f"allowed are up to {MAX_TILES}")
    if count > factorial(tiles):
        raise InputError(
            f"count of permutations of {tiles} tiles is too large",
            received=count,
            allowed=f"there are {factorial(tiles)}",
        )
    # One row per place: comparing one place of all permutations then reads memory in order.
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
    """Return all permutations in lexicographic order, one per column."""
    table = np.zeros((1, 1), dtype=np.uint8)
    for length in range(2, tiles + 1):
        # Each first number in turn, followed by all permutations of the others.
        parts = []
        for first in range(length):
            rest = table + (table >= first)
            parts.append(np.concatenate([np.full((1, table.shape[1]), first, dtype=np.uint8), rest]))
        table = np.concatenate(parts, axis=1).astype(np.uint8)
    return table
