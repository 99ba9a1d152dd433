import json
import time
from itertools import permutations

import pytest

from pretext.__main__ import main
from pretext.errors import InputError
from pretext.methods.parts.permutations import PermutationSet, distant_permutations


def hamming(first, second):
    return sum(a != b for a, b in zip(first, second, strict=True))


def pairs(chosen):
    return [hamming(a, b) for i, a in enumerate(chosen) for b in chosen[:i]]


def test_the_set_has_the_distances_it_claims():
    begin = time.monotonic()
    chosen = distant_permutations(64)
    assert time.monotonic() - begin < 2
    assert len(set(chosen.permutations)) == 64
    assert all(sorted(one) == list(range(9)) for one in chosen.permutations)
    distances = pairs(chosen.permutations)
    assert chosen.minimum_distance == min(distances)
    assert chosen.mean_distance == pytest.approx(sum(distances) / len(distances))
    assert chosen.minimum_distance == 7
    assert chosen.mean_distance == pytest.approx(8.1225, abs=1e-4)
    assert distant_permutations(64) == chosen
    assert distant_permutations(64, seed=1) != chosen


def test_each_permutation_is_the_farthest_from_those_before():
    chosen = distant_permutations(15, tiles=5, seed=3).permutations
    for number in range(1, 15):
        before = chosen[:number]
        others = [one for one in permutations(range(5)) if one not in before]

        def rank(one, before=before):
            distances = [hamming(one, earlier) for earlier in before]
            return min(distances), sum(distances)

        assert chosen[number] in others
        assert rank(chosen[number]) == max(rank(one) for one in others)


def test_all_permutations_can_be_chosen():
    assert set(distant_permutations(24, tiles=4).permutations) == set(permutations(range(4)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 1}, "count of permutations is too small: received 1, allowed are 2 and above"),
        ({"count": 25, "tiles": 4}, r"received count=25 of 4 tiles, allowed are .* as there are \(24\)"),
        ({"count": 9, "tiles": 10}, "received count=9 of 10 tiles, allowed are up to 9 tiles"),
    ],
)
def test_impossible_sets_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        distant_permutations(**arguments)


def test_the_command_writes_a_set_and_says_its_distances(tmp_path, capsys):
    assert main(["permutations", "--count", "16", "--out", str(tmp_path / "p.json")]) == 0
    chosen = PermutationSet.load(tmp_path / "p.json")
    assert chosen == distant_permutations(16)
    assert (
        f"16 permutations, Hamming distance at least {min(pairs(chosen.permutations))},"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"minimum_distance": 9}, "minimum_distance is given as 9 and is"),
        ({"mean_distance": 8.9}, "mean_distance is given as 8.9 and is"),
        ({"mean_distance": None}, "mean_distance is given as None and is"),
        ({"count": 5}, "count is given as 5 and is 4"),
        ({"permutations": [[0, 1, 2], [0, 1, 1]]}, r"number 1 is no permutation: received \[0, 1, 1\]"),
        ({"permutations": [[0, 1, 2], [1, 0]]}, r"number 1 is no permutation: received \[1, 0\]"),
        ({"permutations": [[0, 1, 2], [1, 0, 2.0]]}, r"number 1 is no permutation"),
        ({"permutations": [[0, 1, 2], [1, 2, 0], [0, 1, 2]]}, "holds a permutation twice"),
        ({"permutations": [[0, 1, 2]]}, "expected a JSON object with tiles and with a list of two"),
        ({"tiles": "3"}, "expected a JSON object with tiles"),
    ],
)
def test_a_file_that_is_not_what_it_claims_is_refused(tmp_path, change, message):
    path = tmp_path / "p.json"
    distant_permutations(4, tiles=3).save(path)
    assert PermutationSet.load(path) == distant_permutations(4, tiles=3)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=message):
        PermutationSet.load(path)


def test_a_file_that_is_cut_short_or_gone_is_refused(tmp_path):
    path = tmp_path / "p.json"
    distant_permutations(4, tiles=3).save(path)
    path.write_text(path.read_text()[:-20])
    for file in (path, tmp_path / "gone.json"):
        with pytest.raises(InputError, match="is no set of permutations .*; make one by `python -m pretext"):
            PermutationSet.load(file)
