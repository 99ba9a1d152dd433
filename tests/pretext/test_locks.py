import errno
import fcntl
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest
from refusals import refused

from pretext import locks
from pretext.locks import locked, try_lock
from pretext.training.claim import sole_run

HOLDER = """
import errno, fcntl, os, sys, time
from pathlib import Path
if {no_locks}:
    def refuse(*_): raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    fcntl.flock = refuse
from pretext.locks import try_lock
lock = try_lock(Path(sys.argv[1]) / "run.lock")
if os.fork() == 0:
    # As a loader's worker does, this process outlives its parent for a while.
    time.sleep(30)
    os._exit(0)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture(params=[False, True], ids=["locks", "no locks"])
def no_locks(request, monkeypatch):
    """Whether the file system is one without locks."""
    if request.param:
        without_locks(monkeypatch)
    return request.param


def without_locks(monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.fixture
def holder(no_locks, tmp_path):
    """Another process that holds the lock of the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER.format(no_locks=no_locks), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def hold(folder):
    return sole_run(folder / "run.lock", folder)


def test_another_process_is_kept_out_until_it_is_killed(holder, tmp_path):
    began = time.monotonic()
    with refused(tmp_path, f"process {holder.pid} on "), hold(tmp_path):
        pass
    holder.send_signal(signal.SIGKILL)
    # Not waited for: it stays in the table of processes.
    while locks._start_time(holder.pid) is not None:
        time.sleep(0.01)
    with hold(tmp_path):
        pass
    assert time.monotonic() - began < 5
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_alone_and_leaves_nothing(no_locks, tmp_path, capsys):
    folder = tmp_path / "new" / "run"
    for _ in range(2):
        with hold(folder):
            with refused(folder, f"process {os.getpid()} on "), hold(folder):
                pass
            assert len(list(folder.iterdir())) == 1
        assert list(tmp_path.iterdir()) == []
    assert ("the disk has no locks" in capsys.readouterr().err) == no_locks


def test_a_folder_with_something_in_it_stays(no_locks, tmp_path):
    with hold(tmp_path / "run"):
        (tmp_path / "run" / "weights").write_text("trained")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["weights"]


def test_a_folder_that_cannot_be_made_is_refused(no_locks, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with refused(tmp_path / "file"), hold(tmp_path / "file"):
        pass


def held(lock, wish):
    with lock.open("a+b") as file, locked(file, lock):
        wish.put("held")
        time.sleep(0.3)
        lock.write_text("whole")


@pytest.mark.parametrize("shared", [False, True])
def test_a_locked_file_is_waited_for(no_locks, tmp_path, shared):
    path, said = tmp_path / "file", multiprocessing.get_context("fork").SimpleQueue()
    other = multiprocessing.get_context("fork").Process(target=held, args=(path, said))
    other.start()
    assert said.get() == "held"
    with path.open("a+b") as file, locked(file, path, shared=shared):
        assert path.read_text() == "whole"
    other.join()
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_readers_share_a_file_and_write_nothing(no_locks, tmp_path):
    path = tmp_path / "file"
    path.write_text("text")
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(locked(stack.enter_context(path.open("rb")), path, shared=True))
        assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_lock_on_a_file_that_its_holder_has_deleted_is_worth_nothing(tmp_path, monkeypatch):
    flock, path = fcntl.flock, tmp_path / "lock"

    def after_the_holder(descriptor, how):
        monkeypatch.setattr(fcntl, "flock", flock)
        path.unlink()
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", after_the_holder)
    lock = try_lock(path)
    assert try_lock(path) is None
    lock.release()


def test_an_error_that_is_not_about_locks_is_raised(monkeypatch, tmp_path):
    def fail(*arguments):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(OSError, match="Input/output"):
        try_lock(tmp_path / "lock")
    with refused("Input/output"), hold(tmp_path):
        pass


class TestHolderFiles:
    """The file that stands for a lock where there are none."""

    @pytest.fixture(autouse=True)
    def hasty(self, monkeypatch):
        without_locks(monkeypatch)
        monkeypatch.setattr(locks, "RENEWAL_SECONDS", 0.05)
        monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.5)
        monkeypatch.setattr(locks, "POLL_SECONDS", 0.02)

    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "run.lock.holder"

    def written(self, path, **changes):
        path.write_text(json.dumps(locks._this_process() | changes))

    def test_a_dead_process_of_this_machine_holds_nothing(self, tmp_path, path):
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        self.written(path, pid=ended.pid, started="1")
        with hold(tmp_path):
            assert json.loads(path.read_text())["pid"] == os.getpid()

    def test_a_process_with_a_number_used_again_holds_nothing(self, tmp_path, path):
        self.written(path, started="1")
        with hold(tmp_path):
            pass

    @pytest.mark.parametrize("text", ["", '{"host"', "5", "{}"])
    def test_half_a_file_that_a_kill_left_or_another_file_holds_nothing(self, tmp_path, path, text):
        path.write_text(text)
        with hold(tmp_path):
            pass

    def test_a_process_of_another_machine_holds_nothing_once_it_is_silent(self, tmp_path, path, capsys):
        self.written(path, host="other", machine="other", pid=1)
        began = time.monotonic()
        with hold(tmp_path):
            assert time.monotonic() - began >= 0.5
        assert "process 1 on other" in capsys.readouterr().err

    def test_a_process_of_another_machine_that_renews_its_file_holds_the_lock(
        self, tmp_path, path, monkeypatch
    ):
        with hold(tmp_path):
            monkeypatch.setattr(locks, "_machine", lambda: "another")
            began = time.monotonic()
            with refused(tmp_path), hold(tmp_path):
                pass
            assert time.monotonic() - began < 0.4

    def test_of_several_that_find_a_dead_one_one_gets_the_lock(self, tmp_path, path, monkeypatch):
        self.written(path, started="1")
        dead = path.read_text()
        # Another process takes it away and makes its own, just before this one takes away the dead one's.
        take_away = locks._take_away

        def late(path, text):
            monkeypatch.setattr(locks, "_take_away", take_away)
            path.unlink()
            self.written(path)
            take_away(path, text)

        monkeypatch.setattr(locks, "_take_away", late)
        assert try_lock(tmp_path / "run.lock") is None
        assert path.read_text() != dead
        assert [entry.name for entry in tmp_path.iterdir()] == ["run.lock.holder"]

    def test_a_lock_that_was_taken_away_is_not_renewed_or_released(self, tmp_path, path):
        lock = try_lock(tmp_path / "run.lock")
        self.written(path, host="other")
        before = path.stat().st_mtime_ns
        time.sleep(0.2)
        lock.release()
        assert path.stat().st_mtime_ns == before
