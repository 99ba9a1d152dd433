"""Scores in other units than percent, and errors, of which less is better: in every form of a report."""

import csv
import re

import numpy as np
import pytest
from scored import Page, report, score

from transfer.protocols.settings import StageSettings
from transfer.protocols.table import PROTOCOLS
from transfer.report.papers import _PASCAL, _PROBE, LAYERS, _probe_metric
from transfer.report.tables import collect_results, headline_metrics
from transfer.report.views import console_table
from transfer.scores.outcomes import Mean, save_outcomes
from transfer.scores.published import TASKS_BY_LAYER, published_table
from transfer.stage import CIE, DECIBEL, SHARE, STAGES, Metric, Stage

COLOURS = Stage(
    "colours", "Colours", "transfer.stages.colours:colours", StageSettings,
    (
        Metric("psnr", "PSNR", DECIBEL, headline=True, compared=True),
        Metric("rmse", "RMSE", CIE, higher_is_better=False, headline=True, compared=True, note="RMSE is of ab."),
        Metric("ssim", "SSIM", SHARE, compared=True),
    ),
    layers="argument",
    by_layer="Colours by layer",
)  # fmt: skip
VALUES = {
    "psnr": {"random": (18.0, 18.5), "colorization": (22.25, 23.0)},
    "rmse": {"random": (15.0, 16.0), "colorization": (11.5, 11.0)},
    "ssim": {"random": (0.8, 0.81), "colorization": (0.912, 0.9)},
}


@pytest.fixture(autouse=True)
def stages(monkeypatch):
    """The table with one more stage."""
    monkeypatch.setitem(STAGES, "colours", COLOURS)


def colour_scores(layers=("conv1", "conv2")):
    return [
        score(
            method, seed, value, stage="colours", metric=metric, unit=COLOURS.metric(metric).unit.name,
            setting=layer, run=f"colours-{method}-seed{seed}",
        )
        for metric, by_method in VALUES.items()
        for method, values in by_method.items()
        for seed, value in enumerate(values)
        for layer in layers
    ]  # fmt: skip


@pytest.fixture
def made(tmp_path):
    """A report of percentages beside the other units, with outcomes of 300 images."""
    for method in ("random", "colorization"):
        for seed in range(2):
            rng = np.random.default_rng(seed)
            kept = {
                (layer, metric): Mean(values[method][seed] + rng.normal(0, 0.01 * values[method][seed], 300))
                for metric, values in VALUES.items()
                for layer in ("conv1", "conv2")
            }
            save_outcomes(tmp_path / "run" / "runs" / f"colours-{method}-seed{seed}" / "outcomes.npz", kept)
    percent = [score(method, value=value) for method, value in (("random", 50.0), ("colorization", 60.0))]
    return report(tmp_path, percent + colour_scores()), tmp_path / "report"


def test_headings_name_the_unit_and_mark_errors(made):
    (markdown, rows, html), _ = made
    heading = markdown.split("\n\n")[1].splitlines()[0]
    for name in ("conv5 top-1 [1]", "conv1 PSNR (dB) [2]", "conv1 RMSE (CIE units) ↓ [2]"):
        assert f" {name} " in heading
    assert "SSIM (share)" in markdown
    assert "SSIM (share)" in html
    assert {(row["metric"], row["unit"]) for row in rows} == {
        *(("top1", "percent"), ("psnr", "dB"), ("rmse", "CIE"), ("ssim", "share"))
    }
    for text in (markdown, html):
        assert (
            "Numbers are percentages, or dB, CIE units or shares where the heading says so: mean over" in text
        )
        assert "↓ marks errors: lower is better" in text
        assert "RMSE is of ab." in text
        assert "in points, dB, CIE units or shares; —" in text
    assert "Main metric of each benchmark, in percent unless the heading names a unit" in html
    assert "gain over random | points, dB or CIE units" in Page(html).tables[0][4][0]


def test_numbers_have_the_decimals_of_their_unit(made):
    (_, _, html), _ = made
    cells = {cell.split(" | ")[0] for table in Page(html).tables for row in table for cell in row}
    assert {"60.0", "22.62 ± 0.53", "11.25 ± 0.35", "0.906 ± 0.008"} <= cells
    assert {"+10.0", "+4.38", "-4.25", "+0.101"} <= cells


def test_a_smaller_error_is_coloured_as_better(made, tmp_path):
    (_, _, html), _ = made
    by_text = {text: colour for colour, text in re.findall(r'<td class="(up|down)">([-+][\d.]+)</td>', html)}
    assert {by_text[text] for text in ("+10.0", "+4.38", "-4.25", "+0.101")} == {"up"}
    swapped = [
        score(method, value=value, stage="colours", metric="rmse", unit="CIE")
        for method, value in (("random", 11.0), ("colorization", 12.5))
    ]
    _, _, html = report(tmp_path / "worse", swapped)
    assert '<td class="down">+1.50</td>' in html


def test_plots_have_the_unit_on_their_axis(made):
    (_, _, html), _ = made
    assert '<h2 id="layers">Colours by layer</h2>' in html
    svg = html[html.index("<svg") : html.index("</svg>")]
    assert "PSNR (dB)" in svg
    assert "%" not in re.sub(r'style="[^"]*"', "", svg)
    assert "published" not in svg
    assert 'aria-label="Colours PSNR (dB) by layer. random: conv1 18.25, conv2 18.25; ' in html


def test_differences_are_in_the_unit(made):
    (markdown, _, html), folder = made
    with (folder / "differences.csv").open() as file:
        rows = {(row["metric"], row["setting"]): row for row in csv.DictReader(file)}
    assert {(metric, row["unit"]) for (metric, _), row in rows.items()} == {
        *(("psnr", "dB"), ("rmse", "CIE"), ("ssim", "share"))
    }
    for metric, expected in (("psnr", 4.375), ("rmse", -4.25), ("ssim", 0.101)):
        row = rows[metric, "conv1"]
        assert float(row["difference"]) == pytest.approx(expected, rel=0.05)
        assert float(row["low"]) < float(row["difference"]) < float(row["high"])
    for text in (markdown, html):
        assert "First method minus second, in dB, CIE units or shares: the mean" in text
        assert "conv1 RMSE (CIE units) ↓" in text
        assert re.search(r"\+4\.\d\d \[\+4\.\d\d, \+4\.\d\d\]", text)
        assert re.search(r"\+0\.\d\d\d \[\+0\.\d\d\d, \+0\.\d\d\d\]", text)


def test_on_the_terminal():
    text = console_table(colour_scores())
    assert re.search(r"PSNR \(dB\) +PSNR \(dB\) +RMSE \(CIE units\) ↓ +RMSE \(CIE units\) ↓", text)
    assert re.search(r"colorization +22\.62 ± 0\.53", text)
    assert re.search(r"gain \+4\.38 .*gain -4\.25", text)
    assert "SSIM" not in text
    assert "Numbers are dB, CIE units or shares, as the heading says: mean" in text


def test_every_declared_stage_without_scores_is_named(tmp_path):
    markdown, _, html = report(tmp_path, [score()])
    absent = ", ".join(stage.title for name, stage in STAGES.items() if name != "linear-probe")
    assert "VOC segmentation" in absent
    assert absent.endswith(", Colours")
    for text in (markdown, html):
        assert f"Stages without any score: {absent}." in text


def test_a_page_of_percentages_alone_says_nothing_of_units(tmp_path):
    markdown, _, html = report(tmp_path, [score("random"), score()])
    for text in (markdown, html):
        assert "Numbers are percentages: mean over n runs" in text
        assert "in points; —" in text
        assert "↓" not in text
    assert "Main metric of each benchmark, in percent<" in html


class TestPapers:
    """What the papers' tables name literally is declared."""

    def test_columns_are_of_declared_stages_metrics_and_settings(self):
        for column in _PASCAL:
            stage = STAGES[column.stage]
            assert stage.metric(column.metric({})).unit.name == "percent"
            assert column.setting in (*stage.columns, "all")
        assert STAGES[_PROBE].metric(_probe_metric({})).title == "top-1"
        assert STAGES[_PROBE].by_layer

    def test_published_numbers_by_layer_are_of_declared_stages(self):
        assert all(STAGES[name].by_layer for name in TASKS_BY_LAYER)
        for tasks in TASKS_BY_LAYER.values():
            for task in tasks:
                assert set(LAYERS) <= {setting for row in published_table(task).values() for setting in row}

    @pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda protocol: protocol.id)
    def test_protocols_report_a_declared_metric_and_the_summary_shows_it(self, protocol):
        metric = STAGES[protocol.stage].metric(protocol.metric)
        config = protocol.settings.config()
        assert headline_metrics(protocol.stage, config) == (metric.name,)


@pytest.mark.parametrize(("rule", "shown"), [("best", "top1_best"), ("last", "top1")])
def test_summary_plot_and_papers_table_show_the_same_metric(rule, shown, tmp_path):
    config = {"epoch_rule": rule, "protocol": "mine"}
    values = {"top1": 30.0, "top1_best": 40.0}
    scores = [
        score(metric=metric, value=value, setting=layer, config=config)
        for metric, value in values.items()
        for layer in ("conv1", "conv2")
    ]
    assert {column.metric for column in collect_results(scores).summary_columns()} == {shown}
    markdown, _, html = report(tmp_path, scores)
    assert f"conv1 {values[shown]:.1f}, conv2 {values[shown]:.1f}" in html
    measured = next(line for line in markdown.splitlines() if line.startswith("| measured"))
    assert f"| {values[shown]:.1f} | {values[shown]:.1f} |" in measured
