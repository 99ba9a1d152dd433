import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from refusals import refused
from scored import score

from pretext.backbones.checkpoint import Provenance, load_backbone, save_backbone
from pretext.config import find_config
from pretext.methods import METHODS
from transfer.compare import run as compare
from transfer.compare.grid import Task, plan
from transfer.compare.rows import STAGE
from transfer.compare.run import devices, run_grid, status_table
from transfer.scores.score import append_scores
from transfer.stage import STAGES

REPOSITORY = Path(__file__).parents[3]

#: Stands for ``python -m pretext`` and ``python -m transfer``: says that it ran, waits, and leaves what is asked for.
FAKE = """
import json, os, sys, time
from pathlib import Path
words = sys.argv[1:]
place = {key: Path(words[words.index(key) + 1]) for key in ("--work-dir", "--out") if key in words}
folder = place.get("--work-dir") or place["--out"].parent
where = os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("OMP_NUM_THREADS")
with open(os.environ["FAKE_LOG"], "a") as log:
    log.write(f"{folder.name} {where[0]} {where[1]}\\n")
time.sleep(float(os.environ["FAKE_SECONDS"]))
if folder.name.rpartition("-")[0] == os.environ["FAKE_BROKEN"]:
    print("error: it is broken", file=sys.stderr)
    sys.exit(2)
if words[0] in ("train", "initialize"):
    (folder / "backbone.safetensors").write_text("weights")
else:
    seed = int(words[words.index("--seed") + 1])
    line = json.loads(os.environ["FAKE_SCORE"]) | {"seed": seed, "value": 40.0 + seed}
    (folder / "results.jsonl").write_text(json.dumps(line) + "\\n")
"""


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


@pytest.fixture
def grid(tmp_path, photos):
    path = tmp_path / "grid.py"
    path.write_text(
        textwrap.dedent(f"""
            ours = dict(train="colorization", data={str(photos)!r}, overrides=["epochs=2"])
            backbones = dict(random="random:alexnet", ours=ours)
            stages = dict(
                probe=dict(stage="linear-probe", layers="conv5", data={str(photos)!r}, overrides=["epochs=1"]),
                seg=dict(stage="voc-segmentation", data={str(photos)!r}),
            )
            seeds = (0, 1)
        """)
    )
    return path


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Puts a command that takes some seconds in the place of all; the result tells what ran, in order."""
    log, script = tmp_path / "log.txt", tmp_path / "fake.py"
    script.write_text(FAKE)
    original = Task.command
    # Python starts faster without site-packages.
    fake = [sys.executable, "-I", "-S", str(script)]
    monkeypatch.setattr(Task, "command", lambda self: [*fake, *original(self)[3:]])
    monkeypatch.setattr(compare, "POLL_SECONDS", 0.01)
    monkeypatch.setenv("FAKE_LOG", str(log))
    monkeypatch.setenv("FAKE_SCORE", json.dumps(asdict(score())))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def put(seconds=0.0, broken="nothing"):
        monkeypatch.setenv("FAKE_SECONDS", str(seconds))
        monkeypatch.setenv("FAKE_BROKEN", broken)
        return lambda: [line.split() for line in log.read_text().splitlines()] if log.exists() else []

    return put


class TestPlan:
    def test_a_grid_is_every_backbone_by_every_stage_and_seed(self, grid, photos, tmp_path):
        tasks = plan(grid, tmp_path / "work")
        assert len(tasks) == 2 + 2 * 2 * 2
        cell = next(t for t in tasks if (t.row, t.column, t.seed) == ("ours", "probe", 1))
        assert cell.needs[0].words == ("train", "colorization", "epochs=2", "--data", str(photos))
        # The layers come before the backbone, the overrides behind it.
        assert cell.command()[1:] == [
            "-m", "transfer", "linear-probe", "conv5", str(cell.needs[0].folder / "backbone.safetensors"), "epochs=1",
            "--data", str(photos), "--work-dir", str(cell.folder), "--seed", "1",
        ]  # fmt: skip
        random = next(t for t in tasks if (t.row, t.column, t.seed) == ("random", "seg", 0))
        assert random.words[:2] == ("voc-segmentation", "random:alexnet")
        assert random.needs == ()
        assert len({task.folder for task in tasks}) == len(tasks)

    @pytest.mark.parametrize(
        ("chosen", "words", "epochs"),
        [
            ({"on": "imagenette128"}, ("imagenette128", "batch_size=8", "--data"), 6),
            ({"protocol": "rotnet2018"}, ("batch_size=8", "--protocol", "rotnet2018", "--data"), 35),
            ({"config": "linear_probe"}, ("batch_size=8", "--config", "linear_probe", "--data"), 5),
        ],
    )
    def test_settings_are_those_of_a_data_set_a_protocol_or_a_file(
        self, photos, tmp_path, chosen, words, epochs
    ):
        data = {"data": str(photos), "overrides": ["batch_size=8"]}
        stages = {"probe": dict(stage="linear-probe", **chosen, **data)}
        ours = dict(train="rotation", on="imagenette128", **data)
        grid = {"backbones": {"ours": ours}, "stages": stages, "seeds": [0]}
        path = tmp_path / "grid.json"
        path.write_text(json.dumps(grid))
        maker, cell = plan(path, tmp_path / "work")
        assert maker.words == ("train", "rotation", "imagenette128", "batch_size=8", "--data", str(photos))
        backbone = str(maker.folder / "backbone.safetensors")
        assert cell.words == ("linear-probe", "all", backbone, *words, str(photos))
        # Nothing but what is asked for is another cell.
        stages["probe"]["overrides"] = ["batch_size=8", f"epochs={epochs}"]
        path.write_text(json.dumps(grid))
        assert plan(path, tmp_path / "work")[1].folder == cell.folder

    def test_a_seed_is_whole_before_the_next(self, grid, tmp_path):
        tasks = plan(grid, tmp_path / "work")
        assert [task.seed for task in tasks] == [0] * (len(tasks) // 2) + [1] * (len(tasks) // 2)
        assert all(set(task.needs) <= set(tasks[:place]) for place, task in enumerate(tasks))

    @pytest.mark.parametrize(
        ("old", "new", "same"),
        [
            # The backbone of both seeds and its cells are others; those of random stay.
            ("epochs=2", "epochs=3", 4),
            # The probe of both backbones and seeds.
            ("epochs=1", "epochs=3", 6),
            ("conv5", "conv4", 6),
            ("seeds = (0, 1)", "seeds = (1, 2)", 5),
        ],
    )
    def test_another_recipe_is_another_cell_and_the_rest_stays(self, grid, tmp_path, old, new, same):
        first = {task.folder for task in plan(grid, tmp_path / "work")}
        grid.write_text(grid.read_text().replace(old, new))
        assert len(first & {task.folder for task in plan(grid, tmp_path / "work")}) == same

    def test_an_initialised_backbone_sees_the_colours_that_its_name_says(self, grid, photos, tmp_path):
        made = f'dict(initialize="gaussian", photos={str(photos)!r}, backbone="alexnet:rgb")'
        grid.write_text(grid.read_text().replace('"random:alexnet"', made))
        (task, *_) = plan(grid, tmp_path / "work")
        assert task.words[:5] == ("initialize", "gaussian", str(photos), "--backbone", "alexnet:rgb")

    @pytest.mark.parametrize("name", ["resnet", "alexnet:infrared"])
    def test_what_cannot_be_initialised_is_told_before_anything_runs(self, grid, photos, tmp_path, name):
        made = f'dict(initialize="gaussian", photos={str(photos)!r}, backbone={name!r})'
        grid.write_text(grid.read_text().replace('"random:alexnet"', made))
        with refused(received=name.rpartition(":")[2]):
            plan(grid, tmp_path / "work")

    def test_another_file_to_start_from_is_another_cell(self, grid, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        folders = []
        for init, seed in (("he", 0), ("kmeans", 0), ("start.safetensors", 0), ("start.safetensors", 1)):
            save_backbone(
                load_backbone("random:alexnet", seed=seed).backbone, "start.safetensors", Provenance("x")
            )
            grid.write_text(
                re.sub(
                    r"overrides=\[\"epochs=2\".*?\]",
                    f'overrides=["epochs=2", "init={init}"]',
                    grid.read_text(),
                )
            )
            maker = next(task for task in plan(grid, tmp_path / "work") if task.column == "backbone")
            assert f"init={init}" in maker.words
            folders.append(maker.folder)
        assert len(set(folders)) == 4
        grid.write_text(grid.read_text().replace("init=start", "init=gone"))
        with refused(received="gone.safetensors"):
            plan(grid, tmp_path / "work")

    @pytest.mark.parametrize(
        ("name", "rows"),
        [
            ("small", {"colorization"}),
            *((name, METHODS) for name in ("methods", "methods_short", "toyworld")),
        ],
    )
    def test_the_grids_that_come_with_the_project_are_ones(self, name, rows, tmp_path, monkeypatch):
        # Their data are not needed for it.
        for module in ("rows", "grid"):
            monkeypatch.setattr(f"transfer.compare.{module}.place_of", lambda name: name)
        tasks = plan(find_config("compare", name), tmp_path)
        missing = {"random", "kmeans", *rows} - {task.row for task in tasks}
        assert not missing, f"configs/compare/{name}.py lacks rows"

    @pytest.mark.parametrize(
        ("old", "new", "names", "fields"),
        [
            ("seeds = (0, 1)", "seeds = ()", ["grid.py", "seeds"], {"received": ()}),
            *(
                (
                    "seeds = (0, 1)",
                    f"backbones[{name!r}] = 'random:alexnet'\nseeds = (0, 1)",
                    ["row"],
                    {"received": repr(name), "allowed": "letters, digits"},
                )
                for name in ("../../escaped", "/escaped", "s.1", "", 7, "a" * 101)
            ),
            (
                "seeds = (0, 1)",
                "stages['a/b'] = stages['seg']\nseeds = (0, 1)",
                ["stage"],
                {"received": "'a/b'", "allowed": "letters, digits"},
            ),
            (
                "backbones =",
                "backbones = 3\n_ =",
                ["grid.py", "backbones"],
                {"received": 3, "allowed": "dicts"},
            ),
            ("seeds = (0, 1)", "seeds = 3", ["grid.py", "seeds"], {"received": 3}),
            ("train=", "distill=", ["backbone ours", "initialize and photos"], {"allowed": "count"}),
            (
                *("voc-segmentation", "voc-depth", ["seg"]),
                {"received": "voc-depth", "allowed": tuple(STAGES)},
            ),
            ("epochs=1", "epoks=1", ["epoks"], {}),
            (
                *("layers=", "layer=", ["stage probe"]),
                {"received": "layer", "allowed": tuple(STAGE)},
            ),
            ("/photos", "/nothing", ["/nothing"], {}),
            ("random:alexnet", "nothing.safetensors", ["nothing.safetensors"], {}),
            ("random:alexnet", "random:alexnte", ["random:alexnte"], {}),
            ('layers="conv5"', 'layers="conv9"', ["probe"], {"received": "conv9", "allowed": "conv5"}),
            ('layers="conv5"', 'layers=["conv5"]', ["layers", "probe"], {"received": ["conv5"]}),
            (
                *("voc-segmentation", 'voc-segmentation", layers="conv5', ["seg", "voc-segmentation"]),
                {"received": "conv5", "allowed": "linear-probe"},
            ),
            ("epochs=1", "scale=0", ["scale", "0"], {}),
            (
                *('overrides=["epochs=1"]', 'overrides="epochs=1"', ["overrides", "stage probe"]),
                {"received": "epochs=1", "allowed": "['epochs=2']"},
            ),
            ('overrides=["epochs=1"]', "overrides=[1]", ["overrides", "stage probe"], {"received": [1]}),
            ("seeds = (0, 1)", 'seeds = ("a",)', ["seed"], {"received": "'a'"}),
            ("seeds = (0, 1)", "seeds = (-1,)", ["seed"], {"received": -1, "allowed": "from 0"}),
            ('layers="conv5"', 'layers="all,conv5"', ["probe"], {"received": "all", "allowed": "conv5"}),
            ('layers="conv5"', "on=5", ["on", "stage probe"], {"received": 5}),
            ("seeds = (0, 1)", "seeds = (2**32,)", ["seed"], {"received": 2**32}),
            (
                *(
                    'dict(train="colorization", data=',
                    'dict(initialize="kmeans", data=',
                ),
                *(["backbone ours", "initialize and photos"], {}),
            ),
        ],
    )
    def test_what_is_wrong_is_told_before_anything_runs(self, grid, tmp_path, old, new, names, fields):
        grid.write_text(grid.read_text().replace(old, new))
        with refused(*names, **fields):
            plan(grid, tmp_path / "work")


class TestRun:
    def test_every_cell_runs_once_and_after_what_it_needs(self, grid, fake, tmp_path, monkeypatch):
        ran, work = fake(), tmp_path / "work"
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
        assert devices() == ["3", "5"]
        tasks = plan(grid, work)
        assert run_grid(tasks, work, slots=2) == []
        names = [name for name, *_ in ran()]
        assert sorted(names) == sorted(task.folder.name for task in tasks)
        for task in tasks:
            assert all(names.index(n.folder.name) < names.index(task.folder.name) for n in task.needs)
        assert {gpu for _, gpu, _ in ran()} == {"3", "5"}
        assert run_grid(plan(grid, work), work, slots=2) == []
        assert len(ran()) == len(tasks)
        assert all(task.done for task in tasks)

    def test_without_a_gpu_cells_share_the_cores(self, grid, fake, tmp_path, monkeypatch):
        ran, work = fake(), tmp_path / "work"
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        run_grid(plan(grid, work)[:3], work, slots=os.cpu_count())
        assert {threads for *_, threads in ran()} == {"1"}

    def test_a_failure_takes_down_what_needs_it_and_nothing_else(self, grid, fake, tmp_path, capsys):
        ran, work = fake(broken="ours-backbone-seed1"), tmp_path / "work"
        tasks = plan(grid, work)
        failed = run_grid(tasks, work, slots=1)
        assert {t.name for t in failed} == {
            f"ours {column} seed 1" for column in ("backbone", "probe", "seg")
        }
        assert {task.name for task in tasks if not task.done} == {task.name for task in failed}
        assert "failed: ours backbone seed 1: error: it is broken (all in " in capsys.readouterr().err
        before = len(ran())
        fake()
        assert run_grid(tasks, work, slots=1) == []
        assert len(ran()) == before + 3

    def test_what_starts_from_a_row_waits_for_it_and_fails_with_it(self, grid, photos, fake, tmp_path):
        then = 'dict(train="l_to_ab", data="{}", overrides=["init={{ours}}/backbone.safetensors"])'
        text = grid.read_text().replace("ours=ours)", f"ours=ours, then={then.format(photos)})")
        grid.write_text(text.replace("seeds = (0, 1)", "seeds = (0,)"))
        ran, work = fake(broken="ours-backbone-seed0"), tmp_path / "work"
        tasks = plan(grid, work)
        failed = run_grid(tasks, work, slots=2)
        assert {task.row for task in failed} == {"ours", "then"}
        assert len(failed) == 6
        fake()
        assert run_grid(tasks, work, slots=2) == []
        names = [name.rpartition("-")[0] for name, *_ in ran()]
        ours = [place for place, name in enumerate(names) if name == "ours-backbone-seed0"]
        assert len(ours) == 2
        assert names.index("then-backbone-seed0") > ours[1]

    @pytest.mark.slow
    def test_killed_and_started_again_nothing_is_lost_and_nothing_done_twice(self, grid, fake, tmp_path):
        ran, work = fake(seconds=2.0), tmp_path / "work"
        child = textwrap.dedent(f"""
            import sys
            from pathlib import Path
            from transfer.compare.run import run_grid
            from transfer.compare.grid import Task, plan
            original = Task.command
            Task.command = lambda self: [sys.executable, {str(tmp_path / "fake.py")!r}, *original(self)[3:]]
            run_grid(plan(Path({str(grid)!r}), Path({str(work)!r})), Path({str(work)!r}), slots=2)
        """)
        process = subprocess.Popen([sys.executable, "-c", child], cwd=REPOSITORY)
        while len(ran()) < 5:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        # What it had started runs on, keeps its slot, and is waited for.
        tasks = plan(grid, work)
        assert run_grid(tasks, work, slots=2) == []
        names = [name for name, *_ in ran()]
        assert sorted(names) == sorted(task.folder.name for task in tasks)
        for task in tasks:
            if task.product == "results.jsonl":
                assert len((task.folder / "results.jsonl").read_text().splitlines()) == 1

    def test_processes_end_with_an_interrupted_comparison(self, grid, fake, tmp_path, monkeypatch):
        fake(seconds=60.0)
        spawned = []
        spawn = compare._spawn
        monkeypatch.setattr(compare, "_spawn", lambda *words: spawned.append(spawn(*words)) or spawned[-1])
        sleep, interrupts = time.sleep, iter([KeyboardInterrupt])

        def interrupted_once(seconds):
            for interrupt in interrupts:
                raise interrupt
            sleep(seconds)

        monkeypatch.setattr(time, "sleep", interrupted_once)
        with pytest.raises(KeyboardInterrupt):
            run_grid(plan(grid, tmp_path / "work"), tmp_path / "work", slots=2)
        assert len(spawned) == 2
        assert all(process.returncode == -signal.SIGTERM for process in spawned)

    @pytest.mark.parametrize("name", ["GPUS", "NNODES"])
    def test_a_cell_is_one_process(self, name, tmp_path, monkeypatch):
        monkeypatch.setenv(name, "2")
        with refused(name, received="2", allowed="--jobs"):
            run_grid([], tmp_path, slots=1)


def test_the_live_table_says_what_waits_runs_failed_and_scored(grid, fake, tmp_path):
    fake(broken="ours-probe-seed0")
    work = tmp_path / "work"
    tasks = plan(grid, work)
    chosen = [task for task in tasks if task.seed == 0]
    failed = run_grid(chosen, work, slots=1, live=True)
    waiting = next(task for task in tasks if task.name == "ours seg seed 1")
    running = next(task for task in tasks if task.name == "ours probe seed 1")
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    now = compare.Running(running, process, 0, (), began=time.monotonic() - 75)
    table = status_table(tasks, [now], failed)
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    assert [column.header for column in table.columns] == ["backbone", "seed", "probe", "seg", "backbone"]
    assert ("random", "0", "[green]40.0[/]", "[green]40.0[/]", "") in rows
    assert ("ours", "0", "[red]failed[/]", "[green]40.0[/]", "[green]done[/]") in rows
    assert ("ours", "1", "[yellow]75 s[/]", "[dim]waiting[/]", "[dim]waiting[/]") in rows
    assert not waiting.done


def test_of_a_sweep_of_temperatures_the_runs_own_decoding_is_shown(grid, tmp_path):
    (task,) = (task for task in plan(grid, tmp_path / "work") if task.name == "random probe seed 0")
    swept = {"photos": 90.0, "T=0.1": 88.0, "T=1": 91.0}
    scores = [score(stage="colorization", metric="auc", setting=s, value=v) for s, v in swept.items()]
    append_scores(task.folder / "results.jsonl", scores)
    table = status_table([task], [], [])
    assert [list(column.cells) for column in table.columns] == [["random"], ["0"], ["[green]90.0[/]"]]


def test_of_several_layers_the_deepest_is_shown_with_its_name(grid, tmp_path):
    work = tmp_path / "work"
    (task,) = (task for task in plan(grid, work) if task.name == "random probe seed 0")
    layers = [score(setting=layer, value=value) for layer, value in {"conv1": 30.0, "conv5": 45.25}.items()]
    append_scores(task.folder / "results.jsonl", layers)
    table = status_table([task], [], [])
    assert [list(column.cells) for column in table.columns] == [["random"], ["0"], ["[green]conv5 45.2[/]"]]
