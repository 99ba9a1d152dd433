"""Every config: those of pretraining are built and run here, those of the stages in the tests of the stages."""

import pytest
from narrow import narrow_backbones

from pretext.backbones.checkpoint import load_backbone
from pretext.config import DEFAULT_DATA, config_names, find_config, load_config, read_config
from pretext.training.engine import pretrain
from transfer.protocols.table import load_stage_config
from transfer.stage import STAGES

PRETEXT = config_names("pretext")
CONFIGS = [("pretext", name) for name in PRETEXT] + [("transfer", stage.config) for stage in STAGES.values()]
DATA = {name: read_config(find_config("data", name)) for name in config_names("data")}
#: What is trained on pairs of pictures, and of which kind.
PAIRS = {"egomotion_frames": "frames", "tracking_videos": "tracks"}
#: Run with few channels, since two steps of their wide networks take as long as those of all others together.
WIDE = (
    "zhang2016_alexnet",
    "zhang2016_vgg",
    "colorization_vgg16",
    "larsson2016_vgg16",
    "hypercolumn_vgg16",
    *("cifar10_classification", "cifar10_classifier", "cifar10_regression"),
    *("small_photos_class", "small_photos_l2", "small_photos_rebalanced"),
    "colorization_colornet",
)


def has_section(folder, name, data):
    return not {folder, name}.isdisjoint(DATA[data])


#: Each config on its own data set; those that some data set changes alone, on the others too.
TRAINED = [pytest.param(name, None, id=name) for name in PRETEXT] + [
    pytest.param(name, data, id=f"{name}-{data}")
    for name in PRETEXT
    for data in DATA
    if data != DEFAULT_DATA
    and has_section("pretext", name, data)
    and any(name in other for other in DATA.values())
]


def test_there_are_configs():
    assert {"zhang2016_alexnet", "zhang2016_vgg", "colorization"} <= set(PRETEXT)
    assert {"toyworld", "imagenette128", "voc256"} <= set(DATA)


def test_each_stage_has_one_config():
    assert set(config_names("transfer")) == {stage.config for stage in STAGES.values()}


def test_a_section_of_a_data_set_changes_a_method_or_a_stage_and_not_both():
    assert not {stage.config for stage in STAGES.values()} & {"pretext", *PRETEXT}
    assert load_config("pretext", "colorization", "cifar10")["data"] == "cifar-10-batches-py/train"
    assert load_stage_config("colorization", "cifar10").data == "cifar-10-batches-py/test"


@pytest.mark.parametrize("data", DATA)
def test_a_data_set_changes_configs_that_there_are(data):
    names = {"pretext", *(name for _, name in CONFIGS)}
    assert set(DATA[data]) <= names
    assert all(isinstance(section, dict) for section in DATA[data].values())


@pytest.mark.parametrize(
    ("folder", "name", "data"),
    [(*config, data) for config in CONFIGS for data in DATA if has_section(*config, data)],
)
def test_a_config_resolves_on_every_data_set_that_has_something_for_it(folder, name, data):
    config = load_config(folder, name, data)
    without = read_config(find_config(folder, name))
    # A data set changes values and adds no key.
    assert config.keys() == without.keys()
    changed = {key for section in (folder, name) for key in DATA[data].get(section, ())}
    assert {
        DATA[data][section]["data"] for section in (folder, name) if "data" in DATA[data].get(section, ())
    } >= {config["data"]}
    assert all(config[key] == without[key] for key in config.keys() - changed)


@pytest.mark.parametrize(("name", "data"), TRAINED)
def test_a_pretraining_config_trains_two_steps(
    name, data, small_config, photo_folder, photo_folders, pair_lists, tmp_path, monkeypatch
):
    if name in WIDE:
        narrow_backbones(monkeypatch)
    labelled = name in ("supervised", "cifar10_classifier")
    config = small_config(name, *(["method.num_classes=2"] if labelled else []), data=data)
    photos = pair_lists[PAIRS[name]] if name in PAIRS else photo_folders if labelled else photo_folder
    backbone = pretrain(config, work_dir=tmp_path / "run", data=str(photos))
    loaded = load_backbone(backbone)
    assert loaded.provenance.step == 2
    assert (
        loaded.backbone.arguments.items()
        >= {key: value for key, value in config["backbone"].items() if key != "architecture"}.items()
    )
