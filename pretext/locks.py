"""Locks between processes, also on file systems that have none (some NFS and Lustre).

The kernel holds a lock for a process and lets go when the process ends, however it ends. On a file system without
locks a file stands for the lock: made exclusively, it names its holder, who renews it. A later process takes it away
once the holder is dead: on the same machine it looks for the process; from another it watches whether the file is
renewed.
"""

import errno
import fcntl
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from threading import Event, Thread
from typing import IO, Any

from pretext.progress import say

#: What flock raises on a file system without locks.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)
#: Seconds between two renewals of a holder file.
RENEWAL_SECONDS = 5.0
#: Seconds without a renewal after which a holder on another machine counts as dead; a network file system may show
#: changes late.
PATIENCE_SECONDS = 60.0
#: Stands for the time at which a process started where the kernel does not tell it.
UNKNOWN = "unknown"
#: Seconds between two looks at a lock that is waited for.
POLL_SECONDS = 0.1

#: Kernel locks of this process. A forked child closes its copies, which would hold them after this process was killed.
_descriptors: set[int] = set()


class Lock:
    """A lock that this process holds until it calls `release`, or ends.

    Args:
        path: The lock's file; release deletes it.
        holder: What the file says.
        descriptor: The open file that the kernel has locked; None where the file itself is the lock.

    Attributes:
        descriptor: A child process that inherits it holds the lock, too.
    """

    def __init__(self, path: Path, holder: str, descriptor: int | None):
        self.descriptor = descriptor
        self._path, self._holder = path, holder
        self._released = Event()
        if descriptor is None:
            Thread(target=self._renew, daemon=True).start()
        else:
            _descriptors.add(descriptor)

    def release(self) -> None:
        """Let go."""
        self._released.set()
        with suppress(OSError):
            if self._path.read_text() == self._holder:
                self._path.unlink()
        if self.descriptor is not None:
            _descriptors.discard(self.descriptor)
            os.close(self.descriptor)

    def _renew(self) -> None:
        while not self._released.wait(RENEWAL_SECONDS):
            with suppress(OSError):
                if self._path.read_text() == self._holder:
                    os.utime(self._path)


def try_lock(path: Path) -> Lock | None:
    """Take a lock.

    Args:
        path: The lock's file, in a folder that exists. On a file system without locks it is ``<path>.holder``.

    Returns:
        The lock; None if another process holds it.

    Raises:
        OSError: The file cannot be written.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, path):
                holder = json.dumps(_this_process())
                os.ftruncate(descriptor, 0)
                os.write(descriptor, holder.encode())
                return Lock(path, holder, descriptor)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            os.close(descriptor)
            if error.errno not in NO_LOCKS:
                raise
            path.unlink(missing_ok=True)
            return _try_holder_file(holder_file(path))
        # Its holder has deleted the file since it was opened.
        os.close(descriptor)


def holder_file(path: Path) -> Path:
    """Return the file that stands for a lock on a file system without locks."""
    return path.with_name(f"{path.name}.holder")


def described_holder(path: Path) -> str:
    """Name the process that holds a lock, as far as the lock's file tells."""
    return _named(_parsed(_read(path) or _read(holder_file(path))))


@contextmanager
def locked(file: IO[Any], path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock on an open file; wait while another process holds it.

    Args:
        file: The file; closing it lets go, too.
        path: Its path. On a file system without locks ``<path>.holder`` stands for the lock.
        shared: Whether others with a shared lock may hold it at the same time: for readers, which write nothing.

    Raises:
        OSError: The lock's file cannot be written.
    """
    lock = None
    try:
        fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        stands_for_it = holder_file(path)
        if shared:
            while (seen := _look(stands_for_it)) is not None and _holds(stands_for_it, seen):
                time.sleep(POLL_SECONDS)
        else:
            while (lock := _try_holder_file(stands_for_it)) is None:
                time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _try_holder_file(path: Path) -> Lock | None:
    holder = json.dumps(_this_process())
    while True:
        try:
            with path.open("x") as file:
                file.write(holder)
            return Lock(path, holder, None)
        except FileExistsError:
            seen = _look(path)
            if seen is not None:
                if _holds(path, seen):
                    return None
                _take_away(path, seen[0])


def _holds(path: Path, seen: tuple[str, int]) -> bool:
    """Return whether the holder that a file names still runs."""
    holder = _parsed(seen[0])
    if holder.get("machine") == _machine():
        started = _start_time(holder["pid"])
        return started is not None and (started == UNKNOWN or started == holder["started"])
    say(f"waiting up to {PATIENCE_SECONDS:.0f} s to see whether {_named(holder)} still runs: {path}")
    return _is_renewed(path, seen)


def _is_renewed(path: Path, seen: tuple[str, int]) -> bool:
    """Watch a holder file until it changes, is gone, or has not changed for too long."""
    patience = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < patience:
        time.sleep(POLL_SECONDS)
        now = _look(path)
        if now != seen:
            return now is not None
    return False


def _look(path: Path) -> tuple[str, int] | None:
    """Return a file's text and the time of its renewal."""
    try:
        with path.open() as file:  # a network file system shows the newest state to who opens a file
            return file.read(), os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None


def _take_away(path: Path, dead: str) -> None:
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    with suppress(FileNotFoundError):  # another process was faster
        path.rename(aside)
        if aside.read_text() != dead:
            # Faster still: another process holds the lock already.
            with suppress(FileExistsError):
                path.hardlink_to(aside)
        aside.unlink()


def _this_process() -> dict[str, Any]:
    """Return what tells the holder of a lock from others."""
    return {
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": os.getpid(),
        "started": _start_time(os.getpid()),
        "since": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "lock": uuid.uuid4().hex,
    }


def _machine() -> str:
    """Name the host, its last start and its process table: containers may share a host's name and process numbers."""
    try:
        processes = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        processes = ""
    return f"{socket.gethostname()} {_read('/proc/sys/kernel/random/boot_id').strip()} {processes}"


def _start_time(pid: int) -> str | None:
    """Return when a process started, as numbers of processes are used again; None if it has ended."""
    _, _, rest = _read(f"/proc/{pid}/stat").rpartition(")")
    if rest:
        state, *numbers = rest.split()
        # Field 22; an ended process whose parent has not asked for it yet is a zombie.
        return None if state in "ZX" else numbers[18]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return UNKNOWN


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _parsed(text: str) -> dict[str, Any]:
    """Return what a holder file says; nothing if it is being written, or not a holder file."""
    try:
        holder = json.loads(text)
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) and {"pid", "started", "host", "since"} <= holder.keys() else {}


def _named(holder: dict[str, Any]) -> str:
    return f"process {holder['pid']} on {holder['host']} since {holder['since']}" if holder else "its holder"


def _close_copies() -> None:
    for descriptor in _descriptors:
        os.close(descriptor)
    _descriptors.clear()


os.register_at_fork(after_in_child=_close_copies)
