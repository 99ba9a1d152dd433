"""The answers of a study in SQLite: one is on the disk before the participant sees the next pair.

No personal data are kept: a participant is a random token.
"""

import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from threading import Lock

from pretext.errors import InputError
from transfer.study.trials import Side, Trial

#: Participants of a study, at most: the page lets anybody who reaches it begin.
MAX_PARTICIPANTS = 10_000

_TABLES = """
CREATE TABLE IF NOT EXISTS study (id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS participants (
    token TEXT PRIMARY KEY, key TEXT NOT NULL UNIQUE, number INTEGER NOT NULL UNIQUE, began TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS trials (
    token TEXT NOT NULL REFERENCES participants, position INTEGER NOT NULL,
    part TEXT NOT NULL, photo INTEGER NOT NULL, system TEXT, real TEXT NOT NULL,
    views INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (token, position)
);
CREATE TABLE IF NOT EXISTS answers (
    token TEXT NOT NULL, position INTEGER NOT NULL,
    fake TEXT NOT NULL, milliseconds INTEGER NOT NULL, time TEXT NOT NULL,
    PRIMARY KEY (token, position), FOREIGN KEY (token, position) REFERENCES trials
);
"""


class NoSuchParticipantError(Exception):
    """No participant has the token."""


class OutOfTurnError(Exception):
    """An answer or a look is not for the pair whose turn it is."""


class FullError(Exception):
    """The study has all the participants that it takes."""


@dataclass(frozen=True)
class Answered:
    """A pair with its answer.

    Attributes:
        participant: The participant's number.
        position: The pair's place in the participant's order, from 0.
        trial: The pair.
        fake: The side that the participant took for the fake.
        milliseconds: Time from the question to the answer.
        views: How often the pair was shown: more than once after a reload.
    """

    participant: int
    position: int
    trial: Trial
    fake: Side
    milliseconds: int
    views: int

    @property
    def is_right(self) -> bool:
        """Whether the participant found the fake."""
        return self.fake == self.trial.fake


class Store:
    """The answers of one study; threads and processes may share the file.

    Args:
        path: The database; it is made if it is not there.
        study: The study's id.

    Raises:
        InputError: The file is not a database of this study, or cannot be written.
    """

    def __init__(self, path: Path, study: str):
        self._lock = Lock()
        try:
            self._connection = sqlite3.connect(
                path, timeout=30, isolation_level=None, check_same_thread=False
            )
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                self._connection.execute(f"PRAGMA {pragma}")
            with self._transaction() as run:
                for statement in filter(str.strip, _TABLES.split(";")):
                    run(statement)
                if not run("SELECT id FROM study").fetchall():
                    run("INSERT INTO study VALUES (?)", study)
            (held,) = self._connection.execute("SELECT id FROM study").fetchone()
        except sqlite3.Error as error:
            raise InputError(
                f"cannot use {path}: {error}", allowed="it must be the study's own database, and writable"
            ) from error
        if held != study:
            raise InputError(
                f"{path} has answers to another study",
                received=held[:8],
                allowed="the study was changed; restore its study.json, or move the answers away",
            )

    def close(self) -> None:
        """Close the database; all answers are in it already."""
        self._connection.close()

    def enter(self, key: str, draw: Callable[[int, Mapping[str, int]], tuple[Trial, ...]]) -> str:
        """Add a participant, and return the token.

        Args:
            key: Random text of the page that asks; the same key enters once, however often it comes.
            draw: Gives the pairs of a participant by the number and by how many participants each system has.

        Raises:
            FullError: There are `MAX_PARTICIPANTS` already.
        """
        token = secrets.token_urlsafe(16)
        with self._transaction() as run:
            known: tuple[str] | None = run("SELECT token FROM participants WHERE key = ?", key).fetchone()
            if known is not None:
                return known[0]
            (number,) = run("SELECT count(*) FROM participants").fetchone()
            if number >= MAX_PARTICIPANTS:
                raise FullError
            counts = run(
                "SELECT system, count(DISTINCT token) FROM trials WHERE system IS NOT NULL GROUP BY system"
            )
            trials = draw(number, dict(counts.fetchall()))
            run("INSERT INTO participants VALUES (?, ?, ?, ?)", token, key, number, _now())
            for position, trial in enumerate(trials):
                run(
                    "INSERT INTO trials (token, position, part, photo, system, real) VALUES (?, ?, ?, ?, ?, ?)",
                    *(token, position, trial.part, trial.photo, trial.system, trial.real),
                )
        return token

    def trials(self, token: str) -> tuple[Trial, ...]:
        """Return a participant's pairs in their order.

        Raises:
            NoSuchParticipantError: No participant has the token.
        """
        query = "SELECT part, photo, system, real FROM trials WHERE token = ? ORDER BY position"
        with self._lock:
            rows = self._connection.execute(query, (token,)).fetchall()
        if not rows:
            raise NoSuchParticipantError
        return tuple(Trial(*row) for row in rows)

    def position(self, token: str) -> int:
        """Return the place of the pair whose turn it is: how many are answered."""
        with self._lock:
            return self._position(token)

    def see(self, token: str, position: int) -> None:
        """Count that a pair is shown.

        Raises:
            OutOfTurnError: It is another pair's turn.
        """
        with self._transaction() as run:
            found = run(
                "UPDATE trials SET views = views + 1 WHERE token = ? AND position = ?", token, position
            )
            if position != self._position(token) or not found.rowcount:
                raise OutOfTurnError

    def answer(self, token: str, position: int, fake: Side, milliseconds: int) -> Side:
        """Write an answer to the disk; the first one to a pair counts.

        Args:
            token: The participant's.
            position: The pair's place in the participant's order.
            fake: The side that the participant takes for the fake.
            milliseconds: Time from the question to the answer.

        Returns:
            The answer that counts.

        Raises:
            OutOfTurnError: The pair's turn has not come, or it was not shown.
        """
        with self._transaction() as run:
            query = "SELECT fake FROM answers WHERE token = ? AND position = ?"
            known: tuple[Side] | None = run(query, token, position).fetchone()
            if known is not None:
                return known[0]
            shown = run(
                "SELECT views FROM trials WHERE token = ? AND position = ?", token, position
            ).fetchone()
            if position != self._position(token) or not shown or not shown[0]:
                raise OutOfTurnError
            run("INSERT INTO answers VALUES (?, ?, ?, ?, ?)", token, position, fake, milliseconds, _now())
        return fake

    def participants(self) -> dict[int, int]:
        """Return how many pairs each participant has, by number."""
        query = "SELECT number, count(*) FROM participants JOIN trials USING (token) GROUP BY number ORDER BY number"
        with self._lock:
            return dict(self._connection.execute(query).fetchall())

    def answers(self) -> list[Answered]:
        """Return all answers, by participant and position."""
        query = (
            "SELECT number, position, part, photo, system, real, fake, milliseconds, views"
            " FROM answers JOIN trials USING (token, position) JOIN participants USING (token)"
            " ORDER BY number, position"
        )
        with self._lock:
            rows = self._connection.execute(query).fetchall()
        return [Answered(number, position, Trial(*rest[:4]), *rest[4:]) for number, position, *rest in rows]

    def _position(self, token: str) -> int:
        query = "SELECT count(*) FROM answers WHERE token = ?"
        (answered,) = self._connection.execute(query, (token,)).fetchone()
        return int(answered)

    @contextmanager
    def _transaction(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield lambda statement, *values: self._connection.execute(statement, values)
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
