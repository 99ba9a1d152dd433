import base64
import csv
import io
import json
import re
import statistics
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from refusals import refused
from scored import VALUES, Page, report, score, sha256, three_seeds

from transfer.__main__ import main
from transfer.report.files import build_report, console_table
from transfer.report.plots import color_grids
from transfer.report.tables import Row, collect_results, natural_key
from transfer.scores.score import append_scores


def lines_of(markdown):
    """Markdown table lines by first cell, of the first table."""
    block = next(part for part in markdown.split("\n\n") if part.startswith("|"))
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in block.splitlines()]
    return cells[0], {line[0].split(" (")[0]: line[1:] for line in cells[2:]}


class TestNumbers:
    def test_mean_std_n_seeds_and_gain(self, tmp_path):
        markdown, rows, html = report(tmp_path, three_seeds())
        headings, lines = lines_of(markdown)
        assert headings == ["method", "conv5 top-1 [1]"]
        assert lines["random"] == ["54.2 ± 1.3 (n=3; seeds 0,1,2)"]
        assert lines["colorization"] == ["58.5 ± 1.5 (n=3; seeds 0,1,2)"]
        assert lines["colorization: gain over random"] == ["+4.3"]
        for row in rows:
            values = VALUES[row["method"]]
            assert float(row["mean"]) == pytest.approx(statistics.mean(values))
            assert float(row["std"]) == pytest.approx(statistics.stdev(values))
            assert (row["n"], row["seeds"], row["unit"]) == ("3", "0 1 2", "percent")
            assert row["backbone_sha256"].split() == [sha256(f"{row['method']} {s}") for s in range(3)]
        summary = Page(html).tables[0]
        assert summary[2][1] == "54.2 ± 1.3 | n=3; seeds 0,1,2"
        assert summary[4] == ["colorization: gain over random | points", "+4.3"]

    def test_one_score_has_no_deviation(self, tmp_path):
        markdown, rows, _ = report(tmp_path, [score(value=50.0)])
        assert lines_of(markdown)[1]["colorization"] == ["50.0 (n=1; seed 0)"]
        assert rows[0]["std"] == ""

    def test_a_later_score_replaces_an_earlier_one(self, tmp_path):
        later = score(value=60.0, time="2025-02-01T00:00:00Z")
        append_scores(tmp_path / "a" / "results.jsonl", [later])
        _, rows, _ = report(tmp_path, [score(value=50.0)])
        assert [(row["mean"], row["n"]) for row in rows] == [("60.0", "1")]

    def test_pretraining_seeds_are_named_where_they_differ_from_the_transfer_seed(self):
        results = collect_results([score(seed=0, backbone_seed=s) for s in (2, 0, 1)])
        assert next(iter(results.cells.values())).seeds == ("0", "1/0", "2/0")

    def test_the_same_scores_give_the_same_bytes(self, tmp_path):
        append_scores(
            tmp_path / "run" / "results.jsonl", [s for c in "12" for s in three_seeds(setting=f"conv{c}")]
        )
        first, second = build_report([tmp_path], tmp_path / "a"), build_report([tmp_path], tmp_path / "b")
        for name in ("markdown", "csv", "html"):
            assert getattr(first, name).read_bytes() == getattr(second, name).read_bytes()
        assert (tmp_path / "a" / "plot-1.svg").read_bytes() == (tmp_path / "b" / "plot-1.svg").read_bytes()

    def test_each_plot_is_a_file_on_white_and_those_of_before_go(self, tmp_path):
        (tmp_path / "report").mkdir()
        for name in ("plot-7.svg", "sheet-1.png"):
            (tmp_path / "report" / name).write_text("of an earlier report")
        report(tmp_path, [score(setting=f"conv{c}") for c in "12"])
        (path,) = (tmp_path / "report").glob("plot-*.svg")
        assert path.name == "plot-1.svg"
        assert not (tmp_path / "report" / "sheet-1.png").exists()
        root = ElementTree.parse(path).getroot()
        assert root[0].attrib == {"width": "100%", "height": "100%", "fill": "white"}
        assert "conv2" in [text.text.strip() for text in root.iter("{http://www.w3.org/2000/svg}text")]


class TestNothingIsMixed:
    @pytest.mark.parametrize(
        "change",
        [
            {"protocol": "zhang2016"},
            {"data": "toyworld"},
            {"split": "train->test"},
            {"split_fingerprint": "c" * 64},
            {"config": {"epochs": 3}},
            {"processes": 2},
            {"metric": "top5"},
            {"setting": "conv4"},
            {"stage": "voc-segmentation", "metric": "mean_iou"},
        ],
    )
    def test_each_has_its_own_column(self, tmp_path, change):
        markdown, rows, _ = report(tmp_path, [score(value=20.0), score(value=40.0, **change)])
        assert sorted((row["mean"], row["n"]) for row in rows) == [("20.0", "1"), ("40.0", "1")]
        assert "30.0" not in markdown

    def test_the_config_difference_is_spelled_out(self, tmp_path):
        configs = [{"optimizer": {"lr": lr}, "epochs": 2, "seed": i} for i, lr in enumerate((0.1, 0.2))]
        markdown, _, html = report(tmp_path, [score(config=config) for config in configs])
        for text in (markdown, html):
            assert "(optimizer.lr=0.1)" in text
            assert "(optimizer.lr=0.2)" in text

    @pytest.mark.parametrize(
        ("photos", "labels"),
        [
            ("toyworld", ["colorization imagenette128", "colorization toyworld"]),
            ("imagenette128", [f"colorization recipe {c * 8}" for c in "de"]),
            (None, ["colorization imagenette128", f"colorization recipe {'e' * 8}"]),
        ],
    )
    def test_two_recipes_of_a_method_never_share_a_cell_whatever_their_seeds(self, tmp_path, photos, labels):
        first = score(seed=0, value=20.0, recipe="d" * 64)
        second = score(seed=0, backbone_seed=1, value=60.0, recipe="e" * 64, pretrained_on=photos)
        markdown, rows, html = report(tmp_path, [first, second])
        assert [(row["recipe"][0], row["mean"], row["n"]) for row in rows] == [
            ("d", "20.0", "1"),
            ("e", "60.0", "1"),
        ]
        assert [label for label in lines_of(markdown)[1] if "gain" not in label] == labels
        assert all(label in html for label in labels)

    def test_the_number_of_processes_is_told_where_there_are_several(self):
        text = console_table([score(), score(processes=2)], width=200)
        assert re.findall(r"config [0-9a-f]{8}(.*)", text) == ["", " · 2 processes"]

    def test_seeds_share_a_row_and_recipes_do_not(self):
        rows = tuple(Row(m, "alexnet", "lightness", sha256(m), None, m) for m in ("random", "colorization"))
        assert collect_results(three_seeds()).rows == rows
        other = score(value=70.0, backbone_sha256="d" * 64)
        results = collect_results([*three_seeds(), other])
        assert len(results.rows) == 1 + 4
        assert [cell.mean for (row, _), cell in results.cells.items() if row.sha256 == "d" * 64] == [70.0]
        assert f"colorization {'d' * 8}" in [row.label for row in results.rows]

    def test_the_gain_is_over_random_weights_that_see_the_same_colours(self):
        seen = {"input_space": "rgb", "recipe": "d" * 64, "backbone_sha256": "d" * 64}
        rgb = [
            score("random", value=30.0, **seen),
            score("rotation", value=70.0, **(seen | {"recipe": "e" * 64})),
        ]
        results = collect_results([*three_seeds(), *rgb])
        gains = {
            row.label: results.gain(row, results.columns[0]) for row in results.rows if row.method != "random"
        }
        assert gains["rotation"] == pytest.approx(40.0)
        assert gains["colorization"] == pytest.approx(58.5 - statistics.mean(VALUES["random"]))
        assert {row.label for row in results.rows} == {
            "random lightness",
            "random rgb",
            "colorization",
            "rotation",
        }

    def test_the_gain_is_over_the_same_architecture_and_a_single_random_row(self):
        vgg = score(value=70.0, backbone="vgg16")
        results = collect_results([*three_seeds(), vgg])
        gains = {row.label + row.backbone: results.gain(row, results.columns[0]) for row in results.rows}
        assert gains["colorizationalexnet"] == pytest.approx(58.5 - statistics.mean(VALUES["random"]))
        assert gains["colorizationvgg16"] is None
        two = collect_results([*three_seeds(), score("random", value=1.0, backbone_sha256="e" * 64)])
        assert all(two.gain(row, two.columns[0]) is None for row in two.rows if row.method == "colorization")


class TestMissing:
    def test_without_a_random_row_no_gains(self, tmp_path):
        markdown, _, html = report(tmp_path, [score(value=20.0), score("supervised", value=30.0)])
        assert set(lines_of(markdown)[1]) == {"colorization", "supervised"}
        assert "gain over random" not in html

    def scores(self):
        return [score("random", setting="conv1", value=10.0), score(setting="conv2", value=20.0)]

    def test_shown_as_a_dash_never_dropped_or_zero(self, tmp_path):
        markdown, rows, html = report(tmp_path, self.scores())
        _, lines = lines_of(markdown)
        assert lines["random"] == ["10.0 (n=1; seed 0)", "—"]
        assert lines["colorization"] == ["—", "20.0 (n=1; seed 0)"]
        assert lines["colorization: gain over random"] == ["—", "—"]
        assert [row[1:] for row in Page(html).tables[0][2:4]] == [
            ["10.0 | n=1; seed 0", "—"],
            ["—", "20.0 | n=1; seed 0"],
        ]
        assert [(row["n"], row["mean"]) for row in rows].count(("0", "")) == 2
        for text in (markdown, html):
            assert "— means missing" in text
            absent = "VOC classification, VOC classification by SVM, VOC detection, VOC segmentation"
            assert f"Stages without any score: {absent}" in text

    def test_no_stage_is_missing_where_scores_are_chosen(self, tmp_path):
        append_scores(tmp_path / "results.jsonl", self.scores())
        paths = build_report([tmp_path], tmp_path / "report", {"method": "random"})
        assert "Stages without any score" not in paths.markdown.read_text()
        assert "Stages without any score" not in console_table(self.scores(), chosen=True)

    def test_sheets_of_photos_need_scores_of_colours(self, tmp_path):
        append_scores(tmp_path / "results.jsonl", self.scores())
        with refused("colorization", received="--photos 3"):
            build_report([tmp_path], tmp_path / "report", photos=3)
        assert not (tmp_path / "report").exists()

    def test_on_the_terminal(self):
        text = console_table(self.scores())
        assert re.search(r"random +10\.0 +—", text)
        assert re.search(r"colorization +— +20\.0", text)
        assert "— means missing" in text


def test_console_table_shows_means_seeds_gains_and_what_was_compared():
    scores = [*three_seeds(), *three_seeds(setting="conv4")[:-1]]
    text = console_table(scores, width=90)
    assert "[1] Linear probe on imagenette128" in text
    assert "protocol splitbrain2017 · train->val, split fingerprint bbbbbbbb" in text
    assert re.search(r"conv4 +conv5 *\n +top-1 +top-1", text)
    assert re.search(r"random +54\.2 ± 1\.3 +54\.2 ± 1\.3 *\n +alexnet, seeds 0,1,2 *\n", text)
    assert re.search(r"colorization +57\.8 ± 1\.1 \(n=2\) +58\.5 ± 1\.5 *\n", text)
    assert re.search(r"alexnet, seeds 0,1,2 +gain \+3\.6 +gain \+4\.3", text)
    assert max(map(len, text.splitlines())) <= 90


def test_console_table_of_many_methods_and_layers_is_as_wide_as_the_terminal():
    names = [f"method_with_a_name_{number}" for number in range(6)]
    settings = [f"conv{layer}" for layer in range(1, 14)]
    scores = [
        score(name, setting=setting, seed=seed, value=50.0 + seed, metric=metric)
        for name in names
        for setting in settings
        for metric in ("top1", "top5")
        for seed in range(2)
    ]
    text = console_table(scores)
    assert max(map(len, text.splitlines())) <= 100
    assert "top-5" not in text
    # Thirteen layers are three tables.
    for name in names:
        assert [len(row.split("±")) - 1 for row in re.findall(rf"{name} .*", text)] == [5, 5, 3]


def test_columns_are_in_the_order_of_the_papers():
    layers = [score(setting=f"conv{i}", metric=m) for m in ("top5", "top1") for i in (10, 2, 1)]
    voc = [
        score(stage="voc-classification", metric="mean_ap_voc07", setting=s) for s in ("all", "fc6-8", "fc8")
    ]
    columns = collect_results(voc + layers).columns
    expected = [(m, f"conv{i}") for m in ("top1", "top5") for i in (1, 2, 10)]
    expected += [("mean_ap_voc07", s) for s in ("fc8", "fc6-8", "all")]
    assert [(c.metric, c.setting) for c in columns] == expected


def test_detail_tables_hold_whole_metrics_of_at_most_ten_columns():
    metrics = ("top1", "top5", "top1_best")
    results = collect_results([score(setting=f"conv{i}", metric=m) for m in metrics for i in range(1, 6)])
    tables = results.detail_columns(results.benchmarks[0])
    assert [[c.metric for c in table] for table in tables] == [["top1"] * 5 + ["top5"] * 5, ["top1_best"] * 5]
    assert {c.metric for c in results.summary_columns()} == {"top1"}


HOSTILE = "<script>alert(1)</script> $x_1$ & | `co`"


@pytest.fixture(scope="module")
def hostile_report(tmp_path_factory):
    """The report of runs whose every name is hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    write_grid(folder / HOSTILE.replace("/", "") / "color_grids" / "iter_00000010.png", 64, 32)
    scores = [
        score(method, setting=f"conv{i}", value=10.0 * i, config={"note": HOSTILE}, data=HOSTILE)
        for method in ("random", HOSTILE)
        for i in (1, 2, 3)
    ]
    return report(folder, scores)


class TestPage:
    def test_stands_alone(self, hostile_report):
        _, _, html = hostile_report
        page = Page(html)
        loaded = [
            v for _, name, v in page.attributes if name in ("src", "href", "xlink:href", "srcset", "data")
        ]
        assert loaded
        assert all(value.startswith(("#", "data:image/png;base64,")) for value in loaded)
        assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
        assert "@import" not in html
        assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)]*)", html))

    def test_everything_from_outside_is_escaped(self, hostile_report):
        markdown, rows, html = hostile_report
        assert "<script" not in html
        assert "&lt;script&gt;alert(1)&lt;/script&gt; $x_1$ &amp; | `co`" in html
        assert "<script" not in markdown.split("Config ")[0]
        assert {row["method"] for row in rows} == {"random", HOSTILE}

    def test_is_accessible(self, hostile_report):
        _, _, html = hostile_report
        tags = Page(html).tags
        assert all(attributes.get("scope") for tag, attributes in tags if tag == "th")
        assert all(attributes.get("alt") for tag, attributes in tags if tag == "img")
        assert [a["lang"] for tag, a in tags if tag == "html"] == ["en"]
        regions = [a["aria-labelledby"] for _, a in tags if a.get("role") == "region"]
        ids = [a["id"] for tag, a in tags if "id" in a and tag in ("caption", "h2")]
        assert len(ids) == len(set(ids))
        assert set(regions) <= set(ids)
        assert "conv1 10.0, conv2 20.0, conv3 30.0" in html

    def test_the_layer_plot_has_a_line_a_method(self, hostile_report):
        _, _, html = hostile_report
        svg = html[html.index("<svg") : html.index("</svg>")]
        for text in ("conv1", "conv2", "conv3", "random", "top-1 accuracy (%)", "$x_1$"):
            assert text in svg
        assert "metadata" not in svg

    def test_provenance(self, hostile_report):
        markdown, _, html = hostile_report
        table = Page(html).tables[-1]
        assert table[0][:4] == ["benchmark", "method", "pretraining seed", "seed"]
        assert len(table) == 1 + 2
        assert table[1][5:7] == ["3", "12"]
        for text in (markdown, html):
            assert "versions V1: git" in text
            assert "torch 2.15.0" in text
        assert json.dumps({"note": HOSTILE}, indent=1).splitlines()[1] in markdown


def write_grid(path, width, height):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((height, width, 3), dtype=np.uint8)).save(path)


class TestColorGrids:
    def test_the_latest_of_each_run_scaled_down_if_wide(self, tmp_path):
        write_grid(tmp_path / "a" / "color_grids" / "iter_9.png", 64, 32)
        write_grid(tmp_path / "a" / "color_grids" / "iter_10.png", 3200, 32)
        write_grid(tmp_path / "b" / "color_grid_5.png", 64, 32)
        write_grid(tmp_path / "b" / "other.png", 64, 32)
        grids = color_grids(tmp_path)
        assert [grid.title for grid in grids] == ["a, iteration 10", "b, iteration 5"]
        sizes = []
        for grid in grids:
            data = grid.content.removeprefix("data:image/png;base64,")
            with Image.open(io.BytesIO(base64.b64decode(data))) as image:
                sizes.append(image.size)
        assert sizes == [(1600, 16), (64, 32)]

    @pytest.mark.parametrize("kind", [None, "EPS", "GIF"])
    def test_what_is_not_a_png_is_left_out_with_a_warning(self, kind, tmp_path):
        (tmp_path / "color_grids").mkdir()
        path = tmp_path / "color_grids" / "iter_1.png"
        path.write_bytes(b"not a picture")
        if kind is not None:
            Image.new("RGB", (8, 8)).save(path, kind)
        with pytest.warns(UserWarning, match=r"iter_1\.png: colour grid left out"):
            assert color_grids(tmp_path) == []


class TestSelection:
    def test_a_report_of_one_data_set_has_no_other(self, tmp_path):
        append_scores(tmp_path / "results.jsonl", three_seeds() + three_seeds(data="toyworld"))
        paths = build_report([tmp_path], tmp_path / "report", {"data": "toyworld", "seed": "1"})
        rows = list(csv.DictReader(io.StringIO(paths.csv.read_text())))
        assert [(row["method"], row["data"], row["mean"], row["seeds"]) for row in rows] == [
            ("random", "toyworld", "54.0", "1"),
            ("colorization", "toyworld", "58.5", "1"),
        ]

    def test_the_command_takes_the_options_and_fields(self, tmp_path, capsys):
        append_scores(tmp_path / "results.jsonl", three_seeds() + three_seeds(data="toyworld"))
        words = ["--work-dir", str(tmp_path), "--data", "toyworld", "--seed", "1", "method=random"]
        assert main(["report", *words]) == 0
        printed = capsys.readouterr().out
        assert "54.0" in printed
        assert "imagenette128" not in printed
        assert "colorization" not in printed

    @pytest.mark.parametrize(
        ("words", "named"),
        [
            (["colour=red"], ["colour", "method, backbone"]),
            (["--data", "places"], ["data", "places", "imagenette128"]),
            (["method"], ["method", "field=value"]),
        ],
    )
    def test_what_selects_nothing_is_refused(self, tmp_path, capsys, words, named):
        append_scores(tmp_path / "results.jsonl", three_seeds())
        assert main(["report", "--work-dir", str(tmp_path), *words]) == 2
        error = capsys.readouterr().err
        assert all(name in error for name in named), error
        assert not (tmp_path / "report").exists()


class TestErrors:
    def test_no_scores_says_where_it_looked_and_how_to_make_some(self, tmp_path):
        with refused(tmp_path, allowed="linear-probe"):
            build_report([tmp_path], tmp_path / "report")
        assert not (tmp_path / "report").exists()

    def test_a_folder_that_cannot_be_written(self, tmp_path):
        append_scores(tmp_path / "results.jsonl", [score()])
        (tmp_path / "report").write_text("a file")
        with refused(tmp_path / "report" / "report.md"):
            build_report([tmp_path], tmp_path / "report")


def test_a_name_may_end_in_any_sign_for_a_number():
    assert sorted(["m10", "m2²", "m2"], key=natural_key) == ["m2", "m2²", "m10"]
