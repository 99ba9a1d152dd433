import json
from types import SimpleNamespace

import pytest
from refusals import refused

from pretext.training.claim import claim

IDENTITY = {"config": {"batch_size": 4, "optimizer": {"lr": 0.001}}, "seed": 0}


def changed(**entries):
    return IDENTITY | entries


def test_a_folder_is_made_and_holds_its_run(tmp_path):
    folder = tmp_path / "new" / "run"
    claim(folder, IDENTITY, 1000, fresh=False)
    assert json.loads((folder / "config.json").read_text()) == IDENTITY
    (folder / "step_00000002.pth").write_text("weights")
    claim(folder, IDENTITY, 1000, fresh=False)
    assert (folder / "step_00000002.pth").read_text() == "weights"


@pytest.mark.parametrize(
    ("identity", "received"),
    [
        (
            changed(config={"batch_size": 4, "optimizer": {"lr": 0.5}}),
            "optimizer.lr=0.5 (0.001 there)",
        ),
        (changed(seed=1), "seed=1 (0 there)"),
        (
            changed(config={"optimizer": {"lr": 0.001, "momentum": 0.9}}),
            "batch_size=None (4 there), optimizer.momentum=0.9 (None there)",
        ),
    ],
)
def test_another_run_is_refused_and_its_settings_are_named(tmp_path, identity, received):
    claim(tmp_path, IDENTITY, 1000, fresh=False)
    with refused(tmp_path, received=received, allowed="--fresh"):
        claim(tmp_path, identity, 1000, fresh=False)
    assert json.loads((tmp_path / "config.json").read_text()) == IDENTITY


def test_a_fresh_run_deletes_the_earlier_one_and_nothing_else(tmp_path):
    claim(tmp_path, IDENTITY, 1000, fresh=False)
    log = "20200101_000000"
    written = [
        "step_00000002.pth",
        "step_00000004.pth.partial",
        "prior.json",
        "unreadable.txt",
        "last_checkpoint",
    ]
    written += [
        "backbone.safetensors",
        "colorizer.safetensors",
        "classifier.safetensors",
        "color_grids/iter_00000002.png",
        f"{log}/{log}.log",
    ]
    mine = ["notes.txt", "color_grids/mine.png", "step.pth", "20200101_000001/notes.txt"]
    for name in written + mine:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    claim(tmp_path, changed(seed=1), 1000, fresh=True)
    kept = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert kept == {*mine, "config.json"}
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 1


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", '{"model": "bert", "hidden": 768}'),
        ("config.json", '{"config": {"met'),
        ("config.json", "[1, 2]"),
        ("backbone.safetensors", "junk"),
        ("step_00000002.pth", "junk"),
        ("prior.json", "{}"),
    ],
)
def test_a_folder_of_something_else_is_refused_and_kept(tmp_path, name, content, fresh):
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / name).write_text(content)
    with refused(tmp_path, name, "config.json", allowed="choose another --work-dir") as caught:
        claim(tmp_path, IDENTITY, 1000, fresh)
    assert "bert" not in str(caught.value)
    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert kept == {"thesis.tex": "years of work", name: content}


def test_a_run_that_cannot_be_deleted_is_refused(tmp_path):
    claim(tmp_path, IDENTITY, 1000, fresh=False)
    (tmp_path / "prior.json").mkdir()
    with refused(tmp_path, "prior.json"):
        claim(tmp_path, changed(seed=1), 1000, fresh=True)
    assert (tmp_path / "config.json").exists()


def test_a_full_disk_is_refused_before_the_folder_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr("pretext.training.claim.shutil.disk_usage", lambda path: SimpleNamespace(free=10**6))
    with refused(tmp_path / "run", received="1 MB free", allowed="2 MB"):
        claim(tmp_path / "run", IDENTITY, 2 * 10**6, fresh=False)
    assert not (tmp_path / "run").exists()
