"""Files of the code that named classes by their modules: they load, share tables with new scores, and go on.

tests/earlier/README.md says how they were made. What computed something else than it should have has another name
today; scores and unfinished runs of it stay apart from new ones.
"""

import hashlib
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from earlier.make_photos import make_photos
from safetensors.torch import load_file

from pretext import old_names
from pretext.__main__ import main as pretext_main
from pretext.backbones.checkpoint import load_backbone
from pretext.config import load_config
from transfer.__main__ import main as transfer_main
from transfer.judged import recipe_id
from transfer.protocols.table import FORMER
from transfer.report.tables import collect_results
from transfer.scores.outcomes import OUTCOMES_NAME, load_outcomes
from transfer.scores.score import IDENTITY, read_scores

EARLIER = Path(__file__).parent / "earlier"
COLORIZATION, ROTATION = (f"finished_{name}/backbone.safetensors" for name in ("colorization", "rotation"))
#: For each backbone the SHA-256 of its weights and of its recipe, as the earlier code gave them.
BACKBONES = {
    COLORIZATION: (
        "fc005e0fa1657e87160dbebe09e1205b32f9ca165c091fb6304b4d20b25a814f",
        "ddfe3b969d5167d395c33af0d3295b6242886f18000accb6e0a06e6abc2ab7c4",
    ),
    ROTATION: (
        "0bec2d9d4e241fe8a466fab66337fa55757785b5be15d840b577b190892d4f89",
        "dc35eeddefaa1c8b30a98a4ad386220f087e7b6796a85c00b747ccb53a395573",
    ),
    f"random:{COLORIZATION}": (
        "e012e93fad74a02deca0285b1a6b32c06b4b6b03e727c33db6bd4b73dfa9523b",
        "978ace52e41f6393716a84baf94004dd324a651e88aa0d0ee681cf04e12371fa",
    ),
    f"random:{ROTATION}": (
        "450d424e101f22194e91a665dd12392af3eb2e0e13f08f4f9aceae117b95bbaf",
        "ab7495d67f964e2455867706e74fd20254dcced9828f056dd0fd507e1f7b738d",
    ),
    "random:alexnet": (
        "13552cdd4ef82af2b37bfd30e8c95022c8cb11c33143e57c271ae9ce71fe1723",
        "7e512bc45567989012c05d98b5b6c4d5b49422439c8c73336cd303edd5bb0405",
    ),
    "random:alexnet:rgb": (
        "3ace415436f703fc9e8cf8d384e179dc164b8c8d865b7bed32ef5d1227b7ae6b",
        "ef2f01c219962e4f88174c714a834341df0192b0829604cd878d6d8b697c46b4",
    ),
}
_PROBE = "view.size=64 view.resize=64 batch_size=4 epochs=2 workers=0 --data labelled"
_SPLITBRAIN = "--protocol splitbrain2017 batch_size=4 scale=4.3e-5 workers=0 --data labelled"
_GOYAL = "batch_size=4 scale=2e-5 workers=0 --data labelled"
_CLASSIFY = (
    "view.size=64 view.resize=64 epochs=None steps=6 batch_size=4 fc_channels=12 fc6_size=2 workers=0"
    " --data VOCdevkit"
)
_KRAHENBUHL = (
    "--protocol krahenbuhl2016 train_split=train test_split=val batch_size=4 scale=5e-5 fc_channels=12 workers=0"
    " --data VOCdevkit"
)
_SEGMENT = "crop=48 batch_size=2 steps=6 head.channels=8 workers=0 --data VOCdevkit"
#: The commands behind the scores in earlier/stages, as they are spelled today.
SCORED = (
    f"linear-probe conv5 {COLORIZATION} {_PROBE}",
    f"linear-probe conv5 random:{COLORIZATION} {_PROBE}",
    f"linear-probe conv5 random:alexnet {_PROBE}",
    f"linear-probe conv5 {ROTATION} {_PROBE} --seed 1",
    f"linear-probe conv5 {COLORIZATION} {_SPLITBRAIN}",
    f"linear-probe conv5 {ROTATION} {_SPLITBRAIN}",
    f"voc-classification {COLORIZATION} {_CLASSIFY}",
    f"voc-classification random:{COLORIZATION} {_CLASSIFY}",
    f"voc-classification {ROTATION} {_CLASSIFY}",
    f"voc-classification {ROTATION} {_KRAHENBUHL}",
    f"voc-svm {ROTATION} layers=conv5 size=64 workers=0 --data VOCdevkit",
    f"voc-segmentation {ROTATION} {_SEGMENT}",
)
#: Those of them whose resize or crop was not the papers', and which today do something else by another name.
MENDED = (*SCORED[:6], SCORED[9])
_UNFINISHED_PROBE = f"linear-probe conv5 {ROTATION} {_SPLITBRAIN} checkpoint_interval=4"
#: By their folders: stages that were killed after step 4 of 6, and the metric of theirs in earlier/stages.
UNFINISHED = {
    "unfinished_classification": (
        f"voc-classification {ROTATION} {_CLASSIFY} checkpoint_interval=4",
        "mean_ap_voc07",
    ),
    "unfinished_segmentation": (f"voc-segmentation {ROTATION} {_SEGMENT} checkpoint_interval=4", "mean_iou"),
}

pytestmark = pytest.mark.usefixtures("one_thread")


def is_same_machine():
    """Whether the files were made on such a processor, by such a torch: there all digits are the same."""
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
        cpu = {
            name.strip(): value.strip() for name, _, value in (x.partition(":") for x in first.split("\n"))
        }
        kind = [cpu[key] for key in ("vendor_id", "cpu family", "model", "stepping", "flags")]
    except (OSError, KeyError):
        return False
    digest = hashlib.sha256(json.dumps(kind).encode()).hexdigest()[:16]
    release = torch.__version__.partition("+")[0]
    return digest == "11d882f6ef0c44b6" and release == "2.15.0" and not torch.cuda.is_available()


@pytest.fixture
def earlier(tmp_path, monkeypatch):
    """The current folder, with a copy of the earlier files and with the photos that they were made from."""
    shutil.copytree(EARLIER, tmp_path, dirs_exist_ok=True)
    zipfile.ZipFile(EARLIER / "checkpoints.zip").extractall(tmp_path)
    make_photos(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def steps(monkeypatch):
    """Grows by one with each step that is trained."""
    taken, backward = [], torch.Tensor.backward

    def counted(tensor, *args, **kwargs):
        taken.append(tensor.detach())
        backward(tensor, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "backward", counted)
    return taken


def key(score):
    """What two scores of one cell and run have in common, but for the config."""
    return tuple(getattr(score, name) for name in IDENTITY)


def is_mended(score):
    """Whether an earlier score was made by what has another name today."""
    return any(score.config.get(part, {}).get("type") in old_names.MENDED for part in ("reduction", "view"))


def earlier_scores(former=False):
    """The scores of today's protocols, or those of a protocol that was removed."""
    scores = read_scores([EARLIER / "stages" / "results.jsonl"])
    return [score for score in scores if (score.config["protocol"] in FORMER) == former]


def test_the_photos_are_those_of_before(tmp_path):
    make_photos(tmp_path)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    hashes = [(path.relative_to(tmp_path), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]
    listed = "".join(f"{path.as_posix()} {digest}\n" for path, digest in hashes)
    assert (
        hashlib.sha256(listed.encode()).hexdigest()
        == "e0496827962348a46ba6acb76cebe0251377fd5bebdc7e3e5db883888cc6426d"
    )


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_load_and_have_their_recipes(name, earlier):
    loaded = load_backbone(name)
    assert (loaded.sha256, recipe_id(loaded)) == BACKBONES[name]


@pytest.mark.parametrize(
    ("name", "types"),
    [
        (COLORIZATION, ("RandomCrop", "colorization", "AdamW")),
        (ROTATION, ("RandomResizedCrop", "rotation", "SGD")),
    ],
)
def test_headers_are_read_with_todays_names(name, types):
    config = load_backbone(str(EARLIER / name)).provenance.config
    assert tuple(config[key]["type"] for key in ("view", "method", "optimizer")) == types
    written = json.loads((EARLIER / name).with_name("config.json").read_text())["config"]
    assert all("." in written[key]["type"] for key in ("view", "method", "optimizer"))


def test_configs_are_read_with_todays_names():
    config = load_config("pretext", str(EARLIER / "config_rotation.py"))
    assert [config[key]["type"] for key in ("view", "method", "optimizer")] == [
        "RandomResizedCrop",
        "rotation",
        "SGD",
    ]


@pytest.mark.parametrize("method", ["colorization", "rotation"])
def test_a_finished_run_is_found_finished(method, earlier, steps):
    folder = Path(f"finished_{method}")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert pretext_main(f"train config_{method}.py --data photos --work-dir {folder}".split()) == 0
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert not steps


@pytest.mark.parametrize("method", ["colorization", "rotation"])
def test_an_interrupted_run_goes_on(method, earlier, steps):
    folder = Path(f"interrupted_{method}")
    assert pretext_main(f"train config_{method}.py --data photos --work-dir {folder}".split()) == 0
    assert len(steps) == 2
    now, whole = folder / "backbone.safetensors", Path(f"finished_{method}/backbone.safetensors")
    if is_same_machine():
        assert load_backbone(str(now)).sha256 == load_backbone(str(whole)).sha256
    torch.testing.assert_close(load_file(now), load_file(whole), rtol=1e-3, atol=1e-4)
    assert replace(load_backbone(str(now)).provenance, versions={}) == replace(
        load_backbone(str(whole)).provenance, versions={}
    )


@pytest.mark.parametrize("folder", UNFINISHED)
def test_an_unfinished_stage_goes_on(folder, earlier, steps):
    command, metric = UNFINISHED[folder]
    assert list(Path(folder).rglob("*.pth"))
    assert transfer_main([*command.split(), "--work-dir", folder]) == 0
    assert len(steps) == 2
    assert not list(Path(folder).rglob("*.pth"))
    (now,) = (score for score in read_scores([Path(folder) / "results.jsonl"]) if score.metric == metric)
    whole = next(score for score in earlier_scores() if key(score) == key(now))
    if is_same_machine():
        assert now.value == whole.value


def test_an_unfinished_stage_that_was_mended_starts_anew(earlier, steps):
    folder = Path("unfinished_probe")
    before = {path: path.read_bytes() for path in folder.rglob("*.pth")}
    assert transfer_main([*_UNFINISHED_PROBE.split(), "--work-dir", str(folder)]) == 0
    assert len(steps) == 6
    assert before
    assert {path: path.read_bytes() for path in folder.rglob("*.pth")} == before


def test_mended_scores_share_no_column_with_earlier_ones(earlier):
    scores = [score for score in earlier_scores() if is_mended(score)]
    assert len(scores) == 8
    for command in MENDED:
        assert transfer_main([*command.split(), "--work-dir", "again"]) == 0
    found = read_scores([Path("again/results.jsonl")])
    # Protocol, data, splits and seeds are the same; the config alone tells them apart.
    assert {key(score) for score in scores} <= {key(score) for score in found}
    both = collect_results([*scores, *found])
    parts = [collect_results(part) for part in (scores, found)]
    assert len(both.scores) == sum(len(part.scores) for part in parts)
    assert sorted(map(repr, both.columns)) == sorted(
        repr(column) for part in parts for column in part.columns
    )
    told = {both.config_difference(benchmark) for benchmark in both.benchmarks}
    assert told == {
        *("reduction.type=BilinearResize", "reduction.type=TentResize"),
        *("view.type=RandomScaleCrop", "view.type=RandomWindowCrop"),
    }


def test_new_scores_take_the_places_of_earlier_ones(earlier):
    scores = [score for score in earlier_scores() if not is_mended(score)]
    for command in sorted({*SCORED} - {*MENDED}):
        assert transfer_main([*command.split(), "--work-dir", "again"]) == 0
    found = read_scores([Path("again/results.jsonl")])
    values = {key(score): score.value for score in found}
    assert values.keys() >= {key(score) for score in scores}
    if is_same_machine():
        assert {key(score): score.value for score in scores}.items() <= values.items()
    # Each earlier score gives way to a new one in its cell.
    results, alone = collect_results([*scores, *found]), collect_results(found)
    assert len(results.scores) == len(alone.scores)
    assert (results.rows, results.columns, results.cells) == (alone.rows, alone.columns, alone.cells)
    # One for each stage and protocol.
    assert len(results.benchmarks) == 3


def test_scores_of_a_protocol_that_is_no_more_keep_a_column_of_their_own(earlier, capsys):
    scores = earlier_scores(former=True)
    assert {score.protocol for score in scores} == {"goyal2019 x2e-05 changed"}
    for protocol in FORMER["goyal2019"]:
        command = f"linear-probe conv5 {ROTATION} --protocol {protocol} {_GOYAL} --work-dir again"
        assert transfer_main(command.split()) == 0
    found = read_scores([Path("again/results.jsonl")])
    results = collect_results([*scores, *found])
    assert [b.protocol for b in results.benchmarks] == [
        f"{protocol} x2e-05 changed" for protocol in ("goyal2019", *FORMER["goyal2019"])
    ]
    assert len(results.scores) == len(scores) + len(found)
    assert transfer_main(["report", "--work-dir", "."]) == 0
    told = capsys.readouterr().out
    assert "goyal2019 x2e-05 changed" in told


def test_a_new_seed_goes_into_the_cell_of_earlier_scores(earlier):
    for command in (SCORED[7], SCORED[8]):
        assert transfer_main([*command.split(), "--seed", "7", "--work-dir", "again"]) == 0
    scores = earlier_scores()
    metrics = {score.metric for score in scores}
    found = [score for score in read_scores([Path("again/results.jsonl")]) if score.metric in metrics]
    cells = collect_results([*scores, *found]).cells
    assert len(cells) == len(collect_results(scores).cells)
    assert sum(len(cell.seeds) == 2 for cell in cells.values()) == len(found)


def test_earlier_scores_are_reported(earlier, capsys):
    assert transfer_main(["report", "--work-dir", "stages"]) == 0
    assert "rotation_tiny" in capsys.readouterr().out
    outcomes = sorted(Path("stages/runs").glob(f"*/{OUTCOMES_NAME}"))
    by_run = {score.run: score for score in earlier_scores() if score.metric == "mean_ap_voc07"}
    assert len(outcomes) == 2
    for path in outcomes:
        score = by_run[path.parent.name]
        kept = load_outcomes(path, score.setting, score.metric)
        assert kept.metric() == pytest.approx(score.value)
