"""What a score says about the backbone and the data it was made with."""

import dataclasses
import functools

import pytest

from pretext.backbones.checkpoint import LoadedBackbone, Provenance, load_backbone
from transfer.judged import recipe_id

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
