"""What a score says about the backbone and the data it was made with."""

import dataclasses
import functools

import pytest

from pretext.backbones.checkpoint import LoadedBackbone, Provenance, load_backbone
from transfer.stage import data_name, recipe_id


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("imagenette128", "imagenette128"),
        ("toyworld/labeled", "toyworld"),
        ("work_dirs/toyworld/VOCdevkit", "toyworld"),
        ("voc256/VOCdevkit/VOC2007", "voc256"),
        ("VOCdevkit", "VOCdevkit"),
        ("VOCdevkit/VOC2007", "VOCdevkit"),
        ("../photos/", "photos"),
        ("/data/VOCdevkit", "VOCdevkit"),
        ("/data/voc256/VOCdevkit", "voc256"),
        ("/elsewhere/voc256", "voc256"),
    ],
)
def test_data_are_filed_under_the_name_they_were_given_by(given, name, monkeypatch):
    monkeypatch.setenv("PRETEXT_DATA", "/data")
    assert data_name(given) == name


def test_the_current_folder_has_its_own_name(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path / "photos")
    assert data_name(".") == "photos"


PROVENANCE = Provenance(
    method="colorization",
    seed=0,
    step=100,
    data="toyworld/unlabeled",
    data_fingerprint="a" * 64,
    config={"data": "toyworld/unlabeled", "workers": 2, "optimizer": {"lr": 0.1}},
)


@functools.cache
def alexnet():
    return load_backbone("random:alexnet").backbone


def with_provenance(**changes):
    return LoadedBackbone(alexnet(), dataclasses.replace(PROVENANCE, **changes), "b" * 64)


def test_seed_place_and_geometry_are_no_part_of_the_recipe():
    recipe = recipe_id(with_provenance())
    same = {"data": "/photos", "workers": 4, "optimizer": {"lr": 0.1}}
    assert recipe_id(with_provenance(seed=1, data="/photos", config=same, versions={"torch": "3"})) == recipe
    first, second = (recipe_id(load_backbone("random:alexnet", seed=seed)) for seed in (0, 1))
    assert first == second == recipe_id(load_backbone("random:alexnet", geometry="evaluation"))


@pytest.mark.parametrize(
    "change",
    [
        {"method": "rotation"},
        {"step": 200},
        {"processes": 8},
        {"data_fingerprint": "c" * 64},
        {"config": PROVENANCE.config | {"optimizer": {"lr": 0.2}}},
    ],
)
def test_everything_else_is_another_recipe(change):
    assert recipe_id(with_provenance(**change)) != recipe_id(with_provenance())


def test_architectures_are_recipes_of_their_own():
    assert len({recipe_id(load_backbone(f"random:{name}")) for name in ("alexnet", "vgg16")}) == 2
