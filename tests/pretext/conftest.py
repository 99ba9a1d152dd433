"""Fixtures for pretraining runs of networks with few channels on photos of 32 pixels."""

import os
import shutil

import pytest
from narrow import narrow_backbones
from pretraining_runs import Interrupt
from small_run import SMALL

from pretext.config import load_config
from pretext.training import engine
from pretext.training.engine import pretrain

CHANNELS = (8, 16, 16, 16, 16)
#: What makes the other networks of a method small.
FEW = {
    "bigan": [
        "method.head_hidden=16", "method.generator_channels=32", "method.discriminator_channels=8",
        "method.code_length=8", "view.size=64", "view.resize=64",
    ],
    "counting": ["view.size=64", "view.resize=64"],
}  # fmt: skip


def tiny(method="colorization", *overrides):
    small = [*SMALL, "init=he", "view.size=32", "view.resize=32", *FEW.get(method, ())]
    config = load_config("pretext", method, "toyworld", [*small, *overrides])
    config["backbone"]["channels"] = CHANNELS
    return config


@pytest.fixture(scope="session")
def tiny_config():
    """Loads the config of a method and makes its run tiny; more overrides may follow."""
    return tiny


@pytest.fixture
def interrupt_at(monkeypatch):
    """Interrupts the next runs before a step; gives a function that lets them run through again."""

    def arm(step):
        original = engine._hooks
        monkeypatch.setattr(engine, "_hooks", lambda *args: [*original(*args), Interrupt(step)])
        return monkeypatch.undo

    return arm


@pytest.fixture(scope="session")
def run_config():
    """The config of `finished_run`: 5 steps an epoch."""
    return tiny("colorization", "batch_size=8", "steps=8", "checkpoint_interval=3", "preview_interval=4")


@pytest.fixture(scope="session")
def finished_run(run_config, photo_folder, tmp_path_factory):
    """The folder of a finished run; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    pretrain(run_config, work_dir=folder, data=str(photo_folder))
    return folder


@pytest.fixture
def interrupted_run(finished_run, tmp_path):
    """A copy of `finished_run` without its backbone, as after a kill at the end: checkpoints of steps 6 and 8."""
    folder = tmp_path / "interrupted"
    shutil.copytree(finished_run, folder, ignore=shutil.ignore_patterns("backbone.safetensors"))
    return folder


@pytest.fixture
def photo_list(photo_folder, tmp_path):
    """Makes a list of photos, those at some places broken."""

    def make(length, broken):
        lines = [str(photo_folder / f"{number % 48:02d}.jpg") for number in range(length)]
        for place in broken:
            lines[place] = f"broken{place}.jpg"
            (tmp_path / lines[place]).write_bytes(b"broken")
        (tmp_path / "list.txt").write_text("\n".join(lines))
        return tmp_path / "list.txt"

    return make


@pytest.fixture
def narrow(monkeypatch):
    """The architectures by name, narrow for the length of a test: few channels, all else as in the real ones."""
    return narrow_backbones(monkeypatch)


@pytest.fixture
def refuse_folder(monkeypatch):
    """Call it with a name: folders of that name can no longer be read, as by another user."""

    def refuse(name):
        scan = os.scandir

        def scandir(path):
            if os.path.basename(path) == name:  # noqa: PTH119
                raise PermissionError(13, "Permission denied", path)
            return scan(path)

        monkeypatch.setattr(os, "scandir", scandir)

    return refuse
