import json
from fractions import Fraction

import pytest
from refusals import refused

from pretext.config import build, config_folder, load_config, plain
from pretext.data.crops import VIEWS, RandomCrop
from pretext.errors import InputError

NAME = "pretext/colorization_alexnet_imagenette128"


def test_overrides_reach_into_the_config():
    config = load_config(NAME, ["optimizer.lr=1", "epochs=2", "method.loss=l2", "optimizer.type=SGD"])
    assert config["optimizer"]["lr"] == 1.0
    assert isinstance(config["optimizer"]["lr"], float)
    assert (config["epochs"], config["method"]["loss"]) == (2, "l2")
    assert config["optimizer"]["type"] == "SGD"


def test_names_stand_for_classes_and_build_makes_them():
    config = load_config(NAME)
    assert config["optimizer"]["type"] == "AdamW"
    assert build(config["view"], VIEWS) == RandomCrop(128, 128)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimiser.lr=1", "unknown config key: received optimiser.lr; did you mean optimizer.lr"),
        ("nonsense=1", "unknown config key: received nonsense; .*allowed are"),
        ("epochs=many", "a wrong type for the config key epochs: received 'many', expected int like 6"),
        ("epochs", "must read key=value: received 'epochs'"),
    ],
)
def test_bad_overrides_are_errors(override, message):
    with pytest.raises(InputError, match=message):
        load_config(NAME, [override])


def test_a_config_is_found_by_path_or_name_and_else_all_are_listed(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("epochs = 3\n")
    assert load_config(str(path))["epochs"] == 3
    assert load_config(f"configs/{NAME}.py") == load_config(NAME)
    with pytest.raises(InputError, match="no such config: received gone, allowed are .*colorization_alexnet"):
        load_config("gone")
    path.write_text("epochs = = 3\n")
    with pytest.raises(InputError, match="cannot be read: "):
        load_config(str(path))


def test_a_name_means_the_projects_config_and_not_a_module_of_that_name(tmp_path, monkeypatch):
    (tmp_path / "transfer").mkdir()
    (tmp_path / "transfer" / "linear_probe.py").write_text("a module, no config")
    monkeypatch.chdir(tmp_path)
    assert load_config("transfer/stages/linear_probe.py")["protocol"] == "linear-probe-toyworld"


def test_a_resolved_config_is_json_and_can_be_run_again(tmp_path):
    resolved = plain(load_config(NAME))
    (tmp_path / "config.json").write_text(json.dumps(resolved))
    again = load_config(str(tmp_path / "config.json"))
    assert plain(again) == resolved
    assert build(again["view"], VIEWS) == RandomCrop(128, 128)


def test_building_names_a_wrong_argument():
    with refused("RandomCrop", "sise"):
        build({"type": "RandomCrop", "size": 3, "resize": 3, "sise": 3}, VIEWS)


@pytest.mark.parametrize("name", ["Crop", "pretext.data.views.Crop", "no_such_module.Crop", ""])
def test_building_lists_the_names_there_are(name):
    with refused(received=name, allowed="RandomCrop"):
        build({"type": name, "size": 3, "resize": 3}, VIEWS)


def test_a_class_outside_the_project_is_named_by_its_path():
    assert build({"type": "fractions.Fraction", "numerator": 1, "denominator": 2}, VIEWS) == Fraction(1, 2)


def test_every_config_is_short():
    for path in config_folder().glob("*/*.py"):
        assert len(path.read_text().splitlines()) < 80, path
