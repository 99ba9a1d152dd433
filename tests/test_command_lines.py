"""Help and wrong words are answered at once: nothing that takes seconds to import is imported for them."""

import json
import os
import subprocess
import sys

import pytest

from pretext.__main__ import COMMANDS as MAKING
from pretext.__main__ import main
from pretext.backbones.checkpoint import Provenance, build, save_backbone
from pretext.config import config_names, find_config, read_config
from pretext.files import write_whole
from transfer.__main__ import COMMANDS as JUDGING
from transfer.stage import STAGES

#: Runs command lines, one after the other; says for each the exit code, what it printed, and what it imported first.
DRIVER = """
import contextlib, io, json, sys

HEAVY = ("torch", "torchvision", "numpy", "PIL", "mmengine")
answers = []
for program, *words in json.load(sys.stdin):
    before = set(sys.modules)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if program == "pretext":
                from pretext.__main__ import main
                code = main(words)
            elif program == "transfer":
                from transfer.__main__ import main
                code = main(words)
            else:
                from transfer.console import main
                sys.argv = [program, *words]
                code = main()
        except SystemExit as end:
            code = end.code
    heavy = [name for name in HEAVY if name in sys.modules and name not in before]
    answers.append({"code": code, "out": out.getvalue(), "err": err.getvalue(), "heavy": heavy})
print(json.dumps(answers))
"""
PROGRAMS = ("pretext", "transfer", "pretext-transfer")
#: Longer than the name of a file may be.
LONG = "a" * 300
#: Words that come before the overrides of a stage whose backbone and layers are there.
STAGE_WORDS = {name: (["conv1"] if stage.layers == "argument" else []) for name, stage in STAGES.items()}
#: Stages whose configs once had other names.
FIRST_STAGES = ("linear-probe", "voc-classification", "voc-svm", "voc-detection", "voc-segmentation")
#: Words that ask a stage for a layer that there is not.
LAYERS = {
    name: ["conv9", "random:alexnet"] if stage.layers == "argument" else ["random:alexnet", "layers=conv9"]
    for name, stage in STAGES.items()
    if stage.layers
}

HELP = [
    *((program, option) for program in PROGRAMS for option in ("--help", "--version")),
    *(("pretext", name, "--help") for name in MAKING),
    *(("transfer", name, "--help") for name in JUDGING),
    *(("pretext-transfer", name, "--help") for name in (*MAKING, *JUDGING)),
    *(("transfer", "study", step, "--help") for step in ("make", "serve", "report")),
    ("transfer", "protocols"),
    ("transfer", "protocols", "splitbrain2017"),
]


def wrong_words():
    """Command lines, each with what its error must name."""
    for program in PROGRAMS:
        yield (program,), ["COMMAND"]
        yield (program, "gone"), ["gone", "train" if program == "pretext" else "linear-probe"]
        yield (program, "--gone"), ["COMMAND"]
    train = ("pretext", "train")
    yield (*train, "rotaton"), ["rotaton", "did you mean rotation"]
    yield (*train, "gone.py"), ["gone.py", "rotation"]
    yield (*train, "rotation", "gone"), ["gone", "imagenette128"]
    yield (*train, "rotation", "voc256"), ["rotation", "voc256"]
    yield (*train, "rotation", "toyworld", "more"), ["rotation toyworld more"]
    yield (*train, "pretext/rotation_alexnet_imagenette128"), ["write rotation imagenette128"]
    yield (*train, "optimiser.lr=1"), ["optimiser.lr", "did you mean optimizer.lr"]
    yield (*train, "epochs=many"), ["epochs", "many"]
    yield (*train, "rotation", "--data", "gone"), ["gone", "PRETEXT_DATA"]
    yield (*train, "zhang2016_vgg"), ["imagenet/train", "PRETEXT_DATA"]
    yield (*train, "--seed", "-1"), ["--seed", "-1"]
    yield (*train, "--data", LONG), [LONG, "too long"]
    yield (*train, f"{LONG}.py"), [LONG, "too long"]
    yield ("pretext", "export", LONG, "--out", "a.pth"), [LONG, "too long"]
    yield (*train, "--work-dir", ""), ["--work-dir"]
    yield (*train, "steps=0", "epochs=None"), ["steps", "0"]
    yield (*train, "backbone={}"), ["backbone", "architecture"]
    yield (*train, "short.py"), ["without", "data"]
    yield (*train, "--gone"), ["--gone"]
    yield (*train, "--dta", "photos"), ["--dta", "did you mean --data or"]
    yield (*train, "--steps", "20"), ["--steps", "or the setting steps=...?"]
    yield ("pretext", "prior", "gone", "--out", "prior.json"), ["gone", "PRETEXT_DATA"]
    yield ("pretext", "prior", "gone"), ["--out"]
    yield ("pretext", "initialize", "kmeans", "gone", "--out", "a.safetensors"), ["gone", "PRETEXT_DATA"]
    yield ("pretext", "tracks", "gone", "--out", "tracks"), ["gone", "PRETEXT_DATA"]
    colorize = ("pretext", "colorize", "made.safetensors")
    yield colorize, ["last_colorizer", "colorizer.safetensors"]
    yield ("pretext", "colorize", "gone"), ["gone", "PRETEXT_DATA"]
    yield ("pretext", "colorize"), ["PHOTOS"]
    yield (*colorize, "--model", "gone"), ["gone", "colorizer.safetensors"]
    yield (
        (*colorize, "--model", "made.safetensors"),
        ["made.safetensors", "a backbone file", "colorizer.safetensors"],
    )
    yield (*colorize, "--out", ""), ["--out"]
    yield (*colorize, "--decode", "vivid"), ["vivid", "annealed", "coherent"]
    yield (*colorize, "--temperature", "0"), ["temperature", "0"]
    yield (*colorize, "--samples", "2"), ["annealed", "coherent"]
    yield (*colorize, "--upsampling", "nearest"), ["nearest", "bilateral"]
    yield (*colorize, "--format", "tiff"), ["tiff", "jpeg"]
    yield (*colorize, "--size", "0"), ["size", "0"]
    yield ("pretext-transfer", "colorize", "made.safetensors", "--seed", "-1"), ["--seed", "-1"]
    yield ("pretext", "toyworld"), ["out"]
    yield ("pretext", "permutations", "--count", "many", "--out", "a.json"), ["--count", "many"]
    yield ("pretext", "export", "gone.safetensors", "--out", "a.pth"), ["gone.safetensors", "alexnet"]
    yield ("pretext", "gray", "gone.safetensors", "--out", "a.safetensors"), ["gone.safetensors", "alexnet"]
    yield ("pretext", "export", "random:resnet", "--out", "a.pth"), ["random:resnet", "alexnet"]
    yield ("pretext", "export", "random:alexnet", "--out", "a.pth", "--format", "zip"), ["zip", "onnx"]
    onnx = ("pretext", "export", "random:alexnet", "--format", "onnx")
    yield (*onnx, "--out", "a.onnx", "--layers", "conv9"), ["conv9", "conv5"]
    yield (*onnx, "--out", "a.pth"), [".pth", ".onnx"]
    yield (
        ("pretext", "import", "gone.pth", "--kind", "rotnet-alexnet", "--out", "a.safetensors"),
        ["gone.pth"],
    )
    for name, words in STAGE_WORDS.items():
        yield from wrong_words_of_a_stage(name, ("transfer", name, *words))
    for name, words in LAYERS.items():
        yield ("transfer", name, *words), ["random:alexnet", "conv9", "conv1"]
        of_file = [word.replace("random:alexnet", "made.safetensors") for word in words]
        yield ("transfer", name, *of_file), ["made.safetensors", "conv9", "conv1"]
    yield ("transfer", "linear-probe", "conv1", "random:alexnet", "layers=conv2"), ["conv1", "layers=conv2"]
    yield ("transfer", "protocols", "gone"), ["gone", "splitbrain2017"]
    yield (
        ("transfer", "linear-probe", "conv5", "random:alexnet", "--protocol", "goyal2019"),
        ["goyal2019_colorization", "goyal2019_jigsaw"],
    )
    yield ("transfer", "compare", "gone"), ["gone", "methods_short"]
    yield ("transfer", "compare", "small", "--jobs", "0"), ["--jobs"]
    yield ("transfer", "compare", "small", "--work-dir", ""), ["--work-dir"]
    yield ("transfer", "report", "--work-dir", " "), ["--work-dir"]
    yield ("transfer", "report", "gone"), ["gone", "field=value"]
    yield ("transfer", "report", "--seed", "one"), ["--seed", "one"]
    yield ("transfer", "study"), ["make|serve|report"]
    make = ("transfer", "study", "make")
    yield (*make, "gone", "--truth", "."), ["--out"]
    yield (*make, "gone", "--truth", ".", "--out", "study"), ["gone"]
    yield (*make, "a=.", "a=..", "--truth", ".", "--out", "study"), ["two systems", "NAME=FOLDER"]
    yield (*make, "a=.", "--truth", "gone", "--out", "study"), ["gone"]
    yield (*make, "a=.", "--truth", ".", "--out", "study", "--vigilance", "1"), ["vigilance", "1"]
    yield (*make, "a=.", "--truth", ".", "--out", "study", "--design", "some"), ["--design", "some"]
    yield ("transfer", "study", "serve", "gone"), ["gone", "study.json"]
    yield ("transfer", "study", "serve", "gone", "--port", "65536"), ["--port", "65536"]
    yield ("transfer", "study", "report", "gone"), ["gone", "study.json"]
    yield ("transfer", "study", "report", "gone", "--pass-share", "2"), ["--pass-share", "2"]
    yield ("pretext-transfer", "train", "gone"), ["gone", "rotation"]
    yield ("pretext-transfer", "voc-svm", "random:alexnet", "--data", "gone"), ["gone", "PRETEXT_DATA"]


def has_section(data, section):
    return section in read_config(find_config("data", data))


def wrong_words_of_a_stage(name, before):
    if STAGES[name].judges == "backbone":
        known = (*before, "random:alexnet")
        yield before, ["last_backbone", "random:alexnet"]
        yield (*before, "gone.safetensors"), ["gone.safetensors", "alexnet"]
        yield (*before, "random:resnet"), ["random:resnet", "alexnet"]
        yield (*before, "random:gone.safetensors"), ["gone.safetensors"]
    else:
        known = (*before, "gray")
        yield before, ["last_colorizer"]
        yield (*before, "gone.safetensors"), ["gone.safetensors", "random-photo"]
        yield (*before, "random:alexnet"), ["random:alexnet", "colorizer.safetensors"]
        yield (*before, "made.safetensors"), ["made.safetensors", "colorizer"]
    yield (*before, "pickled.pth"), ["pickled.pth", "pickled checkpoints"]
    yield (*known, "rest", "more"), ["rest", "more"]
    yield (*known, "protokol=1"), ["protokol", "protocol"]
    yield (*known, "workers=many"), ["workers", "many"]
    yield (*known, "protocol=rotnet2018"), ["protocol=rotnet2018", "--protocol"]
    yield (*known, "--protocol", "gone"), ["gone", name]
    yield (*known, "--config", "gone.py"), ["gone.py", STAGES[name].config]
    yield (*known, "--data", "gone"), ["gone", "PRETEXT_DATA"]
    silent = [data for data in config_names("data") if not has_section(data, STAGES[name].config)]
    if silent:
        yield (*known, silent[0]), [STAGES[name].config]
    yield (
        (*known, "toyworld", "--config", STAGES[name].config),
        ["toyworld", f"--config {STAGES[name].config}"],
    )
    if name in FIRST_STAGES:
        yield (*known, "--config", f"transfer/{STAGES[name].config}_gone"), ["write --protocol gone"]
    if STAGES[name].layers == "argument":
        yield (*before[:2], "random:alexnet"), ["random:alexnet", "LAYERS come first"]
    yield (*known, "--seed", "x"), ["--seed", "x"]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What all command lines answer, in one process for each program."""
    folder = tmp_path_factory.mktemp("words")
    backbone = build("alexnet", {"channels": (8, 8, 8, 8, 8)})
    save_backbone(backbone, folder / "made.safetensors", Provenance("random"))
    (folder / "pickled.pth").write_bytes(b"pickled")
    (folder / "short.py").write_text("epochs = 3\n")
    lines = [*HELP, *(words for words, _ in wrong_words())]
    environment = {name: value for name, value in os.environ.items() if name != "PRETEXT_DATA"}
    done = {}
    for program in PROGRAMS:
        own = [line for line in lines if line[0] == program]
        process = subprocess.run(
            [sys.executable, "-c", DRIVER],
            cwd=folder,
            env=environment,
            input=json.dumps(own),
            capture_output=True,
            text=True,
            check=True,
        )
        done |= dict(zip(own, json.loads(process.stdout), strict=True))
    assert sorted(path.name for path in folder.iterdir()) == ["made.safetensors", "pickled.pth", "short.py"]
    return done


@pytest.mark.parametrize("line", HELP, ids=" ".join)
def test_help_is_given_at_once(line, answers):
    answer = answers[line]
    assert answer["heavy"] == []
    assert answer["code"] == 0, answer["err"]
    assert answer["out"]
    assert answer["err"] == ""


@pytest.mark.parametrize(
    ("line", "names"), [pytest.param(line, names, id=" ".join(line)) for line, names in wrong_words()]
)
def test_wrong_words_are_told_at_once(line, names, answers):
    answer = answers[line]
    assert answer["heavy"] == []
    assert answer["code"] == 2, answer["err"]
    assert answer["out"] == ""
    assert all(name in answer["err"] for name in names), answer["err"]


def test_help_names_what_can_be_chosen(answers):
    train = answers["pretext", "train", "--help"]["out"]
    assert all(name in train for name in ("rotation", "zhang2016_vgg", "imagenette128"))
    probe = answers["transfer", "linear-probe", "--help"]["out"]
    assert all(name in probe for name in ("LAYERS", "goyal2019_jigsaw", "imagenette128"))
    assert not any(name in probe for name in ("krahenbuhl2016", "voc256"))


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_exit_code_is_that_of_the_process(program, tmp_path):
    start = (
        ["-m", program]
        if program != "pretext-transfer"
        else ["-c", "from transfer.console import main; main()"]
    )
    words = ["linear-probe", "gone", "gone"] if program == "transfer" else ["train", "gone"]
    done = subprocess.run(
        [sys.executable, *start, *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_the_last_backbone_may_lie_in_a_folder_of_any_name(tmp_path):
    backbone = tmp_path / os.fsdecode(b"caf\xe9") / "backbone.safetensors"
    save_backbone(build("alexnet", {"channels": (8, 8, 8, 8, 8)}), backbone, Provenance("random"))
    write_whole(tmp_path / "work_dirs" / "last_backbone", f"{backbone}\n")
    words = [sys.executable, "-m", "transfer", "linear-probe", "conv9"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "conv9; allowed are conv1" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "words",
    [
        ["transfer", "linear-probe", "conv9", "run"],
        ["pretext", "export", "run", "--format", "onnx", "--layers", "conv9", "--out", "b.onnx"],
    ],
    ids=["stage", "export"],
)
def test_the_folder_of_a_run_stands_for_its_backbone(words, tmp_path):
    backbone = build("alexnet", {"channels": (8, 8, 8, 8, 8)})
    save_backbone(backbone, tmp_path / "run" / "backbone.safetensors", Provenance("random"))
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "conv9; allowed are conv1" in done.stderr.splitlines()[-1]


def test_the_last_colorizer_is_noted_if_the_run_made_one(monkeypatch, photo_folder, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pretext.training.engine.pretrain", lambda *args, work_dir, **options: work_dir / "b")
    (tmp_path / "colors").mkdir()
    (tmp_path / "colors" / "colorizer.safetensors").touch()
    for work_dir in ("colors", "none"):
        words = ["train", "colorization", "--data", str(photo_folder), "--work-dir", work_dir]
        assert main(words) == 0
        noted = tmp_path / "colors" / "colorizer.safetensors"
        assert (tmp_path / "work_dirs" / "last_colorizer").read_text() == f"{noted}\n"
    assert (tmp_path / "work_dirs" / "last_backbone").read_text() == f"{tmp_path / 'none' / 'b'}\n"


def test_a_finished_run_is_no_error_where_the_last_backbone_cannot_be_noted(
    monkeypatch, photo_folder, tmp_path, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work_dirs").touch()  # where its folder should be
    monkeypatch.setattr("pretext.training.engine.pretrain", lambda *args, **options: tmp_path / "made")
    assert main(["train", "rotation", "--data", str(photo_folder), "--work-dir", "elsewhere"]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{tmp_path / 'made'}\n"
    assert "work_dirs/last_backbone" in printed.err
