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


def started(seed, start_seed, weights, **changes):
    start = dataclasses.asdict(
        dataclasses.replace(PROVENANCE, method="supervised", seed=start_seed, **changes)
    )
    config = PROVENANCE.config | {"init": f"seed{seed}/backbone.safetensors"}
    return recipe_id(with_provenance(seed=seed, init_sha256=weights * 64, init=start, config=config))


def test_runs_of_one_recipe_may_start_from_runs_of_one_recipe_each_with_its_seed():
    assert started(0, 0, "a") == started(1, 1, "b")
    assert started(0, 0, "a") != started(0, 0, "a", step=50)
    # Two runs from one start have that start in common, which two from two starts have not.
    assert started(1, 0, "a") == started(2, 0, "a") != started(1, 1, "b")
    assert started(1, 0, "a") != started(1, 0, "b")


def test_architectures_are_recipes_of_their_own():
    assert len({recipe_id(load_backbone(f"random:{name}")) for name in ("alexnet", "vgg16")}) == 2
