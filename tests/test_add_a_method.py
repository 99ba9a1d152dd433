"""docs/add_a_method.md, run as it stands: its files in a folder of their own, beside the project's configs."""

import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_run import SMALL

import pretext.methods
from pretext.backbones.checkpoint import load_backbone
from pretext.config import config_folder, load_config, plain
from pretext.methods import METHODS
from pretext.training.engine import pretrain

PAGE = Path(__file__).resolve().parent.parent / "docs" / "add_a_method.md"
METHOD = "pretext/methods/channel_order.py"
TABLE = "pretext/methods/__init__.py"
CONFIG = "configs/pretext/channel_order.py"
TEST = "tests/pretext/methods/test_channel_order.py"


@pytest.fixture(scope="module")
def blocks():
    """The page's files by their paths."""
    return dict(re.findall(r"^`([\w/]+\.py)`\n\n```\w+\n(.*?)^```$", PAGE.read_text(), re.M | re.S))


@pytest.fixture
def written(blocks, tmp_path, monkeypatch):
    """A folder with the page's files, where the project's own packages find them."""
    shutil.copytree(config_folder(), tmp_path / "configs")
    for path in (METHOD, CONFIG, TEST):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(blocks[path])
    folders = [*pretext.methods.__path__, str((tmp_path / METHOD).parent)]
    monkeypatch.setattr(pretext.methods, "__path__", folders)
    importlib.invalidate_caches()
    yield tmp_path
    for name in ("pretext.methods.channel_order", "test_channel_order", "my_methods"):
        sys.modules.pop(name, None)


def test_the_page_shows_four_files_of_a_small_example(blocks):
    assert list(blocks) == [METHOD, TABLE, CONFIG, TEST]
    assert sum(bool(line.strip()) for block in blocks.values() for line in block.splitlines()) <= 70


def test_the_lines_of_the_table_are_what_it_needs(blocks, written):
    imported, entry = (line.removeprefix("+") for line in blocks[TABLE].splitlines())
    names = {}
    exec(imported, names)
    ((name, method),) = eval(f"{{{entry}}}", names).items()
    assert method.name == name == Path(METHOD).stem
    assert name not in METHODS


@pytest.mark.slow
def test_nothing_else_of_the_project_must_be_touched(blocks, tmp_path):
    root = PAGE.parent.parent
    for name in ("pretext", "transfer", "configs", "tests", "docs", "pyproject.toml"):
        copy = shutil.copytree if (root / name).is_dir() else shutil.copy
        copy(root / name, tmp_path / name)
    for path in (METHOD, CONFIG, TEST):
        (tmp_path / path).write_text(blocks[path])
    imported, entry = (line.removeprefix("+") for line in blocks[TABLE].splitlines())
    table = (tmp_path / TABLE).read_text()
    head, brace, rest = table.partition("METHODS: dict[str, type[Method]] = {")
    assert brace
    (tmp_path / TABLE).write_text(f"{head}{imported}\n\n{brace}\n{entry}{rest}")
    # Its rows in the grids ("Tell of it").
    for grid in ("methods", "toyworld"):
        with (tmp_path / "configs" / "compare" / f"{grid}.py").open("a") as file:
            file.write('backbones["channel_order"] = dict(train="channel_order", on="toyworld")\n')
    trains = f"tests/test_configs.py::test_a_pretraining_config_trains_two_steps[{Path(CONFIG).stem}]"
    tests = (TEST, trains, "tests/test_architecture.py", "tests/transfer/compare/test_compare.py::TestPlan")
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-3000:]


def test_the_config_trains_two_steps(written, photo_folder, monkeypatch):
    module = importlib.import_module("pretext.methods.channel_order")
    monkeypatch.setitem(METHODS, "channel_order", module.ChannelOrder)
    config = load_config("pretext", str(written / CONFIG), overrides=SMALL)
    backbone = pretrain(config, work_dir=written / "run", data=str(photo_folder))
    provenance = load_backbone(backbone).provenance
    assert (provenance.method, provenance.step) == ("channel_order", 2)


def test_a_method_outside_of_the_project_trains_too(written, photo_folder, monkeypatch):
    shutil.move(written / METHOD, written / "my_methods.py")
    monkeypatch.syspath_prepend(written)
    own = (written / CONFIG).read_text().replace('"channel_order"', '"my_methods.ChannelOrder"')
    (written / "my_config.py").write_text(own.replace('"_alexnet"', '"pretext/_alexnet"'))
    config = load_config("pretext", str(written / "my_config.py"), overrides=SMALL)
    assert config["method"]["type"] == "my_methods.ChannelOrder"
    backbone = pretrain(config, work_dir=written / "run", data=str(photo_folder))
    assert load_backbone(backbone).provenance.method == "channel_order"
    named = load_config(
        "pretext", str(written / CONFIG), overrides=[*SMALL, "method.type=my_methods.ChannelOrder"]
    )
    assert plain(named["method"]) == plain(config["method"])


def test_the_test_passes(written, request, monkeypatch):
    monkeypatch.syspath_prepend((written / TEST).parent)
    module = importlib.import_module("test_channel_order")
    tests = [function for name, function in vars(module).items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test(**{name: request.getfixturevalue(name) for name in inspect.signature(test).parameters})
