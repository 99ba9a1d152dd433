"""Figures of colours: what is plotted, which photos are shown, and that pixels and bytes stay as they are."""

import base64
import io
import shutil
from dataclasses import replace

import numpy as np
import pytest
import scored
import torch
from colorizers import colorizer_file
from matplotlib.axes import Axes
from PIL import Image
from refusals import refused
from scored import Page

from pretext.color import ab_bins
from pretext.color.spaces import AbBins, ab_regression
from pretext.colorize.colorizer import load_colorizer
from transfer.__main__ import main
from transfer.data.colored import TruePhotos
from transfer.networks.painters import Model
from transfer.protocols.table import load_stage_config
from transfer.report.color_plots import color_plots
from transfer.report.contact_sheet import Strip, Tile, contact_sheet
from transfer.report.files import build_report
from transfer.report.sheets import color_sheets
from transfer.report.tables import collect_results
from transfer.run import score
from transfer.scores.outcomes import Mean, RootMean, Share, load_outcomes, save_outcomes
from transfer.scores.score import collect_scores
from transfer.stage import STAGES

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = load_stage_config("colorization", overrides=["count=6", "classifier=None"])


@pytest.fixture(scope="module")
def judged(photo_folder, tmp_path_factory):
    """A work folder with the scores of two colorizers and of gray on six photos, and with the colorizers."""
    folder = tmp_path_factory.mktemp("judged")
    bins = colorizer_file(folder / "bins.safetensors", AbBins(ab_bins()[::16], neighbors=3), method="class")
    values = colorizer_file(folder / "values.safetensors", ab_regression(), method="l2")
    sweep = replace(SETTINGS, temperatures=(1.0, 0.38, 0.5))
    for name, settings in ((bins, sweep), (values, SETTINGS), ("gray", SETTINGS)):
        score("colorization", name, settings=settings, data=photo_folder, work_dir=folder)
    return folder


@pytest.fixture
def work(judged, tmp_path):
    """A copy of it that a test may change."""
    return shutil.copytree(judged, tmp_path / "work")


@pytest.fixture(scope="module")
def made(judged, tmp_path_factory):
    """The files of its report, with sheets of three photos."""
    return build_report([judged], tmp_path_factory.mktemp("report"), photos=3)


def drawn(folder, count=3, metric="auc"):
    results = collect_results(collect_scores(folder))
    (sheets,) = color_sheets(results, [folder], count, metric).values()
    return sheets


def extremes(folder, metric, badness):
    """The two best and the two worst photos of the first colorizer, by its outcomes."""
    run = next(each.run for each in collect_scores(folder) if each.method == "class")
    outcomes = load_outcomes(folder / "runs" / run / "outcomes.npz", "photos", metric)
    names = np.array(["00", "09", "18", "28", "37", "47"])[np.argsort(badness(outcomes))]
    return ", ".join([*names[:2], *names[:-3:-1]])


def pixels(url):
    return np.array(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))


@pytest.fixture(scope="module")
def plots(made):
    """The descriptions of its plots, by what they show."""
    labels = [
        attributes["aria-label"]
        for _, attributes in Page(made.html.read_text()).tags
        if attributes.get("role") == "group"
    ]
    return {label.partition(".")[0]: label for label in labels}


@pytest.fixture
def headings(monkeypatch):
    """The headings of sheets that are asked for, and not drawn."""
    asked = []
    monkeypatch.setattr(
        "transfer.report.sheets.contact_sheet", lambda headings, strips: asked.append(headings) or ""
    )
    return asked


class TestPlots:
    def made_by_hand(self, folder, **values):
        """Scores of one row by two runs, whose outcomes are given."""
        scores = []
        for seed, outcomes in enumerate(zip(*values.values(), strict=True)):
            run = f"colorization-full-seed{seed}"
            kept = dict(zip(values, outcomes, strict=True))
            (folder / "runs" / run).mkdir(parents=True)
            (folder / "runs" / run / "config.json").write_text("{}")
            save_outcomes(folder / "runs" / run / "outcomes.npz", {("photos", m): o for m, o in kept.items()})
            scores += [
                scored.score(
                    "full", seed, o.metric(), stage="colorization", metric=m, setting="photos", run=run,
                    unit=STAGES["colorization"].metric(m).unit.name, config={"prior": None},
                )
                for m, o in kept.items()
            ]  # fmt: skip
        (plots,) = color_plots(collect_results(scores), [folder]).values()
        return {plot.description.partition(".")[0]: plot for plot in plots}

    def test_curves_over_errors_and_photos(self, tmp_path):
        t = np.arange(151)
        curves = [np.stack([np.minimum(1, t / n), np.ones(151)]) for n in (10, 20)]
        plots = self.made_by_hand(
            tmp_path,
            auc=[Share(np.ones(2), np.ones(2), curve) for curve in curves],
            psnr=[Mean(np.arange(20.0, 25))] * 2,
            rmse_ab=[RootMean(np.array([4.0, 9, 16, 25, 36]))] * 2,
        )
        errors, psnr, rmse = (
            plots[name] for name in ("Cumulative error curves", "PSNR of photos", "RMSE ab of photos")
        )
        # Within 5: photos at 0.5 and 1, and at 0.25 and 1.
        assert "full: 100.0, within 5: 68.8 %, 10: 87.5 %, 20: 100.0 %" in errors.description
        for text in ("ab distance t from the true colour (CIE units)", "pixels within t (%)", "full: 100.0"):
            assert f">{text}<" in errors.content
        assert "Beyond 30 all" in errors.title
        assert "quartiles 21.00, 22.00, 23.00" in psnr.description
        assert "quartiles 3.00, 4.00, 5.00" in rmse.description
        assert "PSNR is at least" in psnr.title
        assert "RMSE ab is at most" in rmse.title

    def test_photos_are_counted_in_bins_of_one_db(self, tmp_path):
        # 200 photos a run: 100 at 20.2, 60 at 21.9, 39 at 23, and one that would be far away.
        values = np.repeat([20.2, 21.9, 23.0, 58.0], [100, 60, 39, 1])
        picture = self.made_by_hand(tmp_path, psnr=[Mean(values)] * 2)["PSNR in bins"]
        assert "full: 21.45, most in the bin from 20: 50.0 %" in picture.description
        assert "also holds what is above 24" in picture.title
        for text in ("PSNR of a photo (dB)", "photos in a bin (%)"):
            assert f">{text}<" in picture.content

    def test_the_bins_of_a_histogram_hold_all_photos(self, tmp_path, monkeypatch):
        drawn = []
        monkeypatch.setattr(
            Axes, "stairs", lambda self, heights, edges, **style: drawn.append((heights, edges))
        )
        monkeypatch.setattr("transfer.report.color_plots.legend_below", lambda figure: None)
        values = [np.array([-0.5, 19.0, 20.0, 20.99, 58.9]), np.array([19.5, 19.6, 30.0, 31.0, 32.0])]
        self.made_by_hand(tmp_path, psnr=[Mean(each) for each in values])
        ((heights, edges),) = drawn
        counts = [sum(low <= v < low + 1 for each in values for v in each) for low in edges[:-1]]
        assert (edges[0], edges[-1]) == (-1, 57)
        assert heights[:-1].tolist() == [10 * count for count in counts[:-1]]
        assert heights.sum() == pytest.approx(100)

    def test_a_sweep_is_in_the_order_of_its_temperatures_and_only_plotted(self, judged, made, plots):
        results = collect_results(collect_scores(judged))
        swept = [c.setting for c in results.columns if c.metric == "auc"]
        assert swept == ["photos", "T=0.38", "T=0.5", "T=1"]
        values = {s.setting: s.value for s in results.scores if s.metric == "auc" and s.method == "class"}
        words = ", ".join(f"T {t} {values[f'T={t}']:.1f}" for t in ("0.38", "0.5", "1"))
        assert f"class: {words}" in plots["AuC by temperature"]
        assert {c.setting for c in results.summary_columns()} == {"photos"}
        assert "T=0.5 AuC" in made.markdown.read_text()
        assert "T=" not in made.differences_csv.read_text()
        assert "photos" in made.differences_csv.read_text()

    def test_the_prior_and_its_weights(self, made, plots):
        assert "most at ab = (0, 0); weights from 0.0965 to 6.17" in plots["Colour prior"]
        for text in ("a (CIE units)", "b (CIE units)", "prior p (log scale)", "weights w (lambda = 0.5)"):
            assert f">{text}<" in made.html.read_text()

    def test_a_prior_that_is_gone_is_left_out_with_a_warning(self, tmp_path):
        about = {"stage": "colorization", "metric": "auc", "setting": "photos"}
        results = collect_results([scored.score(**about, config={"prior": "gone.json"})])
        with pytest.warns(UserWarning, match=r"prior is left out .*gone\.json"):
            assert list(color_plots(results, [tmp_path]).values()) == [[]]

    def test_other_stages_have_none(self, tmp_path):
        assert color_plots(collect_results([scored.score()]), [tmp_path]) == {}


class TestSheets:
    def test_rows_stand_between_gray_and_truth_and_each_photo_is_named(self, judged, headings):
        main, *own = drawn(judged)
        assert main.title.startswith("Photos in the colours of gray, class, l2, truth.")
        assert main.description.endswith("Photos: 00, 18, 47")
        assert ["gray", "class", "l2", "truth"] in headings
        assert ["T = 1, the mean", "T = 0.5", "T = 0.38", "T → 0, the mode"] in headings
        # Best and worst of both, temperatures of that which has some.
        assert [sheet.title.partition(":")[0] for sheet in own] == ["class", "class", "l2"]

    def test_a_row_is_painted_as_its_run_was(self, judged, photo_folder, tmp_path, monkeypatch):
        settings = replace(SETTINGS, decode_at="photo", true_histogram="energy", decode="mode")
        colorizer = str(judged / "bins.safetensors")
        score("colorization", colorizer, settings=settings, data=photo_folder, work_dir=tmp_path)
        sheets = []
        monkeypatch.setattr(
            "transfer.report.sheets.contact_sheet", lambda headings, strips: sheets.append(strips) or ""
        )
        assert "class decode=mode decode_at=photo true_histogram=energy" in drawn(tmp_path)[0].title
        photos = TruePhotos(photo_folder, "all", 6, "own", None)
        model = Model(load_colorizer(colorizer), settings, 0)
        # The sheet of all rows is drawn last.
        for index, strip in zip((0, 2, 5), sheets[-1], strict=True):
            assert torch.equal(strip.tiles[1].photo, model(index, photos[index]).rgb)

    def test_a_row_whose_colours_another_photo_lends_is_painted_again(self, photo_folder, tmp_path, headings):
        shutil.copy(photo_folder / "01.jpg", tmp_path / "lender.jpg")
        settings = replace(SETTINGS, reference=str(tmp_path / "lender.jpg"))
        score("colorization", "welsh2002", settings=settings, data=photo_folder, work_dir=tmp_path)
        assert "gray, welsh2002, truth" in drawn(tmp_path)[0].title
        shutil.copy(photo_folder / "00.jpg", tmp_path / "lender.jpg")
        with pytest.warns(UserWarning, match="welsh2002: left out .*changed"):
            assert drawn(tmp_path) == []

    def test_gray_with_the_true_histogram_is_a_row_of_its_own(self, work, photo_folder, monkeypatch):
        settings = replace(SETTINGS, true_histogram="quantile")
        score("colorization", "gray", settings=settings, data=photo_folder, work_dir=work)
        sheets = []
        monkeypatch.setattr(
            "transfer.report.sheets.contact_sheet", lambda headings, strips: sheets.append(strips) or ""
        )
        row = "gray true_histogram=quantile"
        assert f"colours of gray, {row}, class, l2, truth." in drawn(work, 1)[0].title
        gray, matched = sheets[-1][0].tiles[:2]
        assert (gray.photo.int().amax(0) - gray.photo.int().amin(0)).max() <= 1
        assert not torch.equal(matched.photo, gray.photo)
        assert matched.note != gray.note

    def test_the_best_and_the_worst_are_those_of_the_outcomes(self, judged, headings):
        _, _, sheet, _ = sorted(drawn(judged, 2, "ciede2000"), key=lambda each: each.title)
        assert sheet.description.endswith(
            f"Photos: {extremes(judged, 'ciede2000', lambda each: each.values)}"
        )
        (sheet,) = (each for each in drawn(judged, 2) if "best" in each.title and "class" in each.title)
        assert sheet.description.endswith(f"Photos: {extremes(judged, 'auc', lambda each: -each.parts)}")

    def test_photos_are_drawn_pixel_by_pixel(self):
        photo = torch.randint(0, 256, (3, 100, 120), generator=torch.Generator().manual_seed(0)).to(
            torch.uint8
        )
        other = torch.zeros(3, 120, 30, dtype=torch.uint8)
        found = pixels(
            contact_sheet(
                ["one", "two"], [Strip("a", [Tile(photo, "x"), Tile(other)]), Strip("b", [Tile(other)])]
            )
        )
        places = np.argwhere((found[..., None, :] == photo[:, 0, 0].numpy()).all(-1).squeeze(-1))
        expected = photo.permute(1, 2, 0).numpy()
        assert any(np.array_equal(found[y : y + 100, x : x + 120], expected) for y, x in places)

    def test_many_columns_shrink(self):
        photo = torch.zeros(3, 300, 200, dtype=torch.uint8)
        found = pixels(contact_sheet([], [Strip("", [Tile(photo)] * 20)]))
        assert found.shape[1] <= 1280
        assert contact_sheet(["$x_1$ \udce9"], [Strip("\udce9", [Tile(photo)])])

    def test_what_is_gone_or_has_changed_is_left_out_with_a_warning(self, work, headings):
        config = next(work.glob("runs/*-l2-*/config.json"))
        record = config.read_text()
        config.write_text(record.replace("values.safetensors", "gone.safetensors"))
        with pytest.warns(UserWarning, match=r"l2: left out .*gone\.safetensors"):
            assert "gray, class, truth" in drawn(work)[0].title
        config.write_text(record.replace("values.safetensors", "bins.safetensors"))
        with pytest.warns(UserWarning, match="l2: left out .*changed"):
            assert "gray, class, truth" in drawn(work)[0].title

    def test_other_photos_than_those_that_were_judged_are_not_shown(self, work, photo_folder, tmp_path):
        shutil.copytree(photo_folder, tmp_path / "photos")
        for path in (tmp_path / "photos").glob("*.jpg"):
            path.rename(path.with_name(f"x{path.name}"))
        for config in work.glob("runs/*/config.json"):
            config.write_text(config.read_text().replace(str(photo_folder), str(tmp_path / "photos")))
        results = collect_results(collect_scores(work))
        with pytest.warns(UserWarning, match="not those that were judged"):
            assert color_sheets(results, [work], 3) == {}

    def test_a_metric_that_is_not_kept_by_photo_is_refused(self, judged):
        with refused("metric", received="time", allowed="auc"):
            drawn(judged, metric="time")


class TestReport:
    def test_the_page_holds_them_and_files_stand_beside_it(self, made):
        folder = made.html.parent
        names = {path.name for path in folder.glob("plot-*")} | {path.name for path in folder.glob("sheet-*")}
        assert names == {*(f"plot-{n}.svg" for n in range(1, 10)), *(f"sheet-{n}.png" for n in range(1, 5))}
        page = Page(made.html.read_text())
        images = [attributes for tag, attributes in page.tags if tag == "img"]
        for number, image in enumerate(images, 1):
            assert (
                base64.b64decode(image["src"].partition(",")[2])
                == (folder / f"sheet-{number}.png").read_bytes()
            )
            assert "Photos: " in image["alt"]
        assert len(images) == 4
        assert made.html.read_text().count("<svg") == 9
        assert all(f"]({name})" in made.markdown.read_text() for name in names)

    @pytest.mark.slow
    def test_the_command_gives_the_same_bytes(self, judged, made, tmp_path, capsys):
        words = ["--work-dir", str(judged), "--out", str(tmp_path / "again"), "--photos", "3"]
        assert main(["report", *words]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "again" / "report.html")
        for path in sorted(made.html.parent.iterdir()):
            assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name

    @pytest.mark.parametrize(
        ("words", "named"),
        [
            (["--photo-metric", "psnr"], "--photos N"),
            (["--photos", "1", "--photo-metric", "best"], "best"),
            (["--photos", "400"], "0 to 100"),
        ],
    )
    def test_wrong_options_are_refused(self, words, named, judged, tmp_path, capsys):
        arguments = ["report", "--work-dir", str(judged), "--out", str(tmp_path / "out"), *words]
        try:
            code = main(arguments)
        except SystemExit as exit:
            code = exit.code
        assert code == 2
        assert named in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
