"""What was written while configs named classes by their modules, and settings by other names."""

import hashlib
import json
from pathlib import Path

import pytest
from refusals import refused

from pretext.config import config_folder, config_names, find_config, load_config, plain, read_config
from pretext.data.crops import VIEWS
from pretext.methods import METHODS
from pretext.old_names import NAMES, new_spelling, renamed, spelled_for_hash
from pretext.training.optimizers import OPTIMIZERS
from pretext.training.schedules import SCHEDULES, Poly, make_schedule
from pretext.training.settings import PretrainingSettings
from transfer.networks.reductions import REDUCTIONS
from transfer.protocols.table import PROTOCOLS, load_stage_config
from transfer.stage import STAGES

TABLES = {**METHODS, **VIEWS, **REDUCTIONS, **OPTIMIZERS, **SCHEDULES}
#: The resolved configs of commit 4829934 by their names then: the SHA-256 of each, and some of them whole.
FIRST = json.loads((Path(__file__).parent / "first_configs.json").read_text())
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
    parts = [part for part in protocol.settings.config().values() if isinstance(part, dict)]
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


def resolved(old):
    """Today's resolved config for the old name of one, but for what was changed on purpose."""
    words = names_of_configs()[old]
    if old.startswith("pretext/"):
        # All started from random filters, and DeepCluster did not draw its photos from clusters.
        config = load_config("pretext", *words.split(), overrides=["init=he"])
        config["method"].pop("sampling", None)
        return PretrainingSettings.from_config(config).config()
    (stage,) = [stage.name for stage in STAGES.values() if old.startswith(f"transfer/{stage.config}")]
    if words.startswith("--protocol"):
        return load_stage_config(stage, protocol=words.removeprefix("--protocol ")).config()
    return load_stage_config(stage, None if words.startswith("no ") else words).config()


@pytest.mark.parametrize("old", FIRST["sha256"])
def test_todays_configs_have_the_hashes_of_the_first_ones(old):
    content = json.dumps(spelled_for_hash(resolved(old)), sort_keys=True)
    assert hashlib.sha256(content.encode()).hexdigest() == FIRST["sha256"][old]


@pytest.mark.parametrize("old", FIRST["whole"])
def test_the_first_configs_become_todays(old):
    first = FIRST["whole"][old]
    assert renamed(first) == resolved(old)
    # As they stand in headers and score lines.
    assert spelled_for_hash([{"config": renamed(first)}]) == [{"config": first}]


PRETRAINING = {
    "held_out": 8, "steps": 1000, "amp": None, "clip_grad": None,
    "schedule": {"name": "cosine", "warmup": 0.0, "milestones": []},
}  # fmt: skip


class TestForms:
    """Old keys and values, on their own."""

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ({"amp": "bfloat16"}, {"mixed_precision": "bfloat16"}),
            ({"clip_grad": {"max_norm": 0.1}}, {"max_grad_norm": 0.1}),
            ({"clip_grad": None}, {"max_grad_norm": None}),
            (
                {"schedule": {"name": "step", "warmup": 0.1, "milestones": [[500, 0.5], [800, 0.3]]}},
                {
                    "schedule": {
                        "type": "Step", "warmup": 0.1, "warmup_start": 0.01, "milestones": [0.5, 0.8],
                        "factors": [0.5, 0.15], "rounding": "nearest",
                    }
                },
            ),
            (
                {"schedule": {"name": "constant", "warmup": 0.0, "milestones": []}},
                {"schedule": {"type": "Constant", "warmup": 0.0, "warmup_start": None}},
            ),
        ],
    )  # fmt: skip
    def test_of_pretraining(self, old, new):
        config = PRETRAINING | old
        assert renamed(config).items() >= new.items()
        assert spelled_for_hash(renamed(config)) == config

    @pytest.mark.parametrize("multiply", [0.1, 0.3, 1 / 3, 0.94, 1 / 7, 0.5])
    def test_what_milestones_multiplied_by_is_found_again(self, multiply):
        milestones = [[100 * n, multiply] for n in range(1, 9)]
        config = PRETRAINING | {"schedule": {"name": "step", "warmup": 0.0, "milestones": milestones}}
        assert spelled_for_hash(renamed(config)) == config

    def test_milestones_without_steps_stay_and_are_refused_when_used(self):
        schedule = {"name": "step", "warmup": 0.0, "milestones": [[500, 0.5]]}
        config = renamed(PRETRAINING | {"steps": None, "epochs": 3, "schedule": schedule})
        assert config["schedule"] == schedule
        with refused("schedule", allowed="in steps"):
            make_schedule(config["schedule"])

    def test_a_run_that_does_not_say_what_it_started_from_started_from_random_filters(self):
        assert renamed(PRETRAINING)["init"] == "he"
        assert renamed(renamed(PRETRAINING) | {"init": "kmeans"})["init"] == "kmeans"
        kept = spelled_for_hash(renamed(PRETRAINING) | {"init": "kmeans"})
        assert kept == PRETRAINING | {"init": "kmeans"}
        assert "init" not in renamed({"epochs": 3})

    def test_what_the_first_form_could_not_say_stays(self):
        config = renamed(PRETRAINING) | {"schedule": Poly(power=2.0).spec()}
        assert spelled_for_hash(config)["schedule"] == config["schedule"]


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
