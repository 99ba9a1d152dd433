"""What was written while configs named classes by their modules."""

import pytest

from pretext.config import config_folder, load_config, plain
from pretext.data.crops import VIEWS
from pretext.methods import METHODS
from pretext.old_names import NAMES, renamed, spelled_for_hash
from pretext.training.optimizers import OPTIMIZERS
from transfer.networks.reductions import REDUCTIONS

TABLES = {**METHODS, **VIEWS, **REDUCTIONS, **OPTIMIZERS}
OLD = {
    "method": {"type": "pretext.methods.split_brain.SplitBrain", "layer": "conv5"},
    "view": {"type": "pretext.data.side_by_side.PairCrop", "size": 64},
    "stages": [{"reduction": {"type": "transfer.networks.reductions.MaxPool"}}],
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
    config = load_config(str(path), ["optimizer.type=torch.optim.AdamW"])
    assert config["view"]["type"] == "RandomCrop"
    assert config["method"]["type"] == "rotation"
    assert config["optimizer"]["type"] == "AdamW"


@pytest.mark.parametrize("path", sorted(config_folder().glob("*/*.py")), ids=lambda path: path.stem)
def test_a_resolved_config_holds_names_from_the_tables(path):
    def types(value):
        if isinstance(value, dict):
            found = [value["type"]] if "type" in value else []
            return found + [name for entry in value.values() for name in types(entry)]
        return [name for entry in value for name in types(entry)] if isinstance(value, list) else []

    assert set(types(plain(load_config(str(path))))) <= set(TABLES)
