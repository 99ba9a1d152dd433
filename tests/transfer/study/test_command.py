import socket
from pathlib import Path

import pytest
from refusals import refused
from studies import write_folders

from transfer.__main__ import main
from transfer.commands import study as command
from transfer.commands.study import named_folders
from transfer.scores.score import RESULTS_NAME, read_scores
from transfer.study.store import Store
from transfer.study.study import ANSWERS_NAME, load_study


def test_systems_are_named_by_the_user_or_their_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a=b").mkdir()
    found = named_folders(["full=results/1", "results/l2/", "a=b"])
    assert found == {"full": Path("results/1"), "l2": Path("results/l2"), "a=b": Path("a=b")}


@pytest.mark.parametrize("word", ["=folder", "name=", " =folder"])
def test_a_system_needs_a_name_and_a_folder(word):
    with refused("name", received=word):
        named_folders([word])


def test_two_systems_of_one_name():
    with refused("two systems", received="l2"):
        named_folders(["first/l2", "second/l2"])


def test_make_and_report(tmp_path, capsys):
    write_folders(tmp_path, count=8)
    folders = [str(tmp_path / "faded"), f"hue={tmp_path / 'turned'}"]
    words = ["--practice", "1", "--tests", "5", "--vigilance", "0.2", "--design", "all", "--seed", "3"]
    where = ["--truth", str(tmp_path / "truth"), "--out", str(tmp_path / "study")]
    assert main(["study", "make", *folders, *where, *words]) == 0
    assert "8 photos of faded, hue; seed 3" in capsys.readouterr().out
    report = ["study", "report", str(tmp_path / "study"), "--work-dir", str(tmp_path / "out")]
    assert main(report) == 2
    assert "nobody has answered" in capsys.readouterr().err
    study = load_study(tmp_path / "study")
    store = Store(tmp_path / "study" / ANSWERS_NAME, study.id)
    for key in "abc":
        token = store.enter(key, study.draw)
        for position, trial in enumerate(store.trials(token)):
            store.see(token, position)
            store.answer(token, position, trial.fake if trial.system != "hue" else trial.real, 500)
    store.close()
    assert main(report) == 0
    printed = capsys.readouterr().out
    assert "3 participants count" in printed
    values = {(s.method, s.metric): s.value for s in read_scores([tmp_path / "out" / RESULTS_NAME])}
    assert values["hue", "fooling_rate"] == 100.0
    assert values["faded", "fooling_rate_high"] == 0.0


def test_a_port_in_use(study, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["study", "serve", str(study.folder), "--port", port]) == 2
    assert port in capsys.readouterr().err


def test_the_server_says_what_is_not_installed(study, monkeypatch, capsys):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert main(["study", "serve", str(study.folder)]) == 2
    assert "pretext-transfer[web]" in capsys.readouterr().err
