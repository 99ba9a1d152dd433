"""docs/add_a_stage.md, run as it stands: its files in a folder of their own, beside the project's."""

import csv
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import transfer.__main__
import transfer.stages
from pretext.backbones.checkpoint import Provenance, build, save_backbone
from pretext.backbones.initializers import he_normal_
from pretext.config import config_folder
from transfer import stage as declarations
from transfer.protocols import settings
from transfer.protocols.table import load_stage_config
from transfer.run import score
from transfer.stage import STAGES

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "add_a_stage.md"
STAGE = "transfer/stages/lightness.py"
SETTINGS = "transfer/protocols/settings.py"
TABLE = "transfer/stage.py"
CONFIG = "configs/transfer/lightness.py"
TEST = "tests/transfer/stages/test_lightness.py"


@pytest.fixture(scope="module")
def blocks():
    """The page's files by their paths."""
    return dict(re.findall(r"^`([\w/]+\.py)`[^\n]*\n\n```\w+\n(.*?)^```$", PAGE.read_text(), re.M | re.S))


def added(block):
    return "".join(line.removeprefix("+") for line in block.splitlines(keepends=True))


@pytest.fixture(scope="module")
def entry(blocks):
    """What the page adds to the table."""
    return added(blocks[TABLE])


@pytest.fixture
def written(blocks, entry, tmp_path, monkeypatch):
    """A folder with the page's files, where the project's own packages and commands find them."""
    shutil.copytree(config_folder(), tmp_path / "configs")
    for path in (STAGE, CONFIG, TEST):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(blocks[path])
    monkeypatch.setattr("pretext.config.config_folder", lambda: tmp_path / "configs")
    folders = [*transfer.stages.__path__, str((tmp_path / STAGE).parent)]
    monkeypatch.setattr(transfer.stages, "__path__", folders)
    names = dict(vars(settings))
    exec(added(blocks[SETTINGS]), names)
    monkeypatch.setattr(settings, "LightnessSettings", names["LightnessSettings"], raising=False)
    (stage,) = eval(entry, vars(declarations) | {"LightnessSettings": names["LightnessSettings"]})
    with monkeypatch.context() as patched:
        patched.setitem(STAGES, stage.name, stage)
        importlib.invalidate_caches()
        importlib.reload(transfer.__main__)
        yield tmp_path
    importlib.reload(transfer.__main__)
    for name in ("transfer.stages.lightness", "test_lightness"):
        sys.modules.pop(name, None)


@pytest.fixture
def photos(photo_folders, tmp_path):
    """The labelled photos, to train on and to score on."""
    for split in ("train", "val"):
        (tmp_path / "photos" / split).mkdir(parents=True)
        for folder in photo_folders.iterdir():
            (tmp_path / "photos" / split / folder.name).symlink_to(folder)
    return tmp_path / "photos"


@pytest.fixture
def backbone(tmp_path):
    """A backbone file of a made-up method, small and untrained."""
    made = build("alexnet", {"channels": (8, 8, 8, 8, 8)})
    he_normal_(made, 7)
    save_backbone(made, tmp_path / "backbone.safetensors", Provenance("made_up"))
    return tmp_path / "backbone.safetensors"


def test_the_page_shows_five_files_of_a_small_example(blocks):
    assert list(blocks) == [STAGE, SETTINGS, TABLE, CONFIG, TEST]
    assert len(PAGE.read_text().splitlines()) <= 150


def test_the_command_and_the_call_record_the_same_lines(written, photos, backbone, capsys):
    words = [str(backbone), "size=64", "--data", str(photos), "--seed", "3", "--work-dir", str(written / "a")]
    assert transfer.__main__.main(["lightness", "conv1,conv5", *words]) == 0
    printed = capsys.readouterr().out.splitlines()
    chosen = load_stage_config("lightness", overrides=["size=64", "layers=conv1,conv5"])
    returned = score("lightness", backbone, settings=chosen, data=photos, seed=3, work_dir=written / "b")
    by_folder = []
    for name in ("a", "b"):
        lines = (written / name / "results.jsonl").read_text().splitlines()
        by_folder.append([json.loads(line) | {"time": "", "seconds": 0, "run": ""} for line in lines])
    assert by_folder[0] == by_folder[1]
    assert [(s.setting, s.metric, s.unit, s.method) for s in returned] == [
        (layer, "psnr", "dB", "made_up") for layer in ("conv1", "conv5")
    ]
    assert [line.split()[1:] for line in printed] == [
        [s.setting, "psnr", f"{s.value:.2f}", "dB"] for s in returned
    ]


def test_the_report_has_the_column_with_its_unit(written, photos, backbone, capsys):
    chosen = load_stage_config("lightness", overrides=["size=64", "layers=conv1,conv5"])
    for name in (str(backbone), f"random:{backbone}"):
        score("lightness", name, settings=chosen, data=photos, work_dir=written / "work")
    assert transfer.__main__.main(["report", "--work-dir", str(written / "work"), "stage=lightness"]) == 0
    printed = capsys.readouterr().out
    assert "Lightness on photos" in printed
    assert "PSNR (dB)" in printed
    report = written / "work" / "report_stage-lightness"
    page, markdown = ((report / name).read_text() for name in ("report.html", "report.md"))
    assert "| method | conv1 PSNR (dB) [1] | conv5 PSNR (dB) [1] |" in markdown
    assert '<h2 id="layers">Lightness by layer</h2>' in page
    assert "Lightness, PSNR (dB)" in page
    assert re.search(r"<svg.*PSNR \(dB\).*</svg>", page, re.S)
    with (report / "report.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["metric"], row["unit"], row["method"]) for row in rows} == {
        ("psnr", "dB", "random"),
        ("psnr", "dB", "made_up"),
    }
    with (report / "differences.csv").open() as file:
        differences = {row["setting"]: row for row in csv.DictReader(file)}
    assert differences.keys() == {"conv1", "conv5"}
    means = {row["method"]: float(row["mean"]) for row in rows if row["setting"] == "conv5"}
    found = differences["conv5"]
    assert found["unit"] == "dB"
    assert float(found["difference"]) == pytest.approx(means["made_up"] - means["random"])
    assert float(found["low"]) <= float(found["difference"]) <= float(found["high"])


def test_the_test_passes(written, monkeypatch):
    monkeypatch.syspath_prepend((written / TEST).parent)
    module = importlib.import_module("test_lightness")
    tests = [function for name, function in vars(module).items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()


@pytest.mark.slow
def test_nothing_else_of_the_project_must_be_touched(blocks, entry, photos, tmp_path):
    copy = tmp_path / "copy"
    for name in ("pretext", "transfer", "configs", "tests", "docs"):
        shutil.copytree(ROOT / name, copy / name)
    shutil.copy(ROOT / "pyproject.toml", copy)
    for path in (STAGE, CONFIG, TEST):
        (copy / path).write_text(blocks[path])
    table = (copy / TABLE).read_text()
    head, end, rest = table.partition("    )\n}  # fmt: skip\n")
    assert end
    head = head.replace("    DetectionSettings,\n", "    DetectionSettings,\n    LightnessSettings,\n", 1)
    (copy / TABLE).write_text(f"{head}{entry}{end}{rest}")
    with (copy / SETTINGS).open("a") as file:
        file.write(f"\n\n{added(blocks[SETTINGS])}")

    def run(*words):
        environment = {**os.environ, "PYTHONPATH": str(copy)}
        ran = subprocess.run(
            [sys.executable, "-m", *words], cwd=copy, env=environment, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
        return ran.stdout

    others = (
        *("tests/test_architecture.py", "tests/test_command_lines.py", "tests/pretext/test_old_names.py"),
        *("tests/transfer/report", "tests/transfer/test_protocols.py"),
        "tests/transfer/compare/test_compare.py::TestPlan",
    )
    run("pytest", "-x", "-p", "no:cacheprovider", TEST, *others)
    assert "lightness" in run("transfer", "--help")
    assert "dB" in run("transfer", "lightness", "conv5", "random:alexnet", "size=64", "--data", str(photos))
    assert "PSNR (dB)" in run("transfer", "report")
