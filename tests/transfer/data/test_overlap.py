from pathlib import Path

import pytest
import torch
from PIL import Image
from refusals import refused

from transfer.data.overlap import tell_overlap
from transfer.job import Job
from transfer.protocols.table import load_stage_config
from transfer.stage import STAGES


def test_photos_that_are_trained_on_and_scored_are_counted(capsys):
    tell_overlap(["a/1.jpg", "a/2.jpg"], [Path("a/2.jpg"), Path("b/1.jpg"), Path("b/3.jpg")])
    assert capsys.readouterr().err == "warning: 1 of the 3 photos that are scored are trained on, too\n"


def test_splits_that_share_no_photo_are_not_told(capsys):
    tell_overlap(["train/1.jpg"], ["val/1.jpg"])
    assert capsys.readouterr().err == ""


@pytest.fixture(scope="module")
def mask_tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masks") / "VOCdevkit" / "VOC2012"
    for name in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (folder / name).mkdir(parents=True)
    names = [f"{number:06d}" for number in range(8)]
    for name in names:
        Image.new("RGB", (32, 32), "red").save(folder / "JPEGImages" / f"{name}.jpg")
        Image.new("P", (32, 32)).save(folder / "SegmentationClass" / f"{name}.png")
    (folder / "ImageSets" / "Segmentation" / "val.txt").write_text("\n".join(names))
    return folder


@pytest.fixture(scope="module")
def labeled(tmp_path_factory):
    root = tmp_path_factory.mktemp("labeled")
    for kind in ("cat", "dog"):
        (root / "val" / kind).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(root / "val" / kind / "1.png")
    return root


@pytest.mark.parametrize("name", [name for name, stage in STAGES.items() if stage.judges == "backbone"])
def test_a_stage_warns_before_it_trains_on_what_it_scores(
    name, voc_tree, mask_tree, labeled, tmp_path, capsys
):
    data = {"linear-probe": labeled, "voc-segmentation": mask_tree}.get(name, voc_tree)
    settings = load_stage_config(name, overrides=["train_split=val", "test_split=val", "workers=0"])
    # The warning comes before the backbone is loaded, and this one ends the run there.
    job = Job(settings, str(tmp_path / "nothing"), data, 0, tmp_path, torch.device("cpu"))
    with refused("nothing"):
        STAGES[name].load()(job)
    count = {"linear-probe": 2, "voc-segmentation": 8}.get(name, 24)
    assert f"warning: {count} of the {count} photos that are scored are trained on" in capsys.readouterr().err
