import dataclasses
import json
import os
import subprocess
import sys
import time

import pytest
from refusals import refused

from transfer.protocols.settings import StageSettings
from transfer.scores.score import (
    Score,
    append_scores,
    collect_scores,
    config_id,
    latest_scores,
    read_scores,
    utc_now,
)
from transfer.stage import CIE, DECIBEL, SHARE, STAGES, Metric, Stage, scored_stages

FIELDS = {
    "method": "colorization",
    "backbone": "alexnet",
    "backbone_sha256": "a" * 64,
    "backbone_seed": 0,
    "recipe": "c" * 64,
    "pretrained_on": "imagenette128",
    "input_space": "lightness",
    "stage": "linear-probe",
    "protocol": "splitbrain2017",
    "setting": "conv5",
    "metric": "top1",
    "value": 31.8,
    "unit": "percent",
    "seed": 0,
    "processes": 1,
    "run": "linear-probe-colorization-aaaaaaaa-seed0-01234567",
    "data": "imagenette128",
    "split": "train->val",
    "split_fingerprint": "b" * 64,
    "config": {"epochs": 2, "optimizer": {"lr": 0.1}},
    "versions": {"torch": "2.15.0", "git_commit": None},
    "seconds": 12.5,
    "time": "2025-01-31T12:00:00+00:00",
}


def score(**changes):
    return Score(**(FIELDS | changes))


WRITER = """
import dataclasses, itertools, sys
from pathlib import Path
from transfer.scores.score import Score, append_scores
fields = {fields!r}
for i in (range({count}) if {count} else itertools.count()):
    pair = [Score(**(fields | {{"seed": i, "setting": name, "method": sys.argv[2] * 300}})) for name in "ab"]
    append_scores(Path(sys.argv[1]), pair)
"""


def start_writer(path, name, count):
    code = WRITER.format(fields=FIELDS, count=count)
    return subprocess.Popen([sys.executable, "-c", code, str(path), name])


class TestAppendAndRead:
    def test_round_trip_keeps_every_field_and_the_order(self, tmp_path):
        path = tmp_path / "run" / "results.jsonl"
        first, second, third = score(), score(seed=1, backbone_seed=None), score(value=0.0)
        append_scores(path, [first, second])
        append_scores(path, [third])
        assert read_scores([path]) == [first, second, third]
        assert len(path.read_text().splitlines()) == 3

    def test_nothing_to_append_adds_nothing(self, tmp_path):
        append_scores(tmp_path / "results.jsonl", [])
        assert read_scores([tmp_path / "results.jsonl"]) == []

    def test_parallel_writers_lose_and_mix_nothing(self, tmp_path):
        path = tmp_path / "results.jsonl"
        writers = [start_writer(path, name, 20) for name in "wxyz"]
        assert [writer.wait() for writer in writers] == [0] * 4
        scores = read_scores([path])
        assert len(scores) == 4 * 20 * 2
        for first, second in zip(scores[::2], scores[1::2], strict=True):
            assert (first.method, first.seed, first.setting) == (second.method, second.seed, "a")

    def test_killed_writers_leave_a_file_that_can_be_read_and_appended_to(self, tmp_path):
        path = tmp_path / "results.jsonl"
        writers = [start_writer(path, name, 0) for name in "xy"]
        deadline = time.monotonic() + 30
        while not (path.exists() and path.stat().st_size > 20_000) and time.monotonic() < deadline:
            time.sleep(0.01)
        for writer in writers:
            writer.kill()
            writer.wait()
        before = read_scores([path])
        append_scores(path, [score()])
        assert read_scores([path]) == [*before, score()]

    def test_half_a_line_is_ignored_with_a_warning_and_cut_before_the_next_append(self, tmp_path):
        path = tmp_path / "results.jsonl"
        append_scores(path, [score(seed=0), score(seed=1)])
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.warns(UserWarning, match=r"results\.jsonl: ignored half a line at the end"):
            assert [s.seed for s in read_scores([path])] == [0]
        with pytest.warns(UserWarning, match=r"results\.jsonl: cut off half a line"):
            append_scores(path, [score(seed=2)])
        assert [s.seed for s in read_scores([path])] == [0, 2]

    def test_a_whole_line_without_its_newline_is_kept(self, tmp_path):
        path = tmp_path / "results.jsonl"
        append_scores(path, [score(seed=0)])
        path.write_bytes(path.read_bytes().rstrip(b"\n"))
        assert [s.seed for s in read_scores([path])] == [0]
        append_scores(path, [score(seed=1)])
        assert [s.seed for s in read_scores([path])] == [0, 1]

    def test_a_full_disk_leaves_the_file_as_it_was(self, tmp_path):
        path = tmp_path / "results.jsonl"
        append_scores(path, [score()])
        before = path.read_bytes()
        # The kernel lets the write begin and stops it after 100 bytes, as a full disk does.
        code = f"""
import resource
from pathlib import Path
from pretext.errors import InputError
from transfer.scores.score import append_scores, read_scores
path = Path({str(path)!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100,) * 2)
try:
    append_scores(path, read_scores([path]) * 3)
except InputError as error:
    print(error)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert str(path) in done.stdout
        assert "--work-dir" in done.stdout
        assert path.read_bytes() == before

    def test_a_failed_sync_undoes_the_write(self, tmp_path, monkeypatch):
        path = tmp_path / "results.jsonl"
        append_scores(path, [score()])
        before = path.read_bytes()

        def fail(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail)
        with refused(path, "No space left on device"):
            append_scores(path, [score(seed=1)])
        assert path.read_bytes() == before


class TestReadErrors:
    def write(self, tmp_path, values):
        path = tmp_path / "results.jsonl"
        path.write_text(json.dumps(FIELDS) + "\n" + json.dumps(values) + "\n")
        return path

    def test_unknown_field(self, tmp_path):
        path = self.write(tmp_path, FIELDS | {"accuracy": 1})
        with refused(f"{path}, line 2", "accuracy", allowed="method, backbone"):
            read_scores([path])

    def test_missing_field(self, tmp_path):
        path = self.write(tmp_path, {k: v for k, v in FIELDS.items() if k != "recipe"})
        with refused(f"{path}, line 2", "recipe", allowed="move the file away and score again"):
            read_scores([path])

    @pytest.mark.parametrize(
        ("field", "value", "allowed"),
        [
            ("value", float("nan"), "from 0 to 100"),
            ("value", 101, "from 0 to 100"),
            ("value", True, "from 0 to 100"),
            ("value", float("inf"), "from 0 to 100"),
            ("value", -0.1, "from 0 to 100"),
            ("value", 10**400, "from 0 to 100"),
            ("unit", "fraction", ("percent",)),
            ("unit", "dB", ("percent",)),
            ("metric", "mean_iou", ("top1", "top5", "top1_best", "top5_best")),
            ("stage", "probe", tuple(scored_stages())),
            ("stage", [], tuple(scored_stages())),
            ("method", " ", "text"),
            ("backbone_sha256", "a" * 63, "64"),
            ("split_fingerprint", None, "64"),
            ("seed", None, "whole number"),
            ("backbone_seed", 0.5, "whole number, or null"),
            ("recipe", "c" * 8, "64"),
            ("pretrained_on", "", "text that is not empty, or null"),
            ("input_space", None, "text"),
            ("processes", 0, "from 1"),
            ("config", [], "dict"),
            ("seconds", -1, "from 0"),
            ("time", "yesterday", "UTC"),
            ("time", "2025-01-31T12:00:00", "UTC"),
            ("time", "2025-01-31T12:00:00+02:00", "UTC"),
        ],
    )
    def test_bad_value_names_file_line_and_field(self, tmp_path, field, value, allowed):
        path = self.write(tmp_path, FIELDS | {field: value})
        with refused(f"{path}, line 2", f" {field} ", received=repr(value), allowed=allowed):
            read_scores([path])

    @pytest.mark.parametrize("line", ["[1, 2]", "{broken", "top1 = 3", "null"])
    def test_a_line_that_is_not_an_object(self, tmp_path, line):
        path = tmp_path / "results.jsonl"
        path.write_text(line + "\n" + json.dumps(FIELDS) + "\n")
        with refused(f"{path}, line 1", received=line, allowed="JSON object"):
            read_scores([path])

    def test_a_line_that_is_nested_too_deep(self, tmp_path):
        path = tmp_path / "results.jsonl"
        path.write_text(100_000 * "[" + "\n")
        with refused(f"{path}, line 1", allowed="JSON object"):
            read_scores([path])

    def test_no_file(self, tmp_path):
        with refused(tmp_path / "results.jsonl", allowed="results.jsonl"):
            read_scores([tmp_path / "results.jsonl"])

    def test_a_new_score_is_checked_as_a_read_one(self):
        with refused(" value ", received="nan", allowed="from 0 to 100"):
            score(value=float("nan"))
        with refused(" stage ", received="'probe'", allowed=tuple(scored_stages())):
            score(stage="probe")

    @pytest.mark.parametrize("config", [{"lr": float("nan")}, {"model": dict}])
    def test_config_that_json_cannot_hold(self, config):
        with refused(" config ", received=repr(config), allowed="JSON"):
            score(config=config)


def test_z_is_utc():
    assert score(time="2025-01-31T12:00:00Z").time.endswith("Z")
    assert score(time=utc_now()).time.endswith("+00:00")


def test_collect_finds_all_runs_oldest_first(tmp_path):
    late, early = score(time="2025-02-01T00:00:00Z"), score(time="2025-01-01T00:00:00+00:00")
    append_scores(tmp_path / "a" / "results.jsonl", [late])
    append_scores(tmp_path / "b" / "deep" / "results.jsonl", [early])
    assert collect_scores(tmp_path) == [early, late]
    assert collect_scores(tmp_path / "nothing") == []


class TestLatest:
    def test_a_later_line_replaces_the_same_cell_of_the_same_run(self):
        again = score(value=40.0, seconds=1.0, versions={}, config={"optimizer": {"lr": 0.1}, "epochs": 2})
        assert latest_scores([score(), score(seed=1), again]) == [score(seed=1), again]

    @pytest.mark.parametrize(
        "change",
        [
            {"method": "random"},
            {"backbone_sha256": "c" * 64},
            {"stage": "voc-detection", "metric": "coco_ap"},
            {"protocol": "zhang2016"},
            {"setting": "conv4"},
            {"metric": "top5"},
            {"seed": 1},
            {"processes": 2},
            {"data": "toyworld"},
            {"split_fingerprint": "c" * 64},
            {"config": {"epochs": 3, "optimizer": {"lr": 0.1}}},
        ],
    )
    def test_everything_else_is_another_score(self, change):
        assert len(latest_scores([score(), score(**change)])) == 2

    def test_seed_and_place_are_no_part_of_the_recipe(self):
        config = FIELDS["config"]
        assert config_id(config | {"seed": 3, "work_dir": "/tmp/x"}) == config_id(config)


def test_a_score_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        score().value = 1.0


class TestUnits:
    """A stage's declaration says in which unit its scores are, and within which bounds."""

    @pytest.fixture(autouse=True)
    def stages(self, monkeypatch):
        metrics = (
            Metric("psnr", "PSNR", DECIBEL, headline=True),
            Metric("rmse", "RMSE", CIE, higher_is_better=False),
            Metric("ssim", "SSIM", SHARE),
        )
        monkeypatch.setitem(
            STAGES, "colours", Stage("colours", "Colours", "nowhere:colours", StageSettings, metrics)
        )

    @pytest.mark.parametrize(
        ("metric", "unit", "value"),
        [("psnr", "dB", -3.5), ("psnr", "dB", 120.0), ("rmse", "CIE", 250.0), ("ssim", "share", 1.0)],
    )
    def test_other_units_are_written_and_read(self, metric, unit, value, tmp_path):
        one = score(stage="colours", metric=metric, unit=unit, value=value)
        append_scores(tmp_path / "results.jsonl", [one])
        assert read_scores([tmp_path / "results.jsonl"]) == [one]

    @pytest.mark.parametrize(
        ("metric", "unit", "value", "field", "allowed"),
        [
            ("psnr", "percent", 20.0, "unit", ("dB",)),
            ("psnr", "dB", float("-inf"), "value", "finite numbers of dB"),
            ("rmse", "CIE", -0.1, "value", "CIE units from 0 up"),
            ("ssim", "share", 1.1, "value", "shares from 0 to 1"),
            ("top1", "percent", 20.0, "metric", ("psnr", "rmse", "ssim")),
        ],
    )
    def test_what_the_stage_does_not_declare_names_file_and_line(
        self, metric, unit, value, field, allowed, tmp_path
    ):
        path = tmp_path / "results.jsonl"
        odd = FIELDS | {"stage": "colours", "metric": metric, "unit": unit, "value": value}
        path.write_text(json.dumps(FIELDS) + "\n" + json.dumps(odd) + "\n")
        with refused(f"{path}, line 2", f" {field} ", "colours", received=repr(odd[field]), allowed=allowed):
            read_scores([path])
