"""A progress display: a bar with images/s and time left on a terminal; elsewhere a line from time to time."""

import logging
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

#: Seconds between two lines where the output is not a terminal.
LINE_SECONDS = 15.0
#: Steps between two lines for `LOG`.
LOG_STEPS = 10

#: Gets a line every `LOG_STEPS` steps. The stages of ``transfer`` write them to a file; pretraining drops them.
LOG = logging.getLogger(__name__)
LOG.setLevel(logging.INFO)
LOG.propagate = False


class ProgressDisplay:
    """Display of how far a run of known length is; a context manager, which shows the terminal's cursor again.

    Args:
        title: Name of the run.
        total: Steps of the whole run.
        start: Steps that a resumed run has done before.
        enabled: False on all processes but the first.
    """

    def __init__(self, title: str, total: int, start: int = 0, enabled: bool = True):
        self.title, self.total, self.steps, self.enabled = title, total, start, enabled
        self._first = start
        self._images = 0
        self._began = self._said = time.monotonic()
        console = Console(file=sys.stderr)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
            console=console,
            disable=not (enabled and console.is_terminal),
        )
        self._task = self._bar.add_task(title, total=total, completed=start, status="")

    def __enter__(self) -> "ProgressDisplay":
        self._bar.start()
        self._began = self._said = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def start_at(self, step: int) -> None:
        """Begin at a step other than ``start``, before the first call of `step`."""
        self.steps = self._first = step
        self._bar.update(self._task, completed=step)

    def step(self, images: int, **values: int | float) -> None:
        """Count one step of ``images`` photos; ``values`` (such as the loss) are shown beside it."""
        self.steps += 1
        self._images += images
        now = time.monotonic()
        rate = self._images / max(now - self._began, 1e-9)
        speed = f"{rate:.0f} images/s" if rate >= 10 else f"{rate:.2g} images/s"
        status = " ".join([*(f"{key} {value:.4g}" for key, value in values.items()), speed])
        self._bar.update(self._task, advance=1, status=status)
        ended = self.steps == self.total
        left = (self.total - self.steps) * (now - self._began) / max(self.steps - self._first, 1)
        line = f"{self.title}: {self.steps}/{self.total} {status}, {_clock(left)} left"
        if self.enabled and (ended or self.steps % LOG_STEPS == 0):
            LOG.info(line)
        if self._bar.disable and self.enabled and (ended or now - self._said >= LINE_SECONDS):
            self._said = now
            print(line, file=sys.stderr, flush=True)


def say(message: str) -> None:
    """Print a line on stderr, and write it to `LOG`."""
    print(message, file=sys.stderr, flush=True)
    LOG.info(message)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
