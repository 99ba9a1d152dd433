import os
import subprocess
import sys
from textwrap import dedent

import pytest
from refusals import refused

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
