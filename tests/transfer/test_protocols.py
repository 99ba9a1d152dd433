import json

import pytest

from pretext.config import config_folder, plain
from pretext.errors import InputError
from transfer.__main__ import main
from transfer.protocols import (
    PROTOCOLS,
    departures,
    get_protocol,
    load_stage_config,
    protocol_label,
    run_length,
)
from transfer.scores.score import STAGES
from transfer.stage import STAGES as COMMANDS

CONFIGS = sorted((config_folder() / "transfer").glob("*.py"))


def name_of(protocol):
    return f"transfer/{protocol.stage.replace('-', '_')}_{protocol.id}"


def stage_of(path):
    (stage,) = [stage for stage in STAGES if path.stem.startswith(stage.replace("-", "_"))]
    return stage


def test_stages_have_commands():
    assert tuple(COMMANDS) == STAGES


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda protocol: protocol.id)
class TestPresets:
    def test_it_has_a_config_that_follows_it(self, protocol):
        config = load_stage_config(protocol.stage, name_of(protocol))
        assert departures(config) == {}
        # As a score line holds it.
        assert departures(json.loads(json.dumps(plain(config)))) == {}
        assert protocol_label(config) == protocol.id

    def test_it_is_of_a_stage_and_says_where_its_numbers_were_read(self, protocol):
        assert protocol.stage in STAGES
        assert len(protocol.source) > 40

    def test_it_cannot_be_changed(self, protocol):
        parts = [
            protocol.settings,
            *(v for v in protocol.settings.values() if isinstance(v, type(protocol.settings))),
        ]
        assert len(parts) > 1
        for part in parts:
            with pytest.raises(TypeError):
                part[next(iter(part))] = 1
        nested = "optimizer.lr=7.0" if "optimizer" in protocol.settings else "reduction.conv1=(1, 1, 0)"
        assert departures(load_stage_config(protocol.stage, name_of(protocol), [nested])) != {}
        assert departures(load_stage_config(protocol.stage, name_of(protocol))) == {}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_has_every_key_of_its_stage_and_no_other(path):
    stage = stage_of(path)
    whole = load_stage_config(stage, COMMANDS[stage][0])
    assert load_stage_config(stage, str(path)).keys() == whole.keys()


class TestLabels:
    def config(self, *words):
        return load_stage_config("linear-probe", "transfer/linear_probe_splitbrain2017", words)

    @pytest.mark.parametrize(
        ("words", "label"),
        [
            (["workers=2", "data=places205"], "splitbrain2017"),
            (["scale=0.05"], "splitbrain2017 x0.05"),
            (["batch_size=64"], "splitbrain2017 changed"),
            (["mixed_precision=True"], "splitbrain2017 changed"),
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
        config = load_stage_config("linear-probe", "transfer/linear_probe")
        assert protocol_label(config) == "linear-probe-toyworld"
        assert departures(config) == {}

    def test_other_splits_are_a_departure(self):
        words = ["train_split=train", "test_split=val"]
        config = load_stage_config("voc-classification", "transfer/voc_classification_krahenbuhl2016", words)
        assert departures(config) == {"train_split": ("trainval", "train"), "test_split": ("test", "val")}


class TestErrors:
    def test_a_protocol_is_not_overridden(self):
        with pytest.raises(InputError, match="not a key to override.*--config transfer/STAGE_PROTOCOL"):
            load_stage_config("linear-probe", "transfer/linear_probe", ["protocol=goyal2019"])

    def test_an_unknown_protocol_is_told(self):
        with pytest.raises(
            InputError, match="unknown protocol: received 'goyal2020', allowed are splitbrain2017"
        ):
            get_protocol("goyal2020")

    @pytest.mark.parametrize(
        ("stage", "name", "message"),
        [
            (
                "voc-classification",
                "transfer/linear_probe_splitbrain2017",
                "no config of voc-classification: it lacks",
            ),
            ("voc-detection", "pretext/zhang2016_alexnet", "no config of voc-detection: it lacks .*protocol"),
            ("linear-probe", "transfer/voc_svm", "no config of linear-probe: it lacks"),
        ],
    )
    def test_a_config_of_something_else_is_refused(self, stage, name, message):
        with pytest.raises(InputError, match=message):
            load_stage_config(stage, name)

    @pytest.mark.parametrize("scale", [0.0, -1.0, 1.5, None, "half"])
    def test_a_scale_is_a_share(self, scale):
        with pytest.raises(InputError, match="scale"):
            run_length({"scale": scale}, 100)


def test_a_shortened_run_is_a_share_of_the_whole():
    assert [run_length({"scale": scale}, 1000) for scale in (1.0, 0.1, 0.0001)] == [1000, 100, 1]


def test_the_command_lists_and_describes_them(capsys):
    assert main(["protocols"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) == len(PROTOCOLS)
    assert main(["protocols", "splitbrain2017"]) == 0
    described = capsys.readouterr().out
    assert '"steps": 140000' in described
    assert main(["protocols", "goyal2020"]) == 2
    assert "unknown protocol: received 'goyal2020'" in capsys.readouterr().err
