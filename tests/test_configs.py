"""Configs import lazily, so that a misspelt class still parses: each is built and run, those of pretraining here."""

import pytest

from pretext.backbones.checkpoint import load_backbone
from pretext.config import config_folder
from pretext.training.engine import pretrain
from transfer.protocols import PROTOCOLS

PRETEXT = sorted(path.stem for path in (config_folder() / "pretext").glob("*.py"))
#: What is trained on pairs of pictures, and of which kind.
PAIRS = {"egomotion_alexnet_frames128": "frames", "tracking_alexnet_videos128": "tracks"}


def test_there_are_configs():
    assert {"zhang2016_alexnet", "zhang2016_vgg", "colorization_alexnet_toyworld"} <= set(PRETEXT)


def test_the_tests_of_the_stages_run_these():
    stages = ("voc_classification", "voc_detection", "voc_segmentation")
    tested = {"linear_probe", "linear_probe_imagenette128", *stages, *(f"{stage}_voc256" for stage in stages)}
    tested |= {"voc_svm", *(f"{p.stage.replace('-', '_')}_{p.id}" for p in PROTOCOLS.values())}
    assert {path.stem for path in (config_folder() / "transfer").glob("*.py")} == tested


@pytest.mark.parametrize("name", PRETEXT)
def test_a_pretraining_config_trains_two_steps(
    name, small_config, photo_folder, photo_folders, pair_lists, tmp_path
):
    labelled = name.startswith("supervised")
    config = small_config(f"pretext/{name}", *(["method.num_classes=2"] if labelled else []))
    data = pair_lists[PAIRS[name]] if name in PAIRS else photo_folders if labelled else photo_folder
    backbone = pretrain(config, work_dir=tmp_path / "run", data=str(data))
    loaded = load_backbone(backbone)
    assert loaded.provenance.step == 2
    assert (
        loaded.backbone.arguments.items()
        >= {key: value for key, value in config["backbone"].items() if key != "architecture"}.items()
    )
