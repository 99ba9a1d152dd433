"""Rows of what is used in several ways, and intervals over test images in all tables."""

import re
from dataclasses import replace

import numpy as np
import pytest
from scored import report, score

from transfer.protocols.table import load_stage_config
from transfer.report.differences import drawn_cells, intervals
from transfer.report.papers import paper_tables
from transfer.report.tables import collect_results
from transfer.report.views import console_table
from transfer.scores.outcomes import Mean, save_outcomes

PHOTOS = 400


def colors(method, *words, run="a", values=None, **changes):
    config = load_stage_config("colorization", overrides=words).config()
    value = 20.0 if values is None else float(values.mean())
    fields = {"metric": "psnr", "unit": "dB", "stage": "colorization", "setting": "photos", "run": run}
    return score(method, value=value, config=config, **(fields | changes))


def keep(work, run, values):
    save_outcomes(work / "runs" / run / "outcomes.npz", {("photos", "psnr"): Mean(values)})


@pytest.fixture
def measured(tmp_path):
    """One colorizer in two ways, and gray, on the same photos, with outcomes; the scores and their folder."""
    scores = []
    for run, method, words, mean in (
        ("cold", "colorization", ["temperature=0.1"], 20.0),
        ("usual", "colorization", [], 22.0),
        ("gray", "gray", [], 24.0),
    ):
        values = np.random.default_rng(len(run)).normal(mean, 3.0, PHOTOS)
        keep(tmp_path / "run", run, values)
        scores.append(colors(method, *words, run=run, values=values))
    return scores, tmp_path


def test_what_is_decoded_otherwise_is_another_row_of_the_same_column(measured):
    results = collect_results(measured[0])
    assert len(results.columns) == 1
    assert {(row.method, row.label, row.settings) for row in results.rows} == {
        ("colorization", "colorization", ()),
        ("colorization", "colorization temperature=0.1", ("temperature=0.1",)),
        ("gray", "gray", ()),
    }


def test_other_settings_are_other_columns():
    results = collect_results([colors("gray"), colors("gray", "fit=square", "size=32")])
    assert (len(results.rows), len(results.columns)) == (1, 2)


def test_an_interval_holds_the_mean_and_is_as_wide_as_that_of_the_mean_of_so_many_photos(measured):
    scores, folder = measured
    results = collect_results(scores)
    found = intervals(drawn_cells(results, [folder]))
    assert found.keys() == results.cells.keys()
    for key, (low, high) in found.items():
        assert low < results.cells[key].mean < high
        # 3 dB between photos, two standard errors to both sides.
        assert high - low == pytest.approx(2 * 1.96 * 3 / np.sqrt(PHOTOS), rel=0.2)


def test_all_tables_have_them(measured):
    scores, folder = measured
    markdown, rows, html = report(folder, scores)
    number = re.compile(r"2[12]\.\d\d \(n=1; seed 0; 95 % 2[12]\.\d\d to 2[23]\.\d\d\)")
    assert number.search(markdown)
    assert re.search(r"95 % 2[12]\.\d\d to 2[23]\.\d\d", html.replace("\xa0", " "))
    table = console_table(scores, work_dirs=[folder])
    for text in (markdown, html, " ".join(table.split())):
        assert "they cover the choice of test images" in text
    for row in rows:
        assert float(row["low"]) < float(row["mean"]) < float(row["high"])
    assert {row["settings"] for row in rows} == {"", "temperature=0.1"}
    assert re.search(r" 2[12]\.\d\d to 2[23]\.\d\d", table)
    # There is no random row that colours could gain over.
    assert "colorization: gain" not in markdown


def test_tables_in_the_terminal_have_as_many_columns_as_fit(measured):
    scores, folder = measured
    others = ("auc", "auc_rebalanced", "top1_efficientnet_lite0", "top1_classifier")
    scores += [replace(each, metric=metric, unit="percent", run=None) for each in scores for metric in others]
    scores = [replace(each, method=f"{each.method} of a long name that is folded") for each in scores]
    for width in (60, 100, 200):
        lines = console_table(scores, width, [folder]).splitlines()
        assert max(map(len, lines)) <= width
        table = " ".join(lines)
        for heading in ("AuC", "PSNR", "EfficientNet-Lite0", "classifier"):
            assert heading in table


def test_without_outcomes_there_are_none(tmp_path):
    markdown, rows, _ = report(tmp_path, [colors("gray", run=None)])
    assert "95 %" not in markdown
    assert (rows[0]["low"], rows[0]["high"]) == ("", "")


@pytest.mark.parametrize(
    ("data", "row", "heading", "number"),
    [
        ("cifar-10-batches-py", "Annealed mean T=0.89", "VGG accuracy", "65"),
        ("celeba", "Class + rebalance", "AuC", "92.3"),
        ("fruits", "L2", "VGG accuracy", "31.7"),
    ],
)
def test_numbers_of_the_student_studies_stand_beside_measured_ones(data, row, heading, number):
    (table,) = paper_tables(collect_results([colors("gray", data=data)]))
    published = {line.method: dict(zip(table.headings, line.cells, strict=True)) for line in table.published}
    assert published[row][heading] == number
    assert published[row]["PSNR (dB)"] == "—"
    (measured,) = (dict(zip(table.headings, line.cells, strict=True)) for line in table.measured)
    assert (measured["PSNR (dB)"], measured["VGG accuracy"]) == ("20.00", "—")
