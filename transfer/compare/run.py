"""Run a grid cell by cell; finished cells are not run again.

Each cell is one command of ``python -m pretext`` or ``python -m transfer``, in a process and a folder of its own: a
cell that fails, or a comparison that is killed, loses no other cell.
"""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from pretext.errors import InputError
from pretext.locks import Lock, try_lock
from transfer.compare.grid import Task
from transfer.report.tables import headline_metrics
from transfer.scores.score import RESULTS_NAME, read_scores
from transfer.stage import STAGES

#: Seconds between two looks at the running cells.
POLL_SECONDS = 0.2
#: Seconds that a process has to end before it is killed.
PATIENCE_SECONDS = 10.0


@dataclass
class Running:
    """A task whose process runs; this process and that one both hold the locks of its folder and its slot.

    On a file system without locks this process alone holds them.
    """

    task: Task
    process: "subprocess.Popen[bytes]"
    slot: int
    locks: Sequence[Lock]
    began: float = field(default_factory=time.monotonic)


def devices() -> list[str]:
    """Return the GPUs that cells may use: those of CUDA_VISIBLE_DEVICES if it is set, or else all."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name]
    return [str(number) for number in range(torch.cuda.device_count())]


def run_grid(tasks: Sequence[Task], work_dir: Path, slots: int, live: bool | None = None) -> list[Task]:
    """Run the tasks that are not done, one in each slot, and show the progress.

    Each cell is one process that sees one GPU; without a GPU the cells share the cores.

    Args:
        tasks: Each after the tasks that it needs.
        work_dir: Folder of the grid.
        slots: Number of tasks that run at a time.
        live: Whether to keep the table of all cells up to date on screen; by default, if the output is a terminal.

    Returns:
        The tasks that failed, and those that could not start because of them; empty if all went well.

    Raises:
        InputError: GPUS or NNODES asks for several processes per cell, or the folder cannot be written.
    """
    for name in ("GPUS", "NNODES"):
        if os.environ.get(name, "1") != "1":
            raise InputError(
                f"{name} must be 1 in a comparison, where each cell is one process",
                received=os.environ[name],
                allowed="leave it out, and choose with --jobs how many cells run side by side",
            )
    waiting = [task for task in tasks if not task.done]
    running: list[Running] = []
    failed: list[Task] = []
    console = Console(stderr=True)
    shown = console.is_terminal if live is None else live
    with Live(console=console, auto_refresh=False) if shown else _no_display() as display:
        try:
            told = False
            while waiting or running:
                running, ended, lost = _collect(running)
                failed += lost
                failed += [task for task in waiting if any(needed in failed for needed in task.needs)]
                for task in ended:
                    _say(task, task in lost, shown)
                others = [task for task in waiting if task.done]  # by a process of an earlier comparison
                for task in others:
                    _say(task, False, shown)
                waiting = [task for task in waiting if task not in failed and task not in others]
                running += _start_ready(waiting, running, work_dir, slots)
                if waiting and not running and not told:
                    told = True
                    print(
                        f"{len(waiting)} cells wait for processes that an earlier comparison started in {work_dir}",
                        file=sys.stderr,
                        flush=True,
                    )
                started = [one.task for one in running]
                waiting = [task for task in waiting if task not in started]
                if display is not None:
                    display.update(status_table(tasks, running, failed), refresh=True)
                time.sleep(POLL_SECONDS)
        finally:
            _stop(running)
    return failed


def _start_ready(
    waiting: Sequence[Task], running: Sequence[Running], work_dir: Path, slots: int
) -> list[Running]:
    started: list[Running] = []
    free = [slot for slot in range(slots) if slot not in {one.slot for one in running}]
    ready = [task for task in waiting if all(needed.done for needed in task.needs)]
    for slot in free:
        if not ready:
            break
        # A process that outlived an earlier, killed comparison still holds its slot.
        slot_lock = _lock(work_dir / f"slot-{slot}.lock")
        if slot_lock is None:
            continue
        for task in ready:
            task_lock = _lock(task.folder / "lock")
            if task_lock is None:
                continue
            if task.done:
                task_lock.release()
                continue
            locks = (slot_lock, task_lock)
            started.append(Running(task, _spawn(task, slot, slots, locks), slot, locks))
            ready.remove(task)
            break
        else:
            slot_lock.release()
    return started


def _lock(path: Path) -> Lock | None:
    """Take a lock; None if another process holds it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return try_lock(path)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror}", allowed="choose another --work-dir"
        ) from error


def _spawn(task: Task, slot: int, slots: int, locks: Sequence[Lock]) -> "subprocess.Popen[bytes]":
    environment, gpus = dict(os.environ), devices()
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    elif slots > 1:
        # Cells that each use all cores slow each other down many times over.
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // slots)))
    with (task.folder / "output.txt").open("ab") as output:
        output.write(f"$ {shlex.join(task.command())}\n".encode())
        output.flush()
        # The process inherits the locks: if this one is killed, the next one waits for it and runs nothing twice.
        inherited = [lock.descriptor for lock in locks if lock.descriptor is not None]
        return subprocess.Popen(
            task.command(), stdout=output, stderr=output, env=environment, pass_fds=inherited
        )


def _collect(running: Sequence[Running]) -> tuple[list[Running], list[Task], list[Task]]:
    """Return what still runs, the tasks that have ended, and those of them that failed."""
    ended = [one for one in running if one.process.poll() is not None]
    for one in ended:
        for lock in one.locks:
            lock.release()
    lost = [one.task for one in ended if one.process.returncode != 0 or not one.task.done]
    return [one for one in running if one not in ended], [one.task for one in ended], lost


def _stop(running: Sequence[Running]) -> None:
    for one in running:
        one.process.terminate()
    for one in running:
        try:
            one.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            one.process.kill()
            one.process.wait()
        for lock in one.locks:
            lock.release()


@contextmanager
def _no_display() -> Iterator[None]:
    yield None


def _say(task: Task, lost: bool, shown: bool) -> None:
    if lost:
        print(f"failed: {task.name}: {last_line(task)}", file=sys.stderr, flush=True)
    elif not shown:
        print(f"done: {task.name} {_headline(task)}".rstrip(), file=sys.stderr, flush=True)


def last_line(task: Task) -> str:
    """Return the last line that a cell's command printed, and where the rest is."""
    path = task.folder / "output.txt"
    lines = path.read_text(errors="replace").split("\n") if path.is_file() else []
    said = [line for line in lines if line.strip()]
    return f"{said[-1].strip() if said else 'it did not start'} (all in {path})"


def status_table(tasks: Sequence[Task], running: Sequence[Running], failed: Sequence[Task]) -> Table:
    """Return the table with a line per backbone and seed and a column per stage: seconds so far, score, or state."""
    columns = list(dict.fromkeys(task.column for task in tasks))
    since = {one.task: time.monotonic() - one.began for one in running}
    cells: dict[tuple[str, int], dict[str, str]] = {}
    for task in tasks:
        if task in since:
            text = f"[yellow]{since[task]:.0f} s[/]"
        elif task in failed:
            text = "[red]failed[/]"
        else:
            text = f"[green]{_headline(task) or 'done'}[/]" if task.done else "[dim]waiting[/]"
        cells.setdefault((task.row, task.seed), {})[task.column] = text
    table = Table("backbone", "seed", *map(escape, columns))
    for (row, seed), texts in cells.items():
        table.add_row(escape(row), str(seed), *(texts.get(column, "") for column in columns))
    return table


@cache
def _headline(task: Task) -> str:
    """Return the score of a finished cell, as the live table shows it; empty if it has none."""
    if task.product != RESULTS_NAME:
        return ""
    try:
        scores = read_scores([task.folder / task.product])
    except InputError:
        return "?"
    # The last of several settings is the deepest.
    stage = STAGES[scores[0].stage]
    metric = stage.metric(headline_metrics(stage.name, scores[0].config)[0])
    shown = [s for s in scores if s.metric == metric.name and stage.swept(s.setting) is None]
    if not shown:
        return "?"
    setting = f"{shown[-1].setting} " if len(shown) > 1 else ""
    return f"{setting}{metric.unit.text(shown[-1].value)} {metric.unit.label}".rstrip()
