"""Configs import lazily, so that a misspelt class still parses: each is built and run here."""

import pytest

from pretext.backbones.checkpoint import load_backbone
from pretext.config import config_folder
from pretext.engine import pretrain

PRETEXT = sorted(path.stem for path in (config_folder() / "pretext").glob("*.py"))


def test_there_are_configs():
    assert {"zhang2016_alexnet", "zhang2016_vgg", "colorization_alexnet_toyworld"} <= set(PRETEXT)


@pytest.mark.parametrize("name", PRETEXT)
def test_a_pretraining_config_trains_two_steps(name, small_config, photo_folder, tmp_path):
    config = small_config(f"pretext/{name}")
    backbone = pretrain(config, work_dir=tmp_path / "run", data=str(photo_folder))
    loaded = load_backbone(backbone)
    assert loaded.provenance.step == 2
    assert (
        loaded.backbone.arguments.items()
        >= {key: value for key, value in config["backbone"].items() if key != "architecture"}.items()
    )
