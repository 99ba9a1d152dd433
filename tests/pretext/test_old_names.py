"""What was written while configs named classes by their modules."""

import pytest
from refusals import refused

from pretext.config import config_folder, config_names, find_config, load_config, plain, read_config
from pretext.data.crops import VIEWS
from pretext.methods import METHODS
from pretext.old_names import NAMES, new_spelling, renamed, spelled_for_hash
from pretext.training.optimizers import OPTIMIZERS
from transfer.networks.reductions import REDUCTIONS
from transfer.protocols.table import PROTOCOLS
from transfer.stage import STAGES

TABLES = {**METHODS, **VIEWS, **REDUCTIONS, **OPTIMIZERS}
OLD = {
    "method": {"type": "pretext.methods.split_brain.SplitBrain", "layer": "conv5"},
    "view": {"type": "pretext.data.side_by_side.PairCrop", "size": 64},
    "stages": [{"reduction": {"type": "transfer.reductions.MaxPool"}}],
    "optimizer": {"type": "torch.optim.SGD", "lr": 0.1},
    "own": {"type": "my_methods.ChannelOrder"},
}


def test_every_old_name_leads_to_one_that_is_there():
    assert set(NAMES.values()) <= set(TABLES)
    assert len(set(NAMES.values())) == len(NAMES)


def test_old_names_become_todays_and_others_stay():
    new = renamed(OLD)
    assert new["method"] == {"type": "split_brain", "layer": "conv5"}
    assert new["view"]["type"] == "PairCrop"
    assert new["stages"][0]["reduction"]["type"] == "MaxPool"
    assert new["optimizer"] == {"type": "SGD", "lr": 0.1}
    assert new["own"] == OLD["own"]
    assert renamed(new) == new


def test_hashes_are_taken_over_the_first_spelling():
    assert spelled_for_hash(renamed(OLD)) == spelled_for_hash(OLD) == OLD


def test_a_config_that_imports_classes_still_loads(tmp_path):
    path = tmp_path / "old.py"
    path.write_text(
        "from torch.optim import SGD\n\nfrom pretext.data.views import RandomCrop\n"
        "from pretext.methods.rotation import Rotation\n\n"
        "view = dict(type=RandomCrop, size=64)\nmethod = dict(type=Rotation)\noptimizer = dict(type=SGD, lr=0.1)\n"
    )
    config = load_config("pretext", str(path), overrides=["optimizer.type=torch.optim.AdamW"])
    assert config["view"]["type"] == "RandomCrop"
    assert config["method"]["type"] == "rotation"
    assert config["optimizer"]["type"] == "AdamW"


CONFIGS = [
    path for folder in ("pretext", "transfer") for path in sorted((config_folder() / folder).glob("*.py"))
]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_resolved_config_holds_names_from_the_tables(path):
    def types(value):
        if isinstance(value, dict):
            found = [value["type"]] if "type" in value else []
            return found + [name for entry in value.values() for name in types(entry)]
        return [name for entry in value for name in types(entry)] if isinstance(value, list) else []

    assert set(types(plain(read_config(path)))) <= set(TABLES)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda protocol: protocol.id)
def test_a_protocol_holds_names_from_the_tables(protocol):
    parts = [part for part in protocol.config().values() if isinstance(part, dict)]
    assert {part["type"] for part in parts if "type" in part} <= set(TABLES)


def names_of_configs():
    """The old names of configs, each with what is written today."""
    methods = (
        "autoencoder", "autoencoder_drop50", "bigan", "colorization", "context", "counting", "deepcluster",
        "egomotion", "inpainting", "jigsaw", "l_to_ab", "rotation", "split_brain", "supervised", "tracking",
    )  # fmt: skip
    names = {
        f"pretext/{m}_alexnet_{data}": f"{m} {data}"
        for m in methods
        for data in ("toyworld", "imagenette128")
    }
    names |= {
        "pretext/egomotion_alexnet_frames128": "egomotion_frames",
        "pretext/tracking_alexnet_videos128": "tracking_videos",
        "pretext/colorization_vgg16_imagenette128": "colorization_vgg16 imagenette128",
        "pretext/zhang2016_alexnet": "zhang2016_alexnet",
        "pretext/zhang2016_vgg": "zhang2016_vgg",
        "transfer/linear_probe_imagenette128": "imagenette128",
    }
    for stage in STAGES.values():
        names[f"transfer/{stage.config}"] = "no --config: it is the default"
    for stage in ("voc_classification", "voc_detection", "voc_segmentation"):
        names[f"transfer/{stage}_voc256"] = "voc256"
    for protocol in PROTOCOLS.values():
        names[f"transfer/{protocol.stage.replace('-', '_')}_{protocol.id}"] = f"--protocol {protocol.id}"
    return names


@pytest.mark.parametrize(("old", "new"), names_of_configs().items())
def test_an_old_name_of_a_config_ends_in_an_error_with_the_new_one(old, new, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder, _, _ = old.partition("/")
    for name in (old, f"configs/{old}.py"):
        with refused(received=name, allowed=f"write {new}"):
            find_config(folder, name)


def test_what_is_written_today_is_there():
    for old, new in names_of_configs().items():
        folder, _, _ = old.partition("/")
        names = [] if new.startswith(("--", "no ")) else new.split()
        if folder == "pretext":
            assert load_config("pretext", *names)["data"]
        else:
            assert set(names) <= set(config_names("data"))


def test_other_names_have_no_new_spelling():
    for name in ("rotation", "gone", "pretext/gone", "transfer/gone_voc256", "compare/small", "mine.py"):
        assert new_spelling(name) is None
