import csv
import re
from dataclasses import replace

import numpy as np
import pytest
from scored import Page, report, score, three_seeds

from transfer.protocols.table import load_stage_config
from transfer.report.differences import difference_tables, drawn_cells, pairs
from transfer.report.papers import latex_tables, paper_tables
from transfer.report.tables import collect_results
from transfer.scores.outcomes import Accuracy, save_outcomes

LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5")


def config(protocol, *words):
    return load_stage_config("linear-probe", overrides=words, protocol=protocol).config()


def imagenet(
    method="colorization", values=(13.0, 25.0, 31.0, 33.0, 32.0), words=(), label="splitbrain2017", **changes
):
    return [
        score(
            method, value=value, setting=layer, data="imagenet", protocol=label,
            config=config("splitbrain2017", *words), **changes,
        )
        for layer, value in zip(LAYERS, values, strict=True)
    ]  # fmt: skip


def lines(table, part):
    return {line.method: line.cells for line in getattr(table, part)}


class TestFigure7:
    def test_published_and_measured_stand_under_the_same_headings(self):
        (table,) = paper_tables(collect_results(imagenet()))
        assert table.headings == LAYERS
        published = lines(table, "published")
        assert published["Colorization (Zhang 2016) CORRECTED"] == ("13.1", "24.8", "31.0", "32.6", "31.8")
        assert published["Gaussian (random)"] == ("11.6", "17.1", "16.9", "16.3", "14.1")
        assert lines(table, "measured") == {
            "colorization (alexnet), splitbrain2017, imagenet [1]": ("13.0", "25.0", "31.0", "33.0", "32.0")
        }
        assert table.notes[0] == "[1] splitbrain2017 on imagenet, train->val: follows the protocol."

    def test_a_number_nobody_read_in_its_source_has_a_mark_and_the_mark_a_note(self):
        (table,) = paper_tables(collect_results(imagenet()))
        marked = [cell for line in table.published for cell in line.cells if cell[-1] in "§?"]
        assert marked
        assert table.notes[-1].startswith("§: ")

    def test_a_shortened_run_says_so(self):
        scores = imagenet(words=["scale=0.1", "optimizer.lr=0.1"], label="splitbrain2017 x0.1 changed")
        (table,) = paper_tables(collect_results(scores))
        assert table.notes[0] == (
            "[1] splitbrain2017 x0.1 changed on imagenet, train->val: scale 0.1 instead of 1.0; optimizer.lr 0.1"
            " instead of 0.01."
        )

    def test_two_protocols_have_two_lines(self):
        shortened = imagenet(
            words=["scale=0.1"], label="splitbrain2017 x0.1", values=(1.0, 2.0, 3.0, 4.0, 5.0)
        )
        (table,) = paper_tables(collect_results(imagenet() + shortened))
        assert [(line.method, line.cells[0]) for line in table.measured] == [
            ("colorization (alexnet), splitbrain2017, imagenet [1]", "13.0"),
            ("colorization (alexnet), splitbrain2017 x0.1, imagenet [2]", "1.0"),
        ]

    def test_the_best_epoch_counts_where_the_protocol_says_so(self):
        probe = {
            "config": config("deepcluster2018"),
            "protocol": "deepcluster2018",
            "data": "imagenet",
        }
        scores = [score(value=30.0, **probe), score(value=31.0, metric="top1_best", **probe)]
        (table,) = paper_tables(collect_results(scores))
        assert table.measured[0].cells[-1] == "31.0"

    def test_other_data_have_a_table_of_their_own_without_published_numbers(self):
        first, second = paper_tables(collect_results(imagenet() + three_seeds()))
        assert "on imagenet, top-1" in first.title
        assert "on imagenette128, top-1" in second.title
        assert second.published == ()
        assert second.notes[-1] == "There are no published numbers for data named imagenette128."
        assert (
            lines(second, "measured")["random (alexnet), splitbrain2017, imagenette128 [2]"][-1]
            == "54.2 ± 1.3"
        )

    @pytest.mark.parametrize("name", ["ILSVRC2012", "ImageNet"])
    def test_imagenet_has_several_names(self, name):
        (table,) = paper_tables(collect_results([score(data=name)]))
        assert table.published


def test_table_2_has_all_pascal_columns_and_other_tests_in_their_own():
    voc = {"data": "VOC", "split": "trainval->test"}
    fcn = voc | {"stage": "voc-segmentation", "metric": "mean_iou", "setting": "all"}
    fast = voc | {"stage": "voc-detection", "metric": "mean_ap_voc07", "setting": "all"}
    scores = [
        score(stage="voc-classification", metric="mean_ap_sklearn", setting=s, value=v, **voc)
        for s, v in (("fc8", 50.0), ("all", 66.0))
    ]
    scores += [
        score(stage="voc-classification", metric="mean_ap_voc07", setting="all", value=99.0, **voc),
        score(
            value=47.0,
            config={"protocol": "fastrcnn_krahenbuhl2016"},
            protocol="fastrcnn_krahenbuhl2016",
            **fast,
        ),
        score(value=45.0, config={"protocol": "fasterrcnn"}, protocol="fasterrcnn", **fast),
        score(value=35.0, config={"protocol": "fcn32s_zhang2016"}, protocol="fcn32s_zhang2016", **fcn),
        score(value=49.0, config={"protocol": "voc12_modern"}, protocol="voc12_modern", **fcn),
    ]
    (table,) = paper_tables(collect_results(scores))
    assert table.headings[3:] == (
        "detection all",
        "segmentation all",
        "other detection",
        "other segmentation",
    )
    filled = {line.method.split(", ")[1]: [c for c in line.cells if c != "—"] for line in table.measured}
    places = {
        line.method.split(", ")[1]: line.cells.index(c[0])
        for line, c in zip(table.measured, filled.values(), strict=True)
    }
    assert filled == {
        "splitbrain2017": ["50.0", "66.0"], "fastrcnn_krahenbuhl2016": ["47.0"], "fasterrcnn": ["45.0"],
        "fcn32s_zhang2016": ["35.0"], "voc12_modern": ["49.0"],
    }  # fmt: skip
    assert places == {
        "splitbrain2017": 0, "fastrcnn_krahenbuhl2016": 3, "fcn32s_zhang2016": 4, "fasterrcnn": 5, "voc12_modern": 6,
    }  # fmt: skip
    published = lines(table, "published")["ImageNet-labels (supervised)"]
    assert published == ("76.8", "78.9", "79.9", "56.8", "48.0", "—", "—")


def test_table_6_has_segmentation_of_gray_photos_alone():
    voc = {"data": "VOC", "stage": "voc-segmentation", "metric": "mean_iou", "setting": "all"}
    scores = [
        score(name, value=value, config={"protocol": protocol}, protocol=protocol, **voc)
        for name, value, protocol in (
            ("colorization", 41.0, "larsson2016_gray"),
            ("supervised", 55.0, "larsson2016_gray"),
            ("supervised", 57.0, "larsson2016_color"),
        )
    ]
    (table,) = paper_tables(collect_results(scores))
    assert "table 6 of Larsson" in table.title
    assert lines(table, "measured") == {
        "colorization (alexnet), larsson2016_gray, VOC [2]": ("41.0", "—", "—"),
        "supervised (alexnet), larsson2016_gray, VOC [2]": ("55.0", "—", "—"),
        "supervised (alexnet), larsson2016_color, VOC [1]": ("—", "57.0", "—"),
    }
    published = lines(table, "published")
    assert published["Colorizer (Larsson 2016)"] == ("50.2", "—", "—")
    assert published["Classifier (ImageNet labels)"] == ("64.0", "—", "48.0?")
    other = score(value=49.0, config={"protocol": "voc12_modern"}, protocol="voc12_modern", **voc)
    second, third = paper_tables(collect_results([*scores, other]))
    assert [line.cells[-1] for line in second.measured] == ["49.0"]
    assert third.measured == table.measured


def test_latex_is_a_table_that_no_sign_breaks():
    scores = [score(method=r"50%_a&b{c}$x\y^~#<é>", value=1.0), *three_seeds()]
    text = latex_tables(paper_tables(collect_results(scores)))
    assert (
        r"50\%\_a\&b\{c\}\$x\textbackslash{}y\textasciicircum{}\textasciitilde{}\#\textless{}é\textgreater{}"
        in text
    )
    assert text.count(r"\begin{tabular}{lrrrrr}") == text.count(r"\end{tabular}") == 1
    rows = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {line.replace(r"\&", "").count("&") for line in rows} == {5}


def keep_outcomes(work, method, seed, share, images=500):
    correct = np.random.default_rng(7).random(images) < share
    folder = work / "runs" / f"linear-probe-{method}-seed{seed}"
    save_outcomes(folder / "outcomes.npz", {("conv5", "top1"): Accuracy(correct)})
    return correct.mean()


@pytest.fixture
def compared(tmp_path):
    """Scores of two methods and three seeds with outcomes on 500 images, of which one method is ahead by ten points."""
    scores = []
    for method, share in (("random", 0.5), ("colorization", 0.6)):
        for seed in range(3):
            scores.append(score(method, seed=seed, value=100 * share))
            keep_outcomes(tmp_path / "work", method, seed, share)
    return collect_results(scores), tmp_path / "work"


class TestDifferences:
    def test_they_are_between_all_pairs_with_an_interval_over_images(self, compared):
        results, work = compared
        (pair,) = pairs(results, drawn_cells(results, [work]))
        assert (pair.first.label, pair.second.label) == ("colorization", "random")
        assert pair.difference.value == pytest.approx(10, abs=2.5)
        assert 0 < pair.difference.low < pair.difference.value < pair.difference.high
        assert re.fullmatch(r"\+\d+\.\d \[\+\d+\.\d, \+\d+\.\d\] \*", pair.text())

    def test_runs_of_a_method_are_averaged(self, compared):
        results, work = compared
        means = {}
        for method, shares in (("random", (0.3, 0.5, 0.4)), ("colorization", (0.9, 0.6, 0.6))):
            found = [keep_outcomes(work, method, seed, share) for seed, share in enumerate(shares)]
            means[method] = np.mean(found)
        (pair,) = pairs(results, drawn_cells(results, [work]))
        expected = 100 * (means["colorization"] - means["random"])
        assert pair.difference.value == pytest.approx(expected)
        assert pair.difference.low < expected < pair.difference.high

    @pytest.mark.parametrize("seeds", [(0, 1, 2), (1,)])
    def test_runs_on_other_images_are_not_compared(self, compared, seeds):
        results, work = compared
        for seed in seeds:
            keep_outcomes(work, "random", seed, 0.5, images=400)
        assert pairs(results, drawn_cells(results, [work])) == []

    def test_a_table_has_a_line_a_pair_and_a_column_a_setting(self, compared):
        results, work = compared
        (pair,) = pairs(results, drawn_cells(results, [work]))
        other = replace(pair, column=replace(pair.column, setting="conv4"))
        best = replace(pair, column=replace(pair.column, metric="top1_best"))
        swapped = replace(pair, first=pair.second, second=pair.first)
        first, second = difference_tables([pair, other, swapped, best])
        assert first.headings == ("methods", "conv5 top-1", "conv4 top-1")
        assert first.lines == (
            ("colorization - random (alexnet)", pair.text(), pair.text()),
            ("random - colorization (alexnet)", pair.text(), "—"),
        )
        assert second.headings == ("methods", "conv5 top-1, best epoch")
        assert len(second.lines) == 1

    def test_architectures_are_kept_apart(self, compared):
        results, work = compared
        (pair,) = pairs(results, drawn_cells(results, [work]))
        first, second = (replace(row, backbone="vgg16") for row in (pair.first, pair.second))
        mixed = [pair, replace(pair, first=first), replace(pair, first=first, second=second)]
        (table,) = difference_tables(mixed)
        assert [line[0] for line in table.lines] == [
            "colorization - random (alexnet)",
            "colorization (vgg16) - random (alexnet)",
            "colorization - random (vgg16)",
        ]

    def test_a_method_without_outcomes_has_none(self, compared):
        results, work = compared
        for path in work.rglob("*random*/outcomes.npz"):
            path.unlink()
        assert pairs(results, drawn_cells(results, [work])) == []

    def test_a_damaged_file_is_left_out_with_a_warning(self, compared):
        results, work = compared
        next(work.rglob("*random-seed1/outcomes.npz")).write_bytes(b"junk")
        with pytest.warns(UserWarning, match=r"conv5 top1 .*random-seed1/outcomes\.npz"):
            (pair,) = pairs(results, drawn_cells(results, [work]))
        assert pair.difference.value == pytest.approx(10, abs=2.5)


def test_the_report_has_them_in_every_form(tmp_path):
    outcomes = {(layer, "top1"): Accuracy(np.arange(100) % 2 == 0) for layer in LAYERS}
    for method in ("random", "colorization"):
        save_outcomes(tmp_path / "run" / "runs" / f"linear-probe-{method}-seed0" / "outcomes.npz", outcomes)
    markdown, _, html = report(tmp_path, imagenet() + imagenet("random"))
    page = Page(html)
    for text in (
        "figure 7 of Zhang et al. 2016",
        "Colorization (Zhang 2016) CORRECTED",
        "colorization - random (alexnet)",
    ):
        assert text in markdown
        assert text in html
    cells = [cell for table in page.tables for row in table for cell in row]
    assert {"Colorization (Zhang 2016) CORRECTED", "colorization - random (alexnet)"} <= set(cells)
    # The lines of the figure stand in the plot too.
    assert "published: Colorization (Zhang 2016) CORRECTED" in html[html.index("<svg") : html.index("</svg>")]
    with (tmp_path / "report" / "papers.csv").open() as file:
        rows = {(row["origin"], row["method"], row["column"]): row for row in csv.DictReader(file)}
    assert rows["published", "Gaussian (random)", "conv2"]["value"] == "17.1"
    assert rows["published", "RotNet", "conv2"]["mark"] == "?"
    assert {row["unit"] for row in rows.values()} == {"percent"}
    assert rows["measured", "random (alexnet), splitbrain2017, imagenet [1]", "conv5"]["value"] == "32.0"
    with (tmp_path / "report" / "differences.csv").open() as file:
        differences = list(csv.DictReader(file))
    assert {row["setting"] for row in differences} == set(LAYERS)
    assert {(row["first"], row["second"], row["metric"]) for row in differences} == {
        ("colorization", "random", "top1")
    }
    assert all(float(row["difference"]) == 0 for row in differences)
    latex = (tmp_path / "report" / "report.tex").read_text()
    assert "Colorization (Zhang 2016) CORRECTED & 13.1 & 24.8" in latex


def test_colours_stand_beside_table_1(tmp_path):
    scores = [
        score(
            "gray",
            metric=metric,
            value=value,
            unit=unit,
            stage="colorization",
            setting="photos",
            backbone="none",
        )
        for metric, value, unit in (
            ("auc", 88.0, "percent"),
            ("top1_efficientnet_lite0", 50.0, "percent"),
            ("psnr", 23.5, "dB"),
        )
    ]
    (table,) = paper_tables(collect_results(scores))
    at = {heading: number for number, heading in enumerate(table.headings)}
    published = {line.method: line.cells for line in table.published}
    assert [published["Zhang full"][at[name]] for name in ("AuC", "AuC rebalanced", "VGG-16 top-1")] == [
        *("89.5", "67.3", "56.0")
    ]
    assert published["Zhang full"][at["EfficientNet-Lite0 top-1"]] == "—"
    (line,) = table.measured
    assert [line.cells[at[name]] for name in ("AuC", "VGG-16 top-1", "EfficientNet-Lite0 top-1")] == [
        *("88.0", "—", "50.0")
    ]
    assert table.units[at["PSNR (dB)"]] == "dB"


def test_what_people_judged_of_the_same_photos_stands_in_table_1():
    usual = {"data": "imagenette128", "backbone": "none"}
    (table,) = paper_tables(
        collect_results(
            [
                score("full", metric="auc", value=90.0, stage="colorization", setting="photos", **usual),
                score(
                    "full",
                    metric="fooling_rate",
                    value=31.9,
                    stage="perceptual-study",
                    setting="all",
                    **usual,
                ),
            ]
        )
    )
    at = table.headings.index("labeled real")
    assert {line.method: line.cells[at] for line in table.published}["Zhang full"] == "32.3"
    assert [line.cells[at] for line in table.measured if line.cells[at] != "—"] == ["31.9"]
    assert table.units[at] == "percent"
    assert sum("others than those whose answers are published" in note for note in table.notes) == 1


@pytest.mark.parametrize("data", ["cifar-10-batches-py", "imagenette128"])
def test_each_classifier_that_was_given_has_a_column_of_its_own(data):
    """In a study of CIFAR-10 it is what the study measures."""
    usual = {"stage": "colorization", "data": data, "backbone": "none"}
    judges = {"cifar10_judge colornet 01234567": "top1_own_classifier", "vgg16 89abcdef": "top1_classifier"}
    scores = [
        score(method, metric=metric, value=value, setting=setting, **usual)
        for method, value in (("gray", 22.0), ("truth", 80.0))
        for setting, metric in (("photos", "auc"), *judges.items())
    ]
    (table,) = paper_tables(
        collect_results([*scores, score("gray", **usual | {"data": "other"}, metric="auc", setting="photos")])
    )[:1]
    at = {heading: number for number, heading in enumerate(table.headings)}
    cells = {line.method.partition(" ")[0]: line.cells for line in table.measured}
    for setting in judges:
        assert [cells[row][at[f"{setting} top-1"]] for row in ("gray", "truth")] == ["22.0", "80.0"]
        assert {line.cells[at[f"{setting} top-1"]] for line in table.published} == {"—"}


def test_colours_stand_beside_tables_1_to_5_of_larsson_and_never_in_their_alpha_beta():
    numbers = (("rmse_alphabeta", 0.36, "alpha-beta"), ("psnr", 23.5, "dB"), ("auc", 88.0, "percent"))
    usual = {"stage": "colorization", "setting": "photos"}
    rows = (
        ("gray", {}),
        ("hypercolumn", {"decode_at": "photo"}),
        ("hypercolumn", {"decode_at": "photo", "true_histogram": "energy"}),
    )
    scores = [
        score(method, metric=metric, value=value, unit=unit, config=config, **usual)
        for method, config in rows
        for metric, value, unit in numbers
    ]
    _, table = paper_tables(collect_results(scores))
    assert "tables 1, 2 and 5 of Larsson" in table.title
    theirs, psnr, of_sun6, ours = table.headings[:4]
    at = {heading: number for number, heading in enumerate(table.headings)}
    published = {line.method: line.cells for line in table.published}
    assert [published["Lab, L2"][at[name]] for name in (theirs, psnr, of_sun6, ours)] == [
        *("0.318", "24.25", "—", "—")
    ]
    assert published["Hue/chroma, K=32 + chromatic fading"][at[theirs]] == "0.299"
    assert published["conv5_1..fc7"][at[psnr]] == "24.38"
    assert published["Random init"][at[theirs]] == "0.311"
    assert published["Larsson 2016 (E)"][at[of_sun6]] == "0.165"
    assert len(table.measured) == 3
    for line in table.measured:
        assert [line.cells[at[name]] for name in (theirs, psnr, of_sun6, ours)] == [
            *("—", "23.50", "—", "0.360")
        ]
    assert any("hypercolumn decode_at=photo true_histogram=energy" in line.method for line in table.measured)
    assert any("Rows with true_histogram know" in note for note in table.notes)
    assert any("(E) know" in note for note in table.notes)
    _, table = paper_tables(collect_results(scores[:6]))
    assert not any("true_histogram" in note for note in table.notes)
