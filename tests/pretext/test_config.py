import json
from fractions import Fraction

import pytest
from refusals import refused

from pretext.config import build, config_folder, find_config, load_config, merge, plain, read_config
from pretext.data.crops import VIEWS, RandomCrop

NAME = ("pretext", "colorization", "imagenette128")


def test_overrides_reach_into_the_config():
    config = load_config(*NAME, ["optimizer.lr=1", "epochs=2", "method.loss=l2", "optimizer.type=SGD"])
    assert config["optimizer"]["lr"] == 1.0
    assert isinstance(config["optimizer"]["lr"], float)
    assert (config["epochs"], config["method"]["loss"]) == (2, "l2")
    assert config["optimizer"]["type"] == "SGD"


def test_names_stand_for_classes_and_build_makes_them():
    config = load_config(*NAME)
    assert config["optimizer"]["type"] == "AdamW"
    assert build(config["view"], VIEWS) == RandomCrop(128, 128)


@pytest.mark.parametrize(
    ("override", "names", "fields"),
    [
        ("optimiser.lr=1", [], {"received": "optimiser.lr", "allowed": "did you mean optimizer.lr"}),
        ("nonsense=1", [], {"received": "nonsense", "allowed": "batch_size"}),
        ("epochs.more=1", [], {"received": "epochs.more", "allowed": "epochs"}),
        ("epochs=many", ["epochs"], {"received": "many", "allowed": "a whole number, such as 6"}),
        ("epochs={[]: 1}", ["epochs"], {"received": "{[]: 1}", "allowed": "a whole number, such as 6"}),
        ("epochs=" + 9999 * "(", ["epochs"], {"allowed": "a whole number, such as 6"}),
        ("view.size=True", ["view.size"], {"received": "True", "allowed": "a whole number, such as 128"}),
        ("optimizer.lr=1" + 400 * "0", ["optimizer.lr"], {"allowed": "a number, such as 0.001"}),
        ("epochs", ["key=value"], {"received": "epochs"}),
        ("=1", ["key=value"], {"received": "=1"}),
    ],
)
def test_bad_overrides_are_errors(override, names, fields):
    with refused(*names, **fields):
        load_config(*NAME, [override])


def test_a_config_is_found_by_name_or_path_and_else_all_are_listed(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("epochs = 3\n")
    assert load_config("pretext", str(path))["epochs"] == 3
    assert find_config(*NAME[:2]) == config_folder() / "pretext" / "colorization.py"
    for name, close in (("gone", "colorization"), ("rotaton", "did you mean rotation")):
        with refused("unknown method", received=name, allowed=close):
            load_config("pretext", name)
    with refused("unknown data set", received="imagenet128", allowed="did you mean imagenette128"):
        load_config("pretext", "colorization", "imagenet128")
    # What configs share is none to be run.
    with refused("unknown method", received="_alexnet"):
        load_config("pretext", "_alexnet")
    for wrong in ("epochs = = 3\n", "epochs = three\n"):
        path.write_text(wrong)
        with refused(path, "Error", allowed="JSON"):
            load_config("pretext", str(path))


def test_a_name_means_the_projects_config_and_not_a_file_of_that_name(tmp_path, monkeypatch):
    (tmp_path / "linear_probe").write_text("not a config")
    monkeypatch.chdir(tmp_path)
    assert load_config("transfer", "linear_probe")["protocol"] == "linear-probe-toyworld"


class TestBase:
    def test_a_base_is_run_first_and_its_names_can_be_changed(self, tmp_path):
        (tmp_path / "first.py").write_text("epochs = 1\nview = dict(size=4, flip=True)\n_half = 0.5\n")
        (tmp_path / "second.py").write_text('base = "first"\nview.update(size=8)\nrate = _half\n')
        config = read_config(tmp_path / "second.py")
        assert config == {"epochs": 1, "view": {"size": 8, "flip": True}, "rate": 0.5}
        # Each time anew.
        assert read_config(tmp_path / "first.py")["view"] == {"size": 4, "flip": True}

    def test_it_may_be_a_config_of_the_project(self, tmp_path):
        (tmp_path / "mine.py").write_text('base = "pretext/rotation"\nepochs = 1\n')
        config = load_config("pretext", str(tmp_path / "mine.py"), "imagenette128")
        assert config == load_config("pretext", "rotation", "imagenette128", ["epochs=1"])

    def test_one_that_is_not_there_is_told(self, tmp_path):
        (tmp_path / "mine.py").write_text('base = "gone"\n')
        with refused(tmp_path / "mine.py", received="gone", allowed="beside it"):
            read_config(tmp_path / "mine.py")


class TestData:
    def test_a_data_set_changes_all_of_a_folder_and_then_single_configs(self, tmp_path):
        path = tmp_path / "mine.py"
        path.write_text(
            'pretext = dict(data="mine", view=dict(size=48))\nrotation = dict(epochs=1, data="turned")\n'
        )
        config = load_config("pretext", "rotation", str(path))
        assert (config["data"], config["view"]["size"], config["epochs"]) == ("turned", 48, 1)
        # Entries of a dict that it does not name stay.
        assert config["view"]["resize"] == read_config(find_config("pretext", "rotation"))["view"]["resize"]
        assert load_config("pretext", "jigsaw", str(path))["data"] == "mine"

    def test_without_one_a_config_keeps_its_own_data_or_takes_the_toy_worlds(self):
        assert load_config("pretext", "zhang2016_vgg")["data"] == "imagenet/train"
        assert load_config("pretext", "rotation") == load_config("pretext", "rotation", "toyworld")
        assert load_config("transfer", "voc_svm")["data"] == "toyworld/VOCdevkit"

    def test_one_that_has_nothing_for_a_config_is_refused(self):
        with refused("rotation", received="voc256", allowed="voc_detection"):
            load_config("pretext", "rotation", "voc256")

    def test_a_dict_with_a_type_replaces_one(self):
        config = {
            "view": {"type": "RandomCrop", "flip": True},
            "optimizer": {"lr": 1.0, "betas": (0.9, 0.99)},
        }
        changed = merge(config, {"view": {"type": "PairCrop"}, "optimizer": {"lr": 2.0}})
        assert changed == {"view": {"type": "PairCrop"}, "optimizer": {"lr": 2.0, "betas": (0.9, 0.99)}}
        assert config["optimizer"]["lr"] == 1.0


def test_a_resolved_config_is_json_and_can_be_run_again(tmp_path):
    resolved = plain(load_config(*NAME))
    (tmp_path / "config.json").write_text(json.dumps(resolved))
    again = load_config("pretext", str(tmp_path / "config.json"))
    assert plain(again) == resolved
    assert build(again["view"], VIEWS) == RandomCrop(128, 128)


def test_building_names_a_wrong_argument():
    with refused("RandomCrop", "sise"):
        build({"type": "RandomCrop", "size": 3, "resize": 3, "sise": 3}, VIEWS)


@pytest.mark.parametrize("name", ["Crop", "pretext.data.views.Crop", "no_such_module.Crop", ""])
def test_building_lists_the_names_there_are(name):
    with refused(received=name, allowed="RandomCrop"):
        build({"type": name, "size": 3, "resize": 3}, VIEWS)


@pytest.mark.parametrize("spec", [{"size": 3}, {"type": ["RandomCrop"]}, {"type": None}])
def test_building_needs_a_name(spec):
    with refused("class", allowed="RandomCrop"):
        build(spec, VIEWS)


def test_a_class_outside_the_project_is_named_by_its_path():
    assert build({"type": "fractions.Fraction", "numerator": 1, "denominator": 2}, VIEWS) == Fraction(1, 2)


def test_every_config_is_short():
    for path in config_folder().glob("*/*.py"):
        assert len(path.read_text().splitlines()) < 80, path
