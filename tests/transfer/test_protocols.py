import json
from dataclasses import FrozenInstanceError, replace

import pytest
from refusals import refused
from scored import score

from pretext.config import find_config
from pretext.training.fields import Spec
from transfer.__main__ import main
from transfer.protocols.table import (
    PROTOCOLS,
    departures,
    get_protocol,
    load_stage_config,
    protocol_label,
    sizes_note,
)
from transfer.report.tables import collect_results
from transfer.stage import STAGES


def load(protocol, *words):
    return load_stage_config(protocol.stage, overrides=words, protocol=protocol.id)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda protocol: protocol.id)
class TestPresets:
    def test_its_config_is_whole_and_follows_it(self, protocol):
        assert load(protocol) == protocol.settings
        config = load(protocol).config()
        assert config.keys() == load_stage_config(protocol.stage).config().keys()
        assert departures(config) == {}
        # As a score line holds it.
        assert departures(json.loads(json.dumps(config))) == {}
        assert protocol_label(config) == protocol.id

    def test_it_is_of_a_stage_and_says_where_its_numbers_were_read(self, protocol):
        assert protocol.stage in STAGES
        assert len(protocol.source) > 40

    def test_it_cannot_be_changed(self, protocol):
        settings = protocol.settings
        with pytest.raises(FrozenInstanceError):
            settings.batch_size = 1
        parts = [value for value in vars(settings).values() if isinstance(value, Spec)]
        assert parts or protocol.stage == "colorization"
        for part in parts:
            with pytest.raises(TypeError):
                part[next(iter(part))] = 1
        changes = {
            "optimizer": "optimizer.lr=7.0",
            "reduction": "reduction.conv1=(1, 1, 0)",
            "count": "count=7",
        }
        nested = next(change for key, change in changes.items() if hasattr(settings, key))
        assert departures(load(protocol, nested).config()) != {}
        assert departures(load(protocol).config()) == {}

    def test_what_it_leaves_to_choose_are_keys_of_its_stage(self, protocol):
        assert protocol.choices < set(protocol.settings.keys())
        assert protocol.settings.protocol == protocol.id


class TestLabels:
    def config(self, *words):
        return load(PROTOCOLS["splitbrain2017"], *words).config()

    @pytest.mark.parametrize(
        ("words", "label"),
        [
            (["workers=2", "data=places205"], "splitbrain2017"),
            (["scale=0.05"], "splitbrain2017 x0.05"),
            (["batch_size=64"], "splitbrain2017 changed"),
            (["mixed_precision=bfloat16"], "splitbrain2017 changed"),
            (["view.size=112"], "splitbrain2017 changed"),
            (["scale=0.5", "optimizer.lr=0.1"], "splitbrain2017 x0.5 changed"),
        ],
    )
    def test_only_what_was_followed_is_called_so(self, words, label):
        assert protocol_label(self.config(*words)) == label

    def test_departures_are_told_one_by_one(self):
        config = self.config("optimizer.lr=0.1", "crops=10")
        assert departures(config) == {"optimizer.lr": (0.01, 0.1), "crops": (1, 10)}

    def test_what_is_added_to_a_part_is_a_departure(self):
        config = self.config()
        config["view"]["square"] = True
        assert departures(config) == {"view.square": (None, True)}

    def test_the_batch_of_a_protocol_is_that_of_all_processes(self):
        assert protocol_label(self.config("batch_size=64"), processes=4) == "splitbrain2017"

    def test_a_name_of_no_paper_stays(self):
        config = load_stage_config("linear-probe").config()
        assert protocol_label(config) == "linear-probe-toyworld"
        assert departures(config) == {}

    def test_other_splits_are_a_departure(self):
        words = ["train_split=train", "test_split=val"]
        config = load(PROTOCOLS["krahenbuhl2016"], *words).config()
        assert departures(config) == {"train_split": ("trainval", "train"), "test_split": ("test", "val")}


class TestFiles:
    """A file of the user's: the changes of a protocol, or settings of its own."""

    @pytest.fixture
    def file(self, tmp_path):
        def write(text):
            (tmp_path / "mine.py").write_text(text)
            return str(tmp_path / "mine.py")

        return write

    def test_it_changes_the_protocol_that_it_names(self, file):
        path = file('protocol = "rotnet2018"\noptimizer = dict(lr=0.1)\n')
        config = load_stage_config("linear-probe", file=path).config()
        assert departures(config) == {"optimizer.lr": (0.01, 0.1)}
        assert protocol_label(config) == "rotnet2018 changed"

    def test_it_may_have_a_config_of_the_project_as_its_base(self, file):
        text = 'base = "transfer/linear_probe"\nprotocol = "mine"\nepochs = 9\n'
        settings = load_stage_config("linear-probe", overrides=["batch_size=8"], file=file(text))
        assert (settings.protocol, settings.epochs, settings.batch_size) == ("mine", 9, 8)
        assert protocol_label(settings.config()) == "mine"

    @pytest.mark.parametrize("stage", STAGES)
    def test_a_recorded_config_is_one(self, stage, tmp_path):
        settings = load_stage_config(stage)
        (tmp_path / "config.json").write_text(json.dumps(settings.config()))
        assert load_stage_config(stage, file=str(tmp_path / "config.json")) == settings

    def test_a_recorded_config_of_a_protocol_that_is_no_more_is_told_with_those_to_take(self, tmp_path):
        whole = PROTOCOLS["goyal2019_jigsaw"].settings.config() | {"protocol": "goyal2019"}
        (tmp_path / "config.json").write_text(json.dumps(whole))
        with refused(received="goyal2019", allowed="goyal2019_jigsaw"):
            load_stage_config("linear-probe", file=str(tmp_path / "config.json"))

    def test_one_of_the_first_form_still_is(self, file):
        """Keys, milestones in equal parts and booleans of the configs before."""
        path = file(
            'protocol = "krahenbuhl2016"\nmixed_precision = False\ncrops = None\n'
            'schedule = dict(name="step", warmup=0.0, decay=0.5, stages=8)\n'
        )
        settings = load_stage_config("voc-classification", file=path)
        assert settings == replace(PROTOCOLS["krahenbuhl2016"].settings, crops=1)

    @pytest.mark.parametrize(
        ("line", "key", "hint"),
        [("epoch = 3", "epoch", "epochs"), ("optimiser = dict()", "optimiser", "optimizer")],
    )
    def test_an_unknown_key_is_told_with_the_nearest(self, file, line, key, hint):
        path = file(f'protocol = "rotnet2018"\n{line}\n')
        with refused(received=key) as info:
            load_stage_config("linear-probe", file=path)
        assert f"did you mean {hint}?" in info.value.allowed

    @pytest.mark.parametrize(
        ("stage", "name", "missing"),
        [
            ("voc-classification", "linear_probe", "dropout"),
            ("linear-probe", "voc_svm", "classifier_init"),
        ],
    )
    def test_one_of_something_else_is_refused(self, stage, name, missing):
        with refused(stage, name, missing):
            load_stage_config(stage, file=name)

    def test_one_of_pretraining_is_refused(self):
        path = find_config("pretext", "zhang2016_alexnet")
        with refused("voc-detection", path, "protocol"):
            load_stage_config("voc-detection", file=str(path))

    def test_a_protocol_of_another_stage_is_refused(self, file):
        path = file('protocol = "splitbrain2017"\n')
        with refused("voc-classification", path, "linear-probe"):
            load_stage_config("voc-classification", file=path)


class TestErrors:
    def test_a_protocol_is_not_overridden(self):
        with refused("protocol", received="protocol=rotnet2018", allowed="choose it by --protocol ID"):
            load_stage_config("linear-probe", overrides=["protocol=rotnet2018"])

    @pytest.mark.parametrize("name", ["goyal2020", "krahenbuhl2016"])
    def test_an_unknown_protocol_or_one_of_another_stage_is_told(self, name):
        of_stage = tuple(p.id for p in PROTOCOLS.values() if p.stage == "linear-probe")
        with refused("protocol", "linear-probe", received=name, allowed=of_stage):
            load_stage_config("linear-probe", protocol=name)

    def test_an_id_that_is_no_more_is_told_with_those_to_take(self):
        now = "goyal2019_colorization or goyal2019_jigsaw"
        with refused("goyal2019", received="goyal2019", allowed=f"take {now}"):
            load_stage_config("linear-probe", protocol="goyal2019")
        with refused("goyal2019", received="goyal2019", allowed=f"take {now}"):
            get_protocol("goyal2019")
        # No other stage ever had it.
        with refused("voc-svm", received="goyal2019", allowed=("goyal2019_svm",)):
            load_stage_config("voc-svm", protocol="goyal2019")

    def test_protocols_are_told_by_their_ids(self):
        assert get_protocol("splitbrain2017") is PROTOCOLS["splitbrain2017"]
        with refused("protocol", received="goyal2020", allowed=tuple(PROTOCOLS)):
            get_protocol("goyal2020")

    @pytest.mark.parametrize(
        "given",
        [
            {"data": "imagenette128", "protocol": "rotnet2018"},
            {"data": "imagenette128", "file": "linear_probe"},
            {"file": "linear_probe", "protocol": "rotnet2018"},
        ],
    )
    def test_settings_come_from_one_place(self, given):
        with refused(*given.values(), allowed="--data"):
            load_stage_config("linear-probe", **given)

    @pytest.mark.parametrize("stage", STAGES)
    @pytest.mark.parametrize("scale", [0.0, -1.0, 1.5, None, "half"])
    def test_a_scale_is_a_share(self, stage, scale):
        with refused("scale"):
            load_stage_config(stage, overrides=[f"scale={scale}"])

    @pytest.mark.parametrize(
        ("stage", "key"),
        [
            ("linear-probe", "bias_lr_factor"),
            ("voc-detection", "bias_lr_factor"),
            ("voc-segmentation", "head_lr_factor"),
        ],
    )
    def test_no_part_learns_backwards(self, stage, key):
        with refused(key, received=-1.0, allowed="from 0.0 up"):
            load_stage_config(stage, overrides=[f"{key}=-1"])

    @pytest.mark.parametrize("stage", ["linear-probe", "voc-classification"])
    def test_a_view_of_pairs_is_not_one_of_photos(self, stage):
        with refused("view", received="PairCrop"):
            load_stage_config(stage, overrides=["view={'type': 'PairCrop', 'size': 8, 'resize': 8}"])

    @pytest.mark.parametrize("stage", STAGES)
    def test_values_of_another_type_are_told(self, stage):
        config, kind = load_stage_config(stage).config(), STAGES[stage].settings
        with refused("batch_size", received="'8'") as info:
            kind.from_config(config | {"batch_size": "8"})
        assert "a whole number" in info.value.allowed
        with refused("data", received="3"):
            kind.from_config(config | {"data": 3})
        del config["batch_size"]
        with refused(received="one without batch_size"):
            kind.from_config(config)


class TestMended:
    """Protocols whose settings were not as the papers' code: scores of the earlier ones stay readable, apart."""

    def test_scores_of_asano2020_from_other_first_weights_have_a_column_of_their_own(self):
        config = load(PROTOCOLS["asano2020"]).config()
        before = config | {"classifier_init": "xavier"}
        assert departures(before) == {"classifier_init": ("xavier_uniform", "xavier")}
        old, new = (score(protocol="asano2020", config=each) for each in (before, config))
        results = collect_results([old, new])
        assert len(results.columns) == len(results.benchmarks) == 2
        assert {results.config_difference(b) for b in results.benchmarks} == {
            "classifier_init=xavier",
            "classifier_init=xavier_uniform",
        }

    def test_scores_of_goyal2019_are_of_no_protocol(self):
        config = load(PROTOCOLS["goyal2019_jigsaw"]).config() | {"protocol": "goyal2019"}
        assert departures(config) == {}
        assert protocol_label(config) == "goyal2019"
        results = collect_results([score(protocol="goyal2019", config=config)])
        assert [column.metric for column in results.summary_columns()] == ["top1"]


class TestFeatures:
    """How many numbers the classifiers see, where the windows of a protocol fix it."""

    SIZES = PROTOCOLS["asano2020"].features

    @pytest.mark.parametrize(
        "id", ["goyal2019_colorization", "goyal2019_jigsaw", "deepcluster2018", "goyal2019_svm"]
    )
    def test_as_in_the_paper_nothing_is_said(self, id):
        assert sizes_note(id, self.SIZES) is None
        assert sizes_note(id, {"conv5": 9216, "pool5": 1}) is None

    def test_what_differs_is_said_in_one_line(self):
        note = sizes_note("asano2020", {**self.SIZES, "conv1": 6400, "conv4": 6400})
        assert note is not None
        assert note.startswith("asano2020: ")
        assert note.endswith("conv1 6400, conv4 6400; there conv1 9600, conv4 9600")
        assert "\n" not in note

    @pytest.mark.parametrize("id", ["splitbrain2017", "rotnet2018", "fcn32s_zhang2016", "mine"])
    def test_of_other_protocols_nothing_is_said(self, id):
        assert sizes_note(id, {"conv1": 1}) is None


def test_the_command_lists_and_describes_them(capsys):
    assert main(["protocols"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) == len(PROTOCOLS)
    assert main(["protocols", "splitbrain2017"]) == 0
    described = capsys.readouterr().out
    assert '"steps": 140000' in described
    assert main(["protocols", "goyal2020"]) == 2
    error = capsys.readouterr().err
    assert all(name in error for name in ("goyal2020", "splitbrain2017"))
