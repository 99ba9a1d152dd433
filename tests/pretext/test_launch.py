import os
import signal
import subprocess
import sys
import time
from textwrap import dedent

import pytest
from pretraining_runs import SMALL_WORDS, command
from refusals import refused

from pretext.command_line import INTERRUPTED
from pretext.launch import spawn_processes


@pytest.mark.parametrize("name", ["GPUS", "NNODES"])
@pytest.mark.parametrize("text", ["0", "-1", "two"])
def test_fewer_than_one_process_is_refused(name, text, monkeypatch):
    monkeypatch.setenv(name, text)
    with refused(name, received=text):
        spawn_processes("pretext", ["train"])


@pytest.mark.parametrize(
    ("told", "number", "code", "line"),
    [
        # torchrun's SIGTERM may reach a process between its message and its end.
        ("InputError('no photos')", "SIGTERM", 2, "error: no photos\n"),
        ("TrainingDivergedError('loss is nan')", "SIGTERM", 1, "error: loss is nan\n"),
        (None, "SIGKILL", 137, "error: process 0 ended with exit code 137\n"),
    ],
)
def test_the_exit_code_is_that_of_what_was_told(told, number, code, line, tmp_path):
    (tmp_path / "trainer.py").write_text(
        dedent(
            f"""
            import os, signal, time
            from pretext.command_line import run_command
            from pretext.errors import InputError, TrainingDivergedError

            def fail():
                raise {told}

            if os.environ["LOCAL_RANK"] == "1":
                time.sleep(60)
            if {told is not None}:
                run_command(fail)
            os.kill(os.getpid(), signal.{number})
            """
        )
    )
    start = "import sys; from pretext.launch import spawn_processes; sys.exit(spawn_processes('trainer', []))"
    done = subprocess.run(
        [sys.executable, "-c", start],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "GPUS": "2", "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    assert (done.returncode, done.stderr) == (code, line)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "sent", "code"),
    [("1", signal.SIGTERM, 143), ("2", signal.SIGINT, 130), ("2", signal.SIGTERM, 143)],
)
def test_a_signal_to_all_processes_is_told_in_one_line(processes, sent, code, photo_folder, tmp_path):
    """A terminal and a batch system send it to the process group: to the DataLoader's workers, too."""
    words = [*SMALL_WORDS, "steps=100000", "workers=2"]
    said = tmp_path / "said.txt"
    with said.open("w") as stderr:
        process = subprocess.Popen(
            command("colorization", *words, work_dir=tmp_path / "run", data=photo_folder),
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env={**os.environ, "GPUS": processes, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
            start_new_session=True,
            # A shell that starts the tests in the background has them ignore it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    end = time.monotonic() + 120
    while "images/s" not in said.read_text():
        assert process.poll() is None, said.read_text()
        assert time.monotonic() < end, said.read_text()
        time.sleep(0.2)
    os.killpg(process.pid, sent)
    assert process.wait(120) == code
    steps = [line for line in said.read_text().splitlines() if not line.startswith("colorization: ")]
    assert steps == [INTERRUPTED]
