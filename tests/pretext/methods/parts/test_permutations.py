import json
import time
from itertools import permutations

import pytest
from refusals import refused

from pretext.__main__ import main
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
    ("arguments", "names", "received", "allowed"),
    [
        ({"count": 1}, ["count"], 1, "from 2 up"),
        ({"count": 25, "tiles": 4}, ["count", "4 tiles"], 25, "24"),
        ({"count": 9, "tiles": 10}, ["tiles"], 10, "up to 9"),
    ],
)
def test_impossible_sets_are_refused(arguments, names, received, allowed):
    with refused(*names, received=received, allowed=allowed):
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
    ("change", "names", "received", "allowed"),
    [
        ({"minimum_distance": 9}, ["minimum_distance"], 9, "2"),
        ({"mean_distance": 8.9}, ["mean_distance"], 8.9, "2."),
        ({"mean_distance": None}, ["mean_distance"], None, "2."),
        ({"count": 5}, ["count"], 5, "4"),
        ({"permutations": [[0, 1, 2], [0, 1, 1]]}, ["permutation 1"], [0, 1, 1], "from 0 to 2"),
        ({"permutations": [[0, 1, 2], [1, 0]]}, ["permutation 1"], [1, 0], "from 0 to 2"),
        ({"permutations": [[0, 1, 2], [1, 0, 2.0]]}, ["permutation 1"], [1, 0, 2.0], "from 0 to 2"),
        ({"permutations": [[0, 1, 2], [1, 2, 0], [0, 1, 2]]}, ["twice"], None, "a class of its own"),
        ({"permutations": [[0, 1, 2]]}, [], None, "two or more"),
        ({"tiles": "3"}, [], None, "tiles (a number)"),
    ],
)
def test_a_file_that_is_not_what_it_claims_is_refused(tmp_path, change, names, received, allowed):
    path = tmp_path / "p.json"
    distant_permutations(4, tiles=3).save(path)
    assert PermutationSet.load(path) == distant_permutations(4, tiles=3)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with refused(path, *names, received=received, allowed=allowed):
        PermutationSet.load(path)


def test_a_file_that_is_cut_short_or_gone_is_refused(tmp_path):
    path = tmp_path / "p.json"
    distant_permutations(4, tiles=3).save(path)
    path.write_text(path.read_text()[:-20])
    for file in (path, tmp_path / "gone.json"):
        with refused(file, allowed="python -m pretext permutations"):
            PermutationSet.load(file)
