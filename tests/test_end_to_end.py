"""The command lines as users call them: from photos to a table, and bad input to exit code 2."""

import json
import pickle
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_run import SMALL

from pretext.__main__ import main as pretext_main
from pretext.backbones.checkpoint import Provenance, load_backbone, save_backbone
from pretext.command_line import split_overrides
from pretext.data.toyworld import ToyworldSizes, render_toyworld
from pretext.errors import InputError
from transfer.__main__ import main as transfer_main

PROBE = ["view.size=64", "view.resize=64", "batch_size=16", "epochs=1", "workers=0"]


@pytest.fixture(scope="module")
def toyworld(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy") / "toyworld"
    render_toyworld(folder, sizes=ToyworldSizes.scaled(0.02), workers=1)
    return folder


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def train(*words):
    return pretext_main(["train", *SMALL, "init=he", *words])


def test_from_photos_to_a_table(toyworld, capsys):
    assert train("--data", str(toyworld / "unlabeled")) == 0
    backbone = capsys.readouterr().out.strip().splitlines()[-1]
    assert backbone == "work_dirs/colorization_alexnet_toyworld-unlabeled/backbone.safetensors"
    labeled = ["--data", str(toyworld / "labeled")]
    # Left out, the backbone is the last one pretrained.
    assert transfer_main(["linear-probe", "all", *PROBE, *labeled]) == 0
    assert "the last one pretrained" in capsys.readouterr().err
    assert transfer_main(["linear-probe", "all", "random:alexnet", *PROBE, *labeled]) == 0
    voc = ["--data", str(toyworld / "VOCdevkit"), "epochs=1", "workers=0"]
    assert (
        transfer_main(
            ["voc-classification", backbone, *voc, "view.size=64", "view.resize=64", "batch_size=5"]
        )
        == 0
    )
    assert transfer_main(["report"]) == 0
    table = capsys.readouterr().out
    assert "colorization" in table
    assert "random" in table
    lines = Path("work_dirs/linear_probe/results.jsonl").read_text().splitlines()
    scores = [json.loads(line) for line in lines]
    assert {(s["method"], s["setting"]) for s in scores} == {
        (method, f"conv{i}") for method in ("colorization", "random") for i in range(1, 6)
    }
    assert {s["metric"] for s in scores} == {"top1", "top5", "top1_best", "top5_best"}
    assert {(s["data"], s["pretrained_on"], s["processes"]) for s in scores} == {
        ("toyworld", "toyworld", 1),
        ("toyworld", None, 1),
    }
    assert Path("work_dirs/report/report.html").is_file()
    assert transfer_main(["report", "method=random"]) == 0
    assert "colorization" not in Path("work_dirs/report_method-random/report.md").read_text()
    assert "colorization" in Path("work_dirs/report/report.md").read_text()


def test_the_folder_of_a_run_says_what_it_started_from(photo_folder, capsys):
    words = ["train", *SMALL, "view.size=32", "view.resize=32", "--data", str(photo_folder)]
    plain = f"work_dirs/colorization_alexnet_{'-'.join(photo_folder.parts[-2:])}"
    first = f"{plain}_gaussian"
    for init, folder in (
        ("gaussian", first),
        ("he", plain),
        (f"{first}/backbone.safetensors", None),
    ):
        assert pretext_main([*words, f"init={init}"]) == 0
        backbone = Path(capsys.readouterr().out.strip().splitlines()[-1])
        if folder is None:
            sha256 = load_backbone(f"{first}/backbone.safetensors").sha256
            folder = f"{plain}_from-{sha256[:8]}"
        assert str(backbone.parent) == folder
        assert backbone.is_file()


def test_the_last_backbone_is_the_last_one_pretrained_wherever_it_lies(toyworld, photo_folder, capsys):
    labeled = ["--data", str(toyworld / "labeled")]
    assert train("--data", str(photo_folder)) == 0
    assert train("--data", str(photo_folder), "--work-dir", "elsewhere", "--seed", "1") == 0
    assert (
        Path("work_dirs/last_backbone").read_text()
        == f"{Path('elsewhere/backbone.safetensors').absolute()}\n"
    )
    assert transfer_main(["linear-probe", "conv1", *PROBE, *labeled]) == 0
    assert f"{Path('elsewhere').absolute()}/backbone.safetensors (the last one" in capsys.readouterr().err
    # A run that is found finished counts too.
    assert train("--data", str(photo_folder)) == 0
    place = "-".join(photo_folder.parts[-2:])
    backbone = Path(f"work_dirs/colorization_alexnet_{place}/backbone.safetensors")
    assert Path("work_dirs/last_backbone").read_text() == f"{backbone.absolute()}\n"
    backbone.unlink()
    assert transfer_main(["linear-probe", "conv1", *PROBE, *labeled]) == 2
    said = capsys.readouterr().err
    assert all(
        name in said for name in ("work_dirs/last_backbone", f"{Path.cwd()}/work_dirs/colorization_alexnet")
    )


def test_one_layer_scores_as_it_does_among_all(toyworld):
    words = ["random:alexnet", *PROBE, "--data", str(toyworld / "labeled")]
    assert transfer_main(["linear-probe", "conv3,conv5", *words, "--work-dir", "joint"]) == 0
    assert transfer_main(["linear-probe", "conv5", *words, "--work-dir", "alone"]) == 0

    def values(folder):
        lines = Path(folder, "results.jsonl").read_text().splitlines()
        return {s["metric"]: s["value"] for s in map(json.loads, lines) if s["setting"] == "conv5"}

    assert values("joint") == values("alone")


def test_the_prior_command_writes_a_prior(toyworld, capsys):
    assert (
        pretext_main(["prior", str(toyworld / "unlabeled"), "--out", "prior.json", "--max-photos", "20"]) == 0
    )
    assert "313 bins" in capsys.readouterr().out
    assert len(json.loads(Path("prior.json").read_text())["probabilities"]) == 313


def test_a_stage_leaves_its_resolved_config_and_its_log(toyworld):
    words = ["random:alexnet", *PROBE, "--data", str(toyworld / "labeled")]
    assert transfer_main(["linear-probe", "conv1", *words]) == 0
    assert transfer_main(["linear-probe", "conv1", *words, "--seed", "1"]) == 0
    # One that cannot be begun leaves nothing.
    assert transfer_main(["linear-probe", "conv9", *words]) == 2
    logs = {}
    for folder in Path("work_dirs/linear_probe/runs").iterdir():
        record = json.loads((folder / "config.json").read_text())
        assert folder.name.startswith(
            f"linear-probe-random-{record['backbone_sha256'][:8]}-seed{record['seed']}-"
        )
        assert (record["config"]["view"]["size"], record["config"]["epochs"]) == (64, 1)
        logs[record["config"]["layers"], record["seed"]] = (folder / "log.txt").read_text()
    assert logs.keys() == {("conv1", 0), ("conv1", 1)}
    assert "loss" in logs["conv1", 0]
    scores = map(json.loads, Path("work_dirs/linear_probe/results.jsonl").read_text().splitlines())
    for score in scores:
        assert f"{score['metric']:<12} {score['value']:6.2f}" in logs["conv1", score["seed"]]


def test_a_run_has_one_folder_whatever_its_method_is_called(toyworld):
    backbone = load_backbone("random:alexnet").backbone
    save_backbone(backbone, "odd.safetensors", Provenance("my method: a/b"))
    assert (
        transfer_main(
            ["linear-probe", "conv1", "odd.safetensors", *PROBE, "--data", str(toyworld / "labeled")]
        )
        == 0
    )
    (outcomes,) = Path("work_dirs").rglob("runs/*/outcomes.npz")
    assert outcomes.parent.name.startswith("linear-probe-my-method-a-b-")


def test_layers_given_twice_are_refused(toyworld, capsys):
    words = ["linear-probe", "conv1", "random:alexnet", "layers=conv2", "--data", str(toyworld / "labeled")]
    assert transfer_main(words) == 2
    said = capsys.readouterr().err
    assert all(name in said for name in ("conv1", "layers=conv2"))


def test_scores_that_cannot_be_written_are_still_told(toyworld, capsys, monkeypatch):
    def full(path, scores):
        raise InputError("no room")

    monkeypatch.setattr("transfer.run.append_scores", full)
    words = ["linear-probe", "conv1", "random:alexnet", *PROBE, "--data", str(toyworld / "labeled")]
    assert transfer_main(words) == 2
    assert "top1" in capsys.readouterr().out
    (log,) = Path("work_dirs/linear_probe/runs").glob("*/log.txt")
    assert "top1" in log.read_text()


def test_a_work_dir_that_cannot_be_written_is_told_before_the_stage(toyworld, capsys, monkeypatch):
    monkeypatch.setattr("transfer.stage.Stage.load", lambda stage: pytest.fail("the stage began"))
    Path("file").write_text("no folder")
    words = ["linear-probe", "conv1", "random:alexnet", "--data", str(toyworld / "labeled")]
    assert transfer_main([*words, "--work-dir", "file"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "file/runs" in said


def test_export_writes_torchvisions_names():
    assert pretext_main(["export", "random:alexnet", "--out", "weights.safetensors"]) == 0
    assert "features.0.weight" in load_file("weights.safetensors")
    assert pretext_main(["export", "random:alexnet", "--out", "weights.zip"]) == 2


def empty(tmp_path, photo_folder):
    (tmp_path / "data").mkdir()


def texts(tmp_path, photo_folder):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("no photo")


def truncated(tmp_path, photo_folder):
    (tmp_path / "data").mkdir()
    for photo in photo_folder.glob("*.jpg"):
        (tmp_path / "data" / photo.name).write_bytes(photo.read_bytes()[:400])


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (empty, ["photos", "data"]),
        (texts, ["photos", "data"]),
        (truncated, ["48 of 48"]),
    ],
)
def test_bad_photos_end_in_exit_code_two(make, names, tmp_path, photo_folder, capsys):
    make(tmp_path, photo_folder)
    assert train("--data", "data") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert all(name in error for name in names)
    assert not Path("work_dirs").exists()


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["optimizer.learning_rate=1"], ["optimizer.learning_rate", "optimizer.lr"]),
        (["gone.py"], ["gone.py", "rotation"]),
        (["rotation", "gone"], ["gone", "toyworld", "imagenette128"]),
        (["rotation", "voc256"], ["rotation", "voc256"]),
        (["rotation", "toyworld", "imagenette128"], ["rotation toyworld imagenette128"]),
        (
            ["pretext/rotation_alexnet_toyworld"],
            ["pretext/rotation_alexnet_toyworld", "write rotation toyworld"],
        ),
        (["--data", "gone"], ["gone"]),
        (["init=kmean"], ["init", "kmean", "kmeans"]),
        (["init=gone.safetensors"], ["gone.safetensors"]),
        (["method.prior=gone.json"], ["gone.json"]),
    ],
)
def test_bad_words_end_in_exit_code_two(words, names, photo_folder, capsys):
    data = [] if "--data" in words else ["--data", str(photo_folder)]
    assert train(*words, *data) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert all(name in error for name in names)
    assert not Path("work_dirs").exists()


def saved_backbone():
    save_backbone(load_backbone("random:alexnet").backbone, "good.safetensors", Provenance("colorization"))


def missing_key():
    saved_backbone()
    weights = load_file("good.safetensors")
    del weights["conv4.conv.weight"]
    with safe_open("good.safetensors", "pt") as file:
        save_file(weights, "bad.safetensors", file.metadata())


def pickled():
    Path("bad.safetensors").write_bytes(pickle.dumps({"weights": [1, 2]}))


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (missing_key, ["bad.safetensors", "conv4.conv.weight"]),
        (pickled, ["bad.safetensors", "pickled checkpoints"]),
        (lambda: None, ["bad.safetensors"]),
    ],
    ids=["missing key", "pickle", "missing file"],
)
def test_a_bad_backbone_scores_nothing(make, names, toyworld, capsys):
    make()
    words = ["linear-probe", "conv5", "bad.safetensors", *PROBE, "--data", str(toyworld / "labeled")]
    assert transfer_main(words) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert all(name in error for name in names)
    assert not Path("work_dirs").exists()


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["linear-probe", "conv9", "random:alexnet"], ["conv9", "conv1", "conv5"]),
        (["linear-probe", "conv5"], ["no backbone", "random:alexnet"]),
        (["linear-probe", "conv5", "random:alexnet", "--protocol", "krahenbuhl2016"], ["krahenbuhl2016", "rotnet2018"]),
        (["linear-probe", "conv5", "random:alexnet", "toyworld", "--protocol", "zhang2016"], ["toyworld", "zhang2016"]),
        (["linear-probe", "conv5", "random:alexnet", "b.safetensors"], ["data set", "b.safetensors", "imagenette128"]),
        (["linear-probe", "conv5", "random:alexnet", "--config", "gone.py"], ["gone.py"]),
        (["linear-probe", "conv5", "random:alexnet", "--config", "transfer/linear_probe_goyal2019"],
         ["write --protocol goyal2019_colorization or --protocol goyal2019_jigsaw"]),
        (["voc-classification", "random:alexnet", "train=fc9"], ["train", "fc9", "fc6-8"]),
        (["voc-classification", "random:alexnet", "workers=-1"], ["workers", "-1", "from 0"]),
        (["voc-segmentation", "random:alexnet", "workers=-1"], ["workers", "-1", "from 0"]),
        (["linear-probe", "conv5", "random:alexnet", "epochs=0"], ["epochs", "received 0", "from 1"]),
        (["linear-probe", "conv5", "random:alexnet", "batch_size=0"], ["batch_size", "received 0", "from 1"]),
        (["linear-probe", "conv5", "random:alexnet", "workers=-1"], ["workers", "-1", "from 0"]),
        (["linear-probe", "conv5", "random:alexnet", "batch_size=8", "optimizer.lr=-1.0"], ["-1.0"]),
        (["linear-probe", "conv5", "random:alexnet", "view.size=20"], ["alexnet", "view.size=20"]),
    ],
)  # fmt: skip
def test_bad_requests_score_nothing(words, names, toyworld, capsys):
    data = "labeled" if words[0] == "linear-probe" else "VOCdevkit"
    assert transfer_main([*words, "--data", str(toyworld / data)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert all(name in error for name in names)
    assert not Path("work_dirs").exists()


def test_a_seed_below_zero_is_an_error(capsys):
    with pytest.raises(SystemExit) as caught:
        train("--seed", "-1")
    assert caught.value.code == 2
    assert "--seed: received '-1', allowed are whole numbers from 0 to 2^32 - 1" in capsys.readouterr().err


def test_a_file_is_a_name_even_with_an_equals_sign():
    saved_backbone()
    Path("lr=1").mkdir()
    name = Path("good.safetensors").rename("lr=1/b.safetensors")
    assert split_overrides([str(name), f"random:{name}", "lr=2", "a=" + 300 * "1"], 2, "two names") == (
        [str(name), f"random:{name}"],
        ["lr=2", "a=" + 300 * "1"],
    )


def test_a_folder_is_a_name_even_with_an_equals_sign(tmp_path):
    for name in ("coloured/T=0.5", "lr=1"):
        Path(name).mkdir(parents=True)
    words = ["coloured/T=0.5", "./lr=1", str(tmp_path / "lr=1"), "lr=1", "coloured/T=0.4"]
    assert split_overrides(words, 3, "folders") == (words[:3], words[3:])


@pytest.mark.parametrize("stage", ["voc-classification", "voc-detection", "voc-segmentation"])
def test_a_voc_tree_without_lists_scores_nothing(stage, tmp_path, capsys):
    for year in (2007, 2012):
        (tmp_path / "data" / "VOCdevkit" / f"VOC{year}" / "JPEGImages").mkdir(parents=True)
    assert transfer_main([stage, "random:alexnet", "--data", "data"]) == 2
    assert "ImageSets" in capsys.readouterr().err
    assert not Path("work_dirs").exists()


def test_nothing_to_report_is_an_error(capsys):
    assert transfer_main(["report"]) == 2
    assert "work_dirs" in capsys.readouterr().err


@pytest.mark.slow
def test_a_full_disk_ends_in_exit_code_two_and_leaves_no_half_file(photo_folder):
    def small_files():
        # The kernel refuses to let a file grow beyond 1 MB, as a full disk would.
        resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))

    done = subprocess.run(
        [sys.executable, "-m", "pretext", "train", *SMALL, "--data", str(photo_folder)],
        capture_output=True,
        text=True,
        preexec_fn=small_files,
    )
    assert done.returncode == 2, done.stderr
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "step_00000002.pth" in error
    assert not list(Path("work_dirs").rglob("*.safetensors"))
    assert not list(Path("work_dirs").rglob("*.p*t*h*"))
