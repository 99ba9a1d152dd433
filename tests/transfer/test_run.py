"""The call from Python is the command's: it returns and records the same lines."""

import errno
import json
import logging
import os

import pytest
from refusals import refused

from pretext import files
from pretext.errors import InputError
from pretext.progress import LOG
from transfer.__main__ import main
from transfer.protocols.table import load_stage_config
from transfer.run import recorded, score
from transfer.scores.score import read_scores

SMALL = [
    *("view.size=64", "view.resize=64", "batch_size=8", "epochs=1", "workers=0", "mixed_precision=None"),
    *("train_split=.", "test_split=."),
]


def without_time(folder):
    lines = (folder / "results.jsonl").read_text().splitlines()
    return [json.loads(line) | {"time": "", "seconds": 0.0, "run": ""} for line in lines]


def test_the_call_returns_and_records_the_lines_of_the_command(
    small_alexnet, photo_folders, tmp_path, capsys
):
    where = ["--data", str(photo_folders), "--seed", "1", "--work-dir", str(tmp_path / "command")]
    assert main(["linear-probe", "conv2,conv5", small_alexnet, *SMALL, *where]) == 0
    printed = capsys.readouterr().out.splitlines()
    settings = load_stage_config("linear-probe", overrides=[*SMALL, "layers=conv2,conv5"])
    called = {"settings": settings, "data": photo_folders, "seed": 1, "work_dir": tmp_path / "call"}
    shown = []
    scores = score("linear-probe", small_alexnet, **called, show=shown.append)
    assert shown == printed
    assert scores == read_scores([tmp_path / "call" / "results.jsonl"])
    assert len(scores) == 2 * 4
    assert {one.unit for one in scores} == {"percent"}
    assert without_time(tmp_path / "command") == without_time(tmp_path / "call")
    (by_command,), (by_call,) = ((tmp_path / name / "runs").iterdir() for name in ("command", "call"))
    assert sorted(path.name for path in by_command.iterdir()) == sorted(
        path.name for path in by_call.iterdir()
    )
    assert (by_command / "outcomes.npz").read_bytes() == (by_call / "outcomes.npz").read_bytes()


def test_the_config_is_the_stages_own_by_default(monkeypatch, small_alexnet, photo_folders, tmp_path):
    given = []

    def stop(job):
        given.append(job)
        raise KeyboardInterrupt

    monkeypatch.setattr("transfer.stages.linear_probe.linear_probe", stop)
    with pytest.raises(KeyboardInterrupt):
        score("linear-probe", small_alexnet, data=photo_folders, work_dir=tmp_path)
    assert given[0].settings == load_stage_config("linear-probe")


def test_the_log_takes_names_that_are_not_utf8(tmp_path, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", True)
    with recorded(tmp_path, "run", {"a": 1}) as folder:
        LOG.info("cannot read photo\udcff.jpg; größer")
    assert "photo\\udcff.jpg; größer" in (folder / "log.txt").read_text(encoding="utf-8")


def test_a_closed_pipe_loses_no_score(small_alexnet, photo_folders, tmp_path):
    def closed(line):
        raise BrokenPipeError

    settings = load_stage_config("linear-probe", overrides=[*SMALL, "layers=conv1"])
    with pytest.raises(BrokenPipeError):
        score(
            "linear-probe",
            small_alexnet,
            settings=settings,
            data=photo_folders,
            work_dir=tmp_path,
            show=closed,
        )
    assert len(read_scores([tmp_path / "results.jsonl"])) == 4
    assert list((tmp_path / "runs").glob("*/outcomes.npz"))


def test_another_stages_settings_are_refused(small_alexnet, photo_folders, tmp_path):
    settings = load_stage_config("voc-svm")
    with refused("linear-probe", received="SvmSettings", allowed="ProbeSettings"):
        score("linear-probe", small_alexnet, settings=settings, data=photo_folders, work_dir=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", [-1, 2**32, True])
def test_what_is_no_seed_is_refused(seed, small_alexnet, photo_folders, tmp_path):
    with refused("seed"):
        score("linear-probe", small_alexnet, data=photo_folders, seed=seed, work_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_refused_leaves_the_folders_that_were_there(tmp_path):
    (tmp_path / "mine").mkdir()
    for work_dir in (tmp_path / "mine", tmp_path / "new" / "deep"):
        with refused("bad"), recorded(work_dir / "runs", "run", {"a": 1}):
            raise InputError("bad")
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]


def test_a_full_disk_leaves_no_folders(tmp_path, monkeypatch):
    def full(written, path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "move_into_place", full)
    with refused("config.json", "No space left"), recorded(tmp_path / "new" / "runs", "run", {"a": 1}):
        pass
    assert not list(tmp_path.iterdir())
