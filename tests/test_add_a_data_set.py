"""docs/data.md, "Add a data set", as it stands: its data config, and its class of photos."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import pretext.config
from pretext.config import config_folder, load_config
from pretext.data.photos import Photos
from pretext.data.sources import fingerprint
from transfer.protocols.table import load_stage_config

PAGE = Path(__file__).resolve().parent.parent / "docs" / "data.md"
CONFIG = "configs/data/flowers.py"
PHOTOS = "pretext/data/array.py"


@pytest.fixture(scope="module")
def blocks():
    """The page's files by their paths."""
    return dict(re.findall(r"^`([\w/]+\.py)`\n\n```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S))


def test_the_page_shows_two_files(blocks):
    assert list(blocks) == [CONFIG, PHOTOS]


def test_the_config_changes_pretraining_and_the_probe(blocks, tmp_path, monkeypatch):
    shutil.copytree(config_folder(), tmp_path / "configs")
    (tmp_path / CONFIG).write_text(blocks[CONFIG])
    monkeypatch.setattr(pretext.config, "config_folder", lambda: tmp_path / "configs")
    rotation, supervised = (load_config("pretext", name, "flowers") for name in ("rotation", "supervised"))
    assert rotation["data"] == supervised["data"] == "flowers/train"
    assert supervised["method"]["num_classes"] == 102
    probe = load_stage_config("linear-probe", "flowers")
    assert (probe.protocol, probe.data, probe.view["size"]) == (
        "linear-probe-flowers",
        "flowers",
        128,
    )


def test_the_class_offers_its_photos(blocks, tmp_path):
    names = {}
    exec(blocks[PHOTOS], names)
    array = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "photos.npy", array)
    here, there = (names["PhotoArray"](tmp_path / folder / "photos.npy") for folder in ("here", "there"))
    assert isinstance(here, Photos)
    assert len(here) == 3
    assert np.array_equal(np.asarray(here.image(2)), array[2])
    assert fingerprint(here) == fingerprint(there)
    assert here.name(1) != there.name(1)
