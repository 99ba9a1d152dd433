import io
import logging
import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest
from pretraining_runs import SMALL_WORDS, command
from rich.console import Console

from pretext import progress
from pretext.progress import LOG, LOG_STEPS, ProgressDisplay, say
from pretext.training.engine import pretrain

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


@pytest.fixture
def terminal(monkeypatch):
    """What is shown on a terminal."""
    screen = io.StringIO()
    monkeypatch.setattr(
        progress, "Console", lambda file: Console(file=screen, force_terminal=True, width=100, _environ={})
    )
    return screen


def cursor_is_shown(screen):
    """Whether the cursor, once hidden, was shown again."""
    assert HIDE in screen
    return screen.rfind(SHOW) > screen.rfind(HIDE)


def test_an_interrupted_pretraining_shows_the_cursor_again(
    tiny_config, photo_folder, tmp_path, interrupt_at, terminal
):
    interrupt_at(1)
    with pytest.raises(KeyboardInterrupt):
        pretrain(tiny_config(), work_dir=tmp_path, data=str(photo_folder))
    assert cursor_is_shown(terminal.getvalue())


def test_a_bar_shows_steps_and_values_on_a_terminal(terminal):
    with ProgressDisplay("run", 4, start=1) as display:
        display.start_at(2)
        display.step(8, loss=0.25)
    assert "3/4" in terminal.getvalue()
    assert "loss 0.25" in terminal.getvalue()


@pytest.fixture
def log():
    """What goes to `LOG`."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    LOG.addHandler(handler)
    yield lines
    LOG.removeHandler(handler)


def test_lines_are_printed_elsewhere_and_logged(capsys, log):
    with ProgressDisplay("run", LOG_STEPS + 2, enabled=False) as display:
        display.step(8)
    assert capsys.readouterr().err == ""
    with ProgressDisplay("run", LOG_STEPS + 2) as display:
        display.start_at(LOG_STEPS - 1)
        for _ in range(3):
            display.step(8, loss=0.5)
    assert display.steps == LOG_STEPS + 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"run: {LOG_STEPS + 2}/{LOG_STEPS + 2} loss 0.5 ")
    assert line.endswith(", 0:00 left")
    assert [entry.split()[1] for entry in log] == ["10/12", "12/12"]
    say("a word")
    assert capsys.readouterr().err == "a word\n"
    assert log[-1] == "a word"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "sent", "code"),
    [
        ("pretraining", signal.SIGINT, 130),
        ("pretraining", signal.SIGTERM, 143),
        ("linear probe", signal.SIGINT, 130),
    ],
)
def test_a_run_that_is_stopped_shows_the_cursor_again(
    task, sent, code, photo_folder, photo_folders, tmp_path
):
    if task == "pretraining":
        words = command(
            "colorization", *SMALL_WORDS, "steps=100000", work_dir=tmp_path / "run", data=photo_folder
        )
    else:
        for split in ("train", "val"):
            (tmp_path / "data").mkdir(exist_ok=True)
            (tmp_path / "data" / split).symlink_to(photo_folders)
        words = [sys.executable, "-m", "transfer", "linear-probe", "conv1", "random:alexnet", "view.size=64"]
        words += ["view.resize=64", "batch_size=4", "workers=0", "epochs=None", "steps=100000"]
        words += ["--data", str(tmp_path / "data"), "--work-dir", str(tmp_path / "run")]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        words,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        stdin=theirs,
        env={**os.environ, "TERM": "xterm"},
        # A shell that starts the tests in the background has them ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(theirs)
    screen, interrupted = "", False
    while True:
        ready, _, _ = select.select([ours], [], [], 120)
        assert ready, screen
        try:
            read = os.read(ours, 4096).decode(errors="replace")
        except OSError:  # the last process has closed the terminal
            break
        if not read:
            break
        screen += read
        if not interrupted and "loss" in screen:
            interrupted = True
            time.sleep(0.2)
            process.send_signal(sent)
    os.close(ours)
    assert process.wait() == code
    assert cursor_is_shown(screen)


@pytest.mark.parametrize(
    ("images", "seconds", "shown"),
    [(1, 2, " 0.5 images/s"), (47, 10, " 4.7 images/s"), (123, 1, " 123 images/s")],
)
def test_a_slow_run_has_a_speed_above_zero(images, seconds, shown, capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with ProgressDisplay("run", 1) as display:
        clock[0] = seconds
        display.step(images)
    assert shown in capsys.readouterr().err
