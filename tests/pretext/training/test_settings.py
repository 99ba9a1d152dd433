import pickle
from dataclasses import replace

import pytest
from refusals import refused

from pretext.config import load_config
from pretext.training.fields import Spec
from pretext.training.schedules import Cosine
from pretext.training.settings import PretrainingSettings


@pytest.fixture
def config():
    return load_config("pretext", "rotation", "toyworld")


@pytest.fixture
def settings(config):
    return PretrainingSettings.from_config(config)


def test_settings_are_the_config_with_names_and_types(config, settings):
    assert settings.batch_size == 64
    assert settings.view == config["view"]
    assert settings.schedule == Cosine(warmup=0.1, warmup_start=0.01)
    assert PretrainingSettings.from_config(settings.config()) == settings
    assert settings.config().keys() == config.keys()


def test_what_changes_no_number_is_not_part_of_the_recipe(settings):
    other = replace(settings, workers=9, checkpoint_interval=9)
    assert other != settings
    assert other.recipe() == settings.recipe()
    assert settings.config().keys() - settings.recipe().keys() == {"workers", "checkpoint_interval"}


def test_a_part_cannot_be_changed_but_replaced(settings):
    with pytest.raises(TypeError):
        settings.view["size"] = 3
    assert (settings.view | {"size": 3})["size"] == 3
    assert settings.view["size"] == 96
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert Spec(type="a", b=[1, {"c": 2}])["b"] == (1, {"c": 2})


def test_an_unknown_key_is_told_with_the_nearest(config):
    with refused(received="batchsize") as info:
        PretrainingSettings.from_config(config | {"batchsize": 3})
    assert info.value.allowed.startswith("did you mean batch_size? ")


def test_a_config_that_does_not_say_what_it_starts_from_starts_from_random_filters(config):
    del config["init"]
    settings = PretrainingSettings.from_config(config)
    assert settings.config()["init"] == settings.init == "he"
    assert settings.init_file is None
    with refused(
        "init", received="he-normal", allowed="he, gaussian, kmeans, and the path of a backbone file"
    ):
        PretrainingSettings.from_config(config | {"init": "he-normal"})


def test_missing_keys_are_told(config):
    del config["view"], config["method"]
    with refused("view", "method"):
        PretrainingSettings.from_config(config)


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("batch_size", 2.5, "a whole number"),
        ("batch_size", True, "a whole number"),
        ("max_grad_norm", "1", "a number or None"),
        ("data", None, "a text"),
        ("view", "RandomCrop", "a dict"),
        ("schedule", "Cosine", "Cosine"),
        ("init", None, "a text"),
    ],
)
def test_a_value_of_another_type_is_told(config, key, value, allowed):
    with refused(key, allowed=allowed):
        PretrainingSettings.from_config(config | {key: value})
