import os
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from refusals import refused

from transfer.study import store as module
from transfer.study.store import FullError, NoSuchParticipantError, OutOfTurnError, Store
from transfer.study.trials import Trial

TRIALS = (Trial("practice", 5, "a", "left"), Trial("test", 2, None, "right"), Trial("test", 9, "a", "left"))

#: Answers without end, and prints the number of each answer once the store has taken it.
ANSWERER = """
import itertools, sys
from pathlib import Path
from transfer.study.store import Store
from transfer.study.trials import Trial
store = Store(Path(sys.argv[1]), "s")
trials = tuple(Trial("test", number, "a", "left") for number in range(1000))
token = store.enter("0" * 32, lambda number, counts: trials)
print(token, flush=True)
for position in itertools.count():
    store.see(token, position)
    store.answer(token, position, ("left", "right")[position % 3 == 0], 1000 + position)
    print(position, flush=True)
"""


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "answers.sqlite", "s")
    yield store
    store.close()


def enter(store, key="k"):
    return store.enter(key, lambda number, counts: TRIALS)


def answer(store, token, position, fake="left"):
    store.see(token, position)
    return store.answer(token, position, fake, 700)


class TestStore:
    def test_answers_come_back_as_they_were_given(self, store):
        token = enter(store)
        for position, fake in enumerate(("left", "left", "right")):
            assert store.position(token) == position
            assert answer(store, token, position, fake) == fake
        given = store.answers()
        assert [a.trial for a in given] == list(TRIALS) == list(store.trials(token))
        assert [a.fake for a in given] == ["left", "left", "right"]
        assert [a.is_right for a in given] == [False, True, True]
        assert {(a.participant, a.milliseconds, a.views) for a in given} == {(0, 700, 1)}
        assert store.participants() == {0: 3}

    def test_it_is_as_safe_as_sqlite_can_be(self, store, tmp_path):
        assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)

    def test_the_first_answer_counts(self, store):
        token = enter(store)
        assert answer(store, token, 0, "left") == "left"
        assert store.answer(token, 0, "right", 9) == "left"
        assert [a.fake for a in store.answers()] == ["left"]

    def test_the_same_key_enters_once(self, store):
        assert enter(store, "one") == enter(store, "one") != enter(store, "two")
        assert store.participants() == {0: 3, 1: 3}

    def test_a_draw_knows_the_number_and_how_many_judge_each_system(self, store):
        asked = []
        for key in "abc":
            store.enter(key, lambda number, counts: asked.append((number, dict(counts))) or TRIALS)
        assert asked == [(0, {}), (1, {"a": 1}), (2, {"a": 2})]

    def test_pairs_have_their_turn(self, store):
        token = enter(store)
        with pytest.raises(OutOfTurnError):
            store.see(token, 1)
        with pytest.raises(OutOfTurnError):  # not shown yet
            store.answer(token, 0, "left", 1)
        store.see(token, 0)
        store.see(token, 0)
        with pytest.raises(OutOfTurnError):
            store.answer(token, 1, "left", 1)
        store.answer(token, 0, "left", 1)
        assert store.answers()[0].views == 2
        for position in (1, 2):
            answer(store, token, position)
        with pytest.raises(OutOfTurnError):
            store.see(token, 3)

    def test_an_unknown_token(self, store):
        with pytest.raises(NoSuchParticipantError):
            store.trials("gone")

    def test_a_full_study_takes_nobody(self, store, monkeypatch):
        monkeypatch.setattr(module, "MAX_PARTICIPANTS", 1)
        token = enter(store)
        with pytest.raises(FullError):
            enter(store, "other")
        assert answer(store, token, 0) == "left"

    def test_a_draw_that_fails_leaves_nobody(self, store):
        with pytest.raises(ZeroDivisionError):
            store.enter("k", lambda number, counts: 1 // 0)
        assert store.participants() == {}
        assert enter(store)

    def test_threads_share_it(self, store):
        tokens = [enter(store, str(k)) for k in range(4)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda token: [answer(store, token, p) for p in range(3)], tokens))
        assert len(store.answers()) == 12

    def test_two_hundred_posts_of_one_answer_count_once(self, store):
        token = enter(store)
        store.see(token, 0)
        with ThreadPoolExecutor(8) as pool:
            sides = list(pool.map(lambda k: store.answer(token, 0, ("left", "right")[k % 2], k), range(200)))
        assert len(set(sides)) == 1
        assert len(store.answers()) == 1


def test_answers_to_another_study_are_refused(tmp_path):
    Store(tmp_path / "a.sqlite", "first").close()
    with refused("a.sqlite", received="first"):
        Store(tmp_path / "a.sqlite", "second")


def test_not_a_database(tmp_path):
    (tmp_path / "a.sqlite").write_bytes(b"text " * 500)
    with refused("a.sqlite"):
        Store(tmp_path / "a.sqlite", "s")


def test_a_kill_after_twenty_answers_loses_none(tmp_path):
    path = tmp_path / "answers.sqlite"
    process = subprocess.Popen([sys.executable, "-c", ANSWERER, str(path)], stdout=subprocess.PIPE, text=True)
    token = process.stdout.readline().strip()
    while int(process.stdout.readline()) < 19:
        pass
    os.kill(process.pid, signal.SIGKILL)
    taken = 20 + len(process.stdout.readlines())
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    store = Store(path, "s")
    given = store.answers()
    # The last one may have been written and not yet told.
    assert taken <= len(given) <= taken + 1
    assert store.position(token) == len(given)
    assert [a.fake for a in given] == [("left", "right")[p % 3 == 0] for p in range(len(given))]
    store.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
