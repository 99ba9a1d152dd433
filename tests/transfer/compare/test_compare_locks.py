"""Cells and slots are locked, also on a file system without locks, and until a cell's process has ended."""

import errno
import fcntl
import signal
import sys
import time

import pytest
from refusals import refused

from transfer.compare import run as compare
from transfer.compare.grid import Task
from transfer.compare.run import run_grid

#: Stands for a command: waits, and leaves the backbone.
QUICK = "import sys, time; time.sleep(0.1); open(sys.argv[1], 'w').write('weights')"
#: Stands for one that does not end when it is asked to.
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(60)
"""


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    """Returns three tasks that run some code."""
    monkeypatch.setattr(compare, "POLL_SECONDS", 0.01)

    def make(code):
        # Python starts faster without site-packages.
        command = [sys.executable, "-I", "-S", "-c", code]
        monkeypatch.setattr(Task, "command", lambda self: [*command, str(self.folder / self.product)])
        return [
            Task(
                "row",
                "backbone",
                seed,
                "pretext",
                ("train",),
                tmp_path / f"cell{seed}",
                "backbone.safetensors",
            )
            for seed in range(3)
        ]

    return make


def test_on_a_file_system_without_locks_files_stand_for_them(tasks, tmp_path, monkeypatch):
    def no_locks(*words):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    seen = set()
    spawn = compare._spawn

    def watched(*words):
        process = spawn(*words)
        seen.update(path.name for path in tmp_path.rglob("*.holder"))
        return process

    monkeypatch.setattr(compare, "_spawn", watched)
    cells = tasks(QUICK)
    assert run_grid(cells, tmp_path, slots=2) == []
    assert all(cell.done for cell in cells)
    assert {"lock.holder", "slot-0.lock.holder", "slot-1.lock.holder"} <= seen
    assert not list(tmp_path.rglob("*.holder"))


def test_locks_are_let_go_when_all_is_done(tasks, tmp_path):
    assert run_grid(tasks(QUICK), tmp_path, slots=2) == []
    assert not list(tmp_path.rglob("*lock*"))


def test_a_process_that_does_not_end_is_killed_before_its_locks_are_let_go(tasks, tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "PATIENCE_SECONDS", 0.1)
    spawned, states = [], []
    spawn, release = compare._spawn, compare.Lock.release
    monkeypatch.setattr(compare, "_spawn", lambda *words: spawned.append(spawn(*words)) or spawned[-1])
    monkeypatch.setattr(
        compare.Lock, "release", lambda self: states.append(spawned[0].returncode) or release(self)
    )
    cell, *_ = tasks(STUBBORN)
    sleep, interrupts = time.sleep, [KeyboardInterrupt]

    def interrupted_once_it_is_up(seconds):
        if interrupts and "up" in (cell.folder / "output.txt").read_text().splitlines():
            raise interrupts.pop()
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", interrupted_once_it_is_up)
    with pytest.raises(KeyboardInterrupt):
        run_grid([cell], tmp_path, slots=1)
    assert states == [-signal.SIGKILL, -signal.SIGKILL]


def test_a_folder_that_cannot_be_written_is_told(tasks, tmp_path):
    (tmp_path / "work").write_text("a file")
    with refused(tmp_path / "work", allowed="--work-dir"):
        run_grid(tasks(QUICK), tmp_path / "work", slots=1)
