"""What was written while configs named classes by their modules, and settings by other names."""

import hashlib
import json
from pathlib import Path

import pytest
from refusals import refused

from pretext.config import build, config_folder, config_names, find_config, load_config, plain, read_config
from pretext.data.crops import VIEWS
from pretext.methods import METHODS
from pretext.old_names import (
    FIRST_COLORS,
    FIRST_SEGMENTATION,
    MENDED,
    NAMES,
    new_spelling,
    renamed,
    spelled_for_hash,
)
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
    assert set(NAMES.values()) <= {*TABLES, *MENDED}
    assert len(set(NAMES.values())) == len(NAMES)


@pytest.mark.parametrize(("old", "new"), MENDED.items())
def test_what_was_mended_is_refused_under_its_old_name(old, new):
    assert old not in TABLES
    assert new in TABLES
    (address,) = [address for address, name in NAMES.items() if name == old]
    for spec in ({"type": old}, renamed({"type": address})):
        with refused(received=old, allowed=f"write {new};"):
            build(spec, TABLES)


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
    for stage in ("linear_probe", "voc_classification", "voc_svm", "voc_detection", "voc_segmentation"):
        names[f"transfer/{stage}"] = "no --config: it is the default"
    for stage in ("voc_classification", "voc_detection", "voc_segmentation"):
        names[f"transfer/{stage}_voc256"] = "voc256"
    # Colours were not judged then.
    for protocol in (each for each in PROTOCOLS.values() if each.stage != "colorization"):
        names[f"transfer/{protocol.stage.replace('-', '_')}_{protocol.id}"] = f"--protocol {protocol.id}"
    names["transfer/linear_probe_goyal2019"] = (
        "--protocol goyal2019_colorization or --protocol goyal2019_jigsaw"
    )
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


def before_mending(config):
    """A config with the old names of what was mended, which is all by which today's may differ from the first ones."""
    old = {new: name for name, new in MENDED.items()}
    return {
        key: value | {"type": old.get(value["type"], value["type"])}
        if isinstance(value, dict) and "type" in value
        else value
        for key, value in config.items()
    }


def digest(config):
    return hashlib.sha256(json.dumps(spelled_for_hash(config), sort_keys=True).encode()).hexdigest()


#: Protocols that were not as the papers' code: those of today are others.
REPLACED = ("transfer/linear_probe_asano2020", "transfer/linear_probe_goyal2019")
KEPT = [old for old in FIRST["sha256"] if old not in REPLACED]


@pytest.mark.parametrize("old", KEPT)
def test_todays_configs_have_the_hashes_of_the_first_ones(old):
    config = resolved(old)
    assert digest(before_mending(config)) == FIRST["sha256"][old]
    # Unless they compute something else: then no score or run of the two is taken for one of the other.
    assert (digest(config) == FIRST["sha256"][old]) == (config == before_mending(config))


def test_what_was_mended_is_in_the_configs_that_had_it():
    mended = {old for old in KEPT if (config := resolved(old)) != before_mending(config)}
    assert mended == {
        *(f"transfer/linear_probe{end}" for end in ("", "_imagenette128", "_splitbrain2017")),
        *(f"transfer/voc_classification_{id}" for id in ("krahenbuhl2016", "deepcluster2018_fc6-8")),
        "transfer/voc_classification_deepcluster2018_all",
    }


@pytest.mark.parametrize("old", FIRST["whole"])
def test_the_first_configs_become_todays(old):
    first = FIRST["whole"][old]
    assert renamed(first) == before_mending(resolved(old))
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


@pytest.mark.parametrize(
    "schedule",
    [
        {"name": "step"},
        {"name": "poly", "warmup": 0.1},
        {"name": "step", "milestones": [[1, 0.1]]},
        {"name": "step", "milestones": [0.5]},
    ],
)
def test_what_is_not_an_old_schedule_is_left_for_its_reader_to_refuse(schedule):
    config = {"steps": 0, "schedule": schedule}
    assert renamed(config) == config
    with refused("schedule"):
        make_schedule(schedule)


@pytest.mark.parametrize(("warmup", "milestone"), [(0.1, 0.1), (0.1, 0.05), (0.0, 0.0)])
def test_a_milestone_at_the_end_of_the_warm_up_could_not_be_said_before(warmup, milestone):
    schedule = {"type": "Step", "warmup": warmup, "milestones": (milestone, 0.5), "factors": (0.5, 0.1)}
    config = load_stage_config("voc-classification", overrides=[f"schedule={schedule}"]).config()
    assert spelled_for_hash(config)["schedule"] == config["schedule"]


class TestFirst:
    """Keys that configs of a stage did not have at first."""

    @pytest.mark.parametrize(
        ("stage", "first"), [("voc-segmentation", FIRST_SEGMENTATION), ("colorization", FIRST_COLORS)]
    )
    def test_what_older_ones_did_is_added_and_left_out_of_hashes(self, stage, first):
        config = load_stage_config(stage).config()
        older = {key: value for key, value in config.items() if key not in first}
        assert len(older) == len(config) - 2
        assert renamed(older) == config
        assert spelled_for_hash(config) == spelled_for_hash(older)

    @pytest.mark.parametrize(
        ("stage", "change"),
        [
            ("voc-segmentation", {"gray": True}),
            ("voc-segmentation", {"early_stopping": {"share": 0.1, "evaluations": 4}}),
            ("colorization", {"decode_at": "photo"}),
            ("colorization", {"true_histogram": "energy"}),
        ],
    )
    def test_what_they_could_not_do_is_in_hashes(self, stage, change):
        config = load_stage_config(stage).config()
        assert spelled_for_hash(config | change) == spelled_for_hash(config) | change
        assert renamed(config | change) == config | change

    def test_other_stages_have_none_of_it(self):
        config = load_stage_config("voc-classification").config()
        assert not {*FIRST_SEGMENTATION, *FIRST_COLORS} & renamed(config).keys()
