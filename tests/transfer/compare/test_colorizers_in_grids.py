"""Grids with colorizers: who judges whom, what a row takes of another row, and a grid on another data set."""

import textwrap
from pathlib import Path

import pytest
from refusals import refused

from pretext.__main__ import main as pretext_main
from pretext.config import find_config, read_config
from transfer.__main__ import main as transfer_main
from transfer.compare.grid import plan
from transfer.report.papers import paper_tables
from transfer.report.tables import collect_results
from transfer.report.views import console_table
from transfer.scores.score import collect_scores

#: Overrides that make the nets of the small studies small, and shortest.
TINY = [
    *("backbone.width=0.015625", "view.size=16", "view.resize=16", "batch_size=4", "epochs=None", "steps=2"),
    *("held_out=2", "workers=0", "preview_interval=0"),
]


@pytest.fixture(scope="session")
def data_set(photo_folders, tmp_path_factory):
    """A data set's config for the photos in folders of two classes."""
    path = tmp_path_factory.mktemp("data") / "stripes.py"
    place = str(photo_folders)
    path.write_text(
        textwrap.dedent(f"""
            pretext = dict(data={place!r})
            cifar10_classifier = dict(method=dict(num_classes=2))
            colors = dict(protocol="stripes", data={place!r}, fit="square", size=16, count=4)
        """)
    )
    return str(path)


@pytest.fixture
def grid(tmp_path, data_set):
    path = tmp_path / "grid.py"
    path.write_text(
        textwrap.dedent(f"""
            _train = dict(on={data_set!r}, overrides={TINY!r})
            backbones = dict(classifier=dict(train="cifar10_classifier", **_train))
            colorizers = dict(
                truth="truth",
                gray="gray",
                classes=dict(train="cifar10_classification", decoding=["decode=mode"], **_train),
                annealed=dict(colorizer="classes", decoding=["temperature=0.89"]),
                transfer=dict(
                    train="cifar10_classification",
                    on={data_set!r},
                    overrides={[*TINY, "init={classifier}/backbone.safetensors"]!r},
                ),
            )
            stages = dict(colors=dict(stage="colorization", on={data_set!r}, overrides=["classifier=None"]))
            seeds = (0, 1)
        """)
    )
    return path


def by_name(tasks, seed=0):
    return {(task.row, task.column): task for task in tasks if task.seed == seed}


def test_colorizers_are_judged_by_the_stages_of_colours(grid, tmp_path):
    cells = by_name(plan(grid, tmp_path / "work"))
    rows = ("truth", "gray", "classes", "annealed", "transfer")
    made = {("classifier", "backbone"), ("classes", "backbone"), ("transfer", "backbone")}
    assert cells.keys() == {*made, *((row, "colors") for row in rows)}
    assert cells["truth", "colors"].words[:2] == ("colorization", "truth")
    assert cells["truth", "colors"].needs == ()
    maker = cells["classes", "backbone"]
    assert cells["classes", "colors"].words[1] == str(maker.folder / "colorizer.safetensors")
    assert cells["classes", "colors"].needs == (maker,)


def test_what_one_row_makes_is_shown_in_another_in_its_own_way(grid, tmp_path):
    cells = by_name(plan(grid, tmp_path / "work"))
    first, second = cells["classes", "colors"], cells["annealed", "colors"]
    assert second.needs == first.needs
    assert (first.words[4], second.words[4]) == ("decode=mode", "temperature=0.89")
    assert [word for word in first.words if word != "decode=mode"] == [
        word for word in second.words if word != "temperature=0.89"
    ]
    assert first.folder != second.folder


def test_a_row_starts_from_what_another_row_makes_with_the_same_seed(grid, tmp_path):
    for seed in (0, 1):
        cells = by_name(plan(grid, tmp_path / "work"), seed)
        classifier, transfer = cells["classifier", "backbone"], cells["transfer", "backbone"]
        assert f"init={classifier.folder}/backbone.safetensors" in transfer.words
        assert transfer.needs == (classifier,)


def test_with_another_start_it_is_another_cell_and_not_in_another_place(grid, photo_folder, tmp_path):
    def folders(place="work"):
        return {name: task.folder.name for name, task in by_name(plan(grid, tmp_path / place)).items()}

    before = folders()
    assert folders("elsewhere") == before
    other = f'train="cifar10_classifier", data={str(photo_folder)!r}, '
    grid.write_text(grid.read_text().replace('train="cifar10_classifier", ', other))
    changed = {name for name, folder in folders().items() if folder != before[name]}
    assert changed == {("classifier", "backbone"), ("transfer", "backbone"), ("transfer", "colors")}


def test_a_stage_takes_what_a_row_makes(grid, tmp_path):
    place = "prior={classifier}/prior.json"
    grid.write_text(grid.read_text().replace('["classifier=None"]', f'["classifier=None", "{place}"]'))
    tasks = plan(grid, tmp_path / "work")
    cells = by_name(tasks)
    classifier = cells["classifier", "backbone"]
    for row in ("truth", "annealed"):
        assert f"prior={classifier.folder}/prior.json" in cells[row, "colors"].words
        assert classifier in cells[row, "colors"].needs
    assert all(set(task.needs) <= set(tasks[:place]) for place, task in enumerate(tasks))


def test_each_kind_of_row_has_the_stages_that_judge_it(grid, data_set, photo_folders, tmp_path):
    probe = f'probe=dict(stage="linear-probe", layers="conv2", data={str(photo_folders)!r})'
    grid.write_text(grid.read_text().replace("stages = dict(", f"stages = dict({probe}, "))
    cells = by_name(plan(grid, tmp_path / "work"))
    assert {row for row, column in cells if column == "probe"} == {"classifier"}
    assert ("classifier", "colors") not in cells


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        (
            "cifar10_figure7",
            {"truth", "gray", "regression", "classification", "annealed", "transfer"},
        ),
        ("small_photos", {"truth", "gray", "random-photo", "l2", "class", "rebalanced"}),
        ("small_photos_classes", {"truth", "gray", "random-photo", "l2", "class", "rebalanced"}),
        (
            "zhang2016_table1",
            {
                *("truth", "gray", "random-photo", "mean-color", "retrieval", "welsh2002"),
                *("full", "class", "l2", "l2_finetuned"),
            },
        ),
        (
            "larsson2016_table1",
            {
                *("gray", "random-photo", "l2", "lab_marginals", "lab_joint"),
                *("hue_chroma", "hue_chroma_median"),
            },
        ),
        (
            "larsson2016_table2",
            {"gray", "hue_chroma", "data_to_conv3", "conv3_to_conv5", "conv4_to_conv5", "conv5"},
        ),
        ("larsson2016_table4", {"gray", "hue_chroma", "quantile", "energy"}),
        ("larsson2016_table5", {"gray", "hue_chroma", "from_classifier"}),
    ],
)
@pytest.mark.parametrize("data", [None, "imagenette32"])
def test_the_grids_of_tables_of_colours_are_ones_on_any_data_set(name, rows, data, tmp_path, monkeypatch):
    # Their data are not needed for it.
    for module in ("rows", "grid"):
        monkeypatch.setattr(f"transfer.compare.{module}.place_of", lambda name: name)
    tasks = plan(find_config("compare", name), tmp_path, data)
    judged = [task for task in tasks if task.module == "transfer"]
    assert {task.row for task in judged} == rows
    if data:
        assert all(data in task.words for task in tasks)
        assert all("imagenette128/val" in task.words for task in judged)


def test_one_training_serves_the_tables_of_larsson(tmp_path, monkeypatch):
    for module in ("rows", "grid"):
        monkeypatch.setattr(f"transfer.compare.{module}.place_of", lambda name: name)
    grids = [plan(find_config("compare", f"larsson2016_table{number}"), tmp_path) for number in (1, 4, 5)]
    cells = [by_name(tasks) for tasks in grids]
    for column in ("backbone", "colors"):
        assert len({each["hue_chroma", column] for each in cells}) == 1
    assert cells[1]["energy", "colors"].needs == (cells[0]["hue_chroma", "backbone"],)
    start = cells[2]["classifier", "backbone"]
    assert f"init={start.folder}/backbone.safetensors" in cells[2]["from_classifier", "backbone"].words


def test_another_data_set_takes_the_place_of_all_that_the_grid_names(grid, photo_folder, tmp_path):
    other = tmp_path / "other.py"
    place = str(photo_folder)
    other.write_text(f"pretext = dict(data={place!r})\ncolors = dict(data={place!r})\n")
    for task in plan(grid, tmp_path / "work", str(other)):
        assert str(other) in task.words
        assert task.words[-1] == place
    with refused("says nothing about cifar10_classifier", received="voc256"):
        plan(grid, tmp_path / "work", "voc256")


def test_another_data_set_also_lends_its_colours(tmp_path, monkeypatch):
    for module in ("rows", "grid"):
        monkeypatch.setattr(f"transfer.compare.{module}.place_of", lambda name: name)
    for data, gallery in ((None, "imagenette128/train"), ("imagenette32", "tiny64-unlabeled")):
        cells = by_name(plan(find_config("compare", "zhang2016_table1"), tmp_path, data))
        words = cells["retrieval", "colors"].words
        assert [word for word in words if word.startswith("gallery=")] == [f"gallery={gallery}"]
        assert "count=1000" in words


@pytest.mark.parametrize(
    ("old", "new", "names", "fields"),
    [
        ('"truth"', '"truht"', ["colours"], {"received": "truht", "allowed": "a row above it"}),
        (
            *('colorizer="classes"', 'colorizer="classifier"', ["colours"]),
            {"received": "classifier", "allowed": "a row above it, classes"},
        ),
        (
            *('"cifar10_classification", decoding', '"cifar10_classifier", decoding', ["classes"]),
            {"received": "cifar10_classifier", "allowed": "colorization or hypercolumn or split_brain"},
        ),
        ("{classifier}", "{transfer}", ["transfer"], {"received": "transfer", "allowed": "classifier"}),
        ("{classifier}", "{nobody}", ["nobody"], {"received": "nobody", "allowed": "classes"}),
        ("decode=mode", "count=3", ["decoding of classes"], {"received": "count", "allowed": "temperature"}),
        ("decode=mode", "decode=vivid", ["vivid"], {"allowed": "mode"}),
        ("decode=mode", "temperatures=0,1", ["temperatures"], {"received": (0, 1)}),
        (
            *("classifier=None", "temperatures=0.1,1", ["only a colorizer has temperatures"]),
            {"received": "temperatures=(0.1, 1.0) of truth", "allowed": "a grid gives them to rows"},
        ),
        (
            *("classifier=None", "true_histogram=energy", ["only a colorizer predicts distributions"]),
            {"received": "true_histogram=energy of truth", "allowed": "true_histogram=quantile"},
        ),
        ('["decode=mode"]', '"decode=mode"', ["decoding", "classes"], {"received": "decode=mode"}),
        ("truth=", "classifier=", ["one name"], {"received": "classifier"}),
        ("colorizers = dict", "colorizers = 3 or dict", ["colorizers"], {"received": 3}),
        ("transfer=dict", "transfer=3 or dict", ["colorizer transfer"], {"received": 3}),
    ],
)
def test_what_is_wrong_with_colorizers_is_told_before_anything_runs(grid, tmp_path, old, new, names, fields):
    assert old in grid.read_text()
    grid.write_text(grid.read_text().replace(old, new))
    with refused(*names, **fields):
        plan(grid, tmp_path / "work")


def test_a_stage_that_has_nothing_to_judge_and_a_row_that_nobody_needs_are_told(grid, photo_folder, tmp_path):
    text = grid.read_text()
    probe = f'dict(probe=dict(stage="linear-probe", data={str(photo_folder)!r}), '
    alone = text.replace("init={classifier}/backbone.safetensors", "init=he")
    grid.write_text(alone.replace("stages = dict(", f"stages = {probe}").replace("backbones =", "_ ="))
    with refused("probe", received="linear-probe", allowed="backbones"):
        plan(grid, tmp_path / "work")
    grid.write_text(alone)
    with refused("classifier", received="classifier", allowed="linear-probe"):
        plan(grid, tmp_path / "work")


def test_a_misspelt_data_set_is_told_before_anything_runs(grid, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert transfer_main(["compare", str(grid), "imagenette23"]) == 2
    assert "imagenette32" in capsys.readouterr().err
    assert not Path("work_dirs").exists()


@pytest.mark.usefixtures("one_thread")
def test_a_grid_from_photos_to_the_table(grid, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    grid.write_text(grid.read_text().replace("seeds = (0, 1)", "seeds = (0,)"))
    for task in plan(grid, Path("work")):
        main = pretext_main if task.module == "pretext" else transfer_main
        assert main(task.command()[3:]) == 0
        assert task.done
    scores = collect_scores(Path("work"))
    table = console_table(scores, work_dirs=[Path("work")])
    assert "100.0 to" in table
    results = collect_results(scores)
    assert {row.label for row in results.rows} == {
        *("truth", "gray", "cifar10_classification decode=mode", "cifar10_classification temperature=0.89"),
        "cifar10_classification, from cifar10_classifier",
    }
    assert len(results.benchmarks) == 1


def run_short(name, data, *overrides):
    """Run a grid of the project on stripes, at 32 pixels and for two steps, in the folder ``work``."""
    values = read_config(find_config("compare", name))
    for row in (*values.get("backbones", {}).values(), *values["colorizers"].values()):
        if "train" in row:
            short = ["view.size=32", "view.resize=32", *TINY[3:], *overrides]
            row["overrides"] = [*row.get("overrides", ()), *short]
    values["stages"]["colors"]["overrides"] += ["classifier=None", "count=8"]
    grid = Path(f"{name}.py")
    grid.write_text("".join(f"{key} = {value!r}\n" for key, value in values.items()))
    for task in plan(grid, Path("work"), str(data)):
        main = pretext_main if task.module == "pretext" else transfer_main
        assert task.done or main(task.command()[3:]) == 0


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_the_table_of_zhang_is_made(data_set, tmp_path, monkeypatch):
    """Every row has its scores, and those that predict a distribution have those of the sweep."""
    monkeypatch.chdir(tmp_path)
    run_short("zhang2016_table1", data_set, "backbone.width=0.05")
    scores = collect_scores(Path("work"))
    results = collect_results(scores)
    starts = {
        "full": "k-means",
        "class": "k-means",
        "l2": "k-means",
        "l2_finetuned": "colornet_full, from k-means",
    }
    lenders = {f"{name} by features of random" for name in ("retrieval", "welsh2002")}
    assert {row.label for row in results.rows} == {
        *("truth", "gray", "random-photo", "mean-color", *lenders),
        *(f"colornet_{name}, from {start}" for name, start in starts.items()),
    }
    assert len(results.benchmarks) == 1
    swept = {score.method for score in scores if score.setting == "T=0.38"}
    assert swept == {f"colornet_{name}, from k-means" for name in ("full", "class")}


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_the_tables_of_larsson_are_made(data_set, tmp_path, monkeypatch):
    """At 32 pixels and for two steps; the rows that know the truth are the best of their table."""
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "stripes.py"
    data.write_text(Path(data_set).read_text() + "supervised = dict(method=dict(num_classes=2))\n")
    for number in (1, 4, 5):
        run_short(f"larsson2016_table{number}", data)
    results = collect_results(collect_scores(Path("work")))
    found = {row.label: cell.mean for (row, column), cell in results.cells.items() if column.metric == "psnr"}
    hues = "hypercolumn_vgg16 decode_at=photo"
    for way in ("quantile", "energy"):
        assert found.pop(f"{hues} true_histogram={way}") > found[hues]
    assert found.keys() == {
        *("gray", "random-photo", "hypercolumn_vgg16_l2", hues),
        "hypercolumn_vgg16 decode=median decode_at=photo",
        *(f"hypercolumn_vgg16_{space} decode_at=photo" for space in ("lab_marginals", "lab_joint")),
        "hypercolumn_vgg16, from vgg16_classifier made gray decode_at=photo",
    }
    assert len(results.benchmarks) == 1
    assert ["table 1 of Zhang" in table.title for table in paper_tables(results)] == [True, False]
