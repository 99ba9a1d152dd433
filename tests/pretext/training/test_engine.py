import json
import os
import shutil
import subprocess
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pretraining_runs import SMALL_WORDS, command, losses
from refusals import refused

from pretext.backbones.checkpoint import load_backbone
from pretext.backbones.classifier import load_classifier
from pretext.data.crops import center_crop
from pretext.data.sources import fingerprint, open_photos, spelled_fingerprint
from pretext.training import engine
from pretext.training.claim import sole_run
from pretext.training.engine import pretrain
from pretext.training.settings import PretrainingSettings


def test_training_learns_and_leaves_a_whole_folder(tiny_config, photo_folder, tmp_path):
    config = tiny_config("colorization", "steps=40", "preview_interval=20", "optimizer.lr=0.03")
    backbone = pretrain(config, work_dir=tmp_path / "run", data=str(photo_folder))
    history = losses(tmp_path / "run")
    assert len(history) == 40
    assert history[-5:].mean() < 0.7 * history[:5].mean()
    provenance = load_backbone(backbone).provenance
    assert (provenance.method, provenance.seed, provenance.step) == ("colorization", 0, 40)
    assert provenance.data == str(photo_folder)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"config.json", "prior.json", "backbone.safetensors", "color_grids", "step_00000040.pth"} <= names
    assert not {name for name in names if "lock" in name}
    assert len(list((tmp_path / "run" / "color_grids").glob("*.png"))) == 2
    assert list((tmp_path / "run").rglob("events.out.tfevents*"))


def test_a_run_by_labels_leaves_a_classifier(tiny_config, photo_folders, tmp_path):
    config = tiny_config("supervised", "method.num_classes=2", "steps=20", "batch_size=8")
    backbone = pretrain(config, work_dir=tmp_path / "run", data=str(photo_folders))
    classifier = load_classifier(tmp_path / "run" / "classifier.safetensors")
    assert classifier.classes == ("lying", "upright")
    assert classifier.provenance == load_backbone(backbone).provenance
    photos = open_photos(photo_folders)
    crops = torch.stack([center_crop(photos.image(k), 32, 32) for k in range(len(photos))])
    with torch.no_grad():
        found = classifier(crops).argmax(1)
    labels = torch.tensor(["upright" in photos.name(k) for k in range(len(photos))])
    assert (found == labels).float().mean() > 0.9


def test_seeds_differ_and_repeat(run_config, finished_run, photo_folder, tmp_path):
    again = pretrain(run_config, work_dir=tmp_path / "again", data=str(photo_folder))
    other = pretrain(run_config, work_dir=tmp_path / "other", seed=1, data=str(photo_folder))
    first, again, other = (
        load_backbone(path).sha256 for path in (finished_run / "backbone.safetensors", again, other)
    )
    assert first == again != other


def test_a_finished_run_is_left_alone(run_config, finished_run, photo_folder):
    backbone = finished_run / "backbone.safetensors"
    written = backbone.stat().st_mtime_ns
    assert pretrain(run_config, work_dir=finished_run, data=str(photo_folder)) == backbone
    assert backbone.stat().st_mtime_ns == written


def test_another_run_deletes_an_earlier_one_if_it_may(tiny_config, run_config, interrupted_run, photo_folder):
    (interrupted_run / "notes.txt").write_text("mine")
    (earlier,) = interrupted_run.glob("2*")
    # Folders of logs are called by the second, and two of these runs may begin in one.
    earlier = earlier.rename(earlier.with_name("20200101_000000"))
    (earlier / f"{next(earlier.glob('*.log')).name}").rename(earlier / "20200101_000000.log")
    config = tiny_config("colorization", "optimizer.lr=0.5")
    with refused(interrupted_run):
        pretrain(config, work_dir=interrupted_run, data=str(photo_folder))
    pretrain(config, work_dir=interrupted_run, data=str(photo_folder), fresh=True)
    assert '"lr": 0.5' in (interrupted_run / "config.json").read_text()
    assert (interrupted_run / "notes.txt").read_text() == "mine"
    assert [path.name for path in interrupted_run.glob("step_*")] == ["step_00000002.pth"]
    assert not earlier.exists()


def test_a_folder_of_something_else_is_refused_before_anything_is_written(
    tiny_config, photo_folder, tmp_path
):
    (tmp_path / "config.json").write_text('{"model": "bert", "hidden": 768}')
    with refused(tmp_path / "config.json"):
        pretrain(tiny_config(), work_dir=tmp_path, data=str(photo_folder))
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_the_seed_decides_all_that_a_new_method_holds(tiny_config):
    settings = PretrainingSettings.from_config(tiny_config("bigan"))
    states = []
    for seed, drawn_before in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(drawn_before)
        torch.rand(drawn_before)
        follows = torch.random.get_rng_state()
        states.append(engine.build_method(settings, seed).state_dict())
        assert torch.equal(torch.random.get_rng_state(), follows)
    first, again, other = states
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    drawn = [name for name, value in first.items() if not torch.equal(value, other[name])]
    assert {"backbone.conv1.conv.weight", "discriminator.head.2.parametrizations.weight.0._v"} <= set(drawn)


def test_gray_photos_add_no_loss(tiny_config):
    method = engine.build_method(PretrainingSettings.from_config(tiny_config()), 0)
    image = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8).expand(-1, 3, -1, -1)
    loss = method(image, torch.zeros(2, dtype=torch.long)).losses["loss_color"]
    loss.backward()
    assert loss == 0
    assert all(p.grad is None or not p.grad.any() for p in method.parameters())


def test_accumulated_steps_count_as_one_large_step(tiny_config, photo_folder, tmp_path):
    # Without batch norm, so that the batches do not see each other.
    common = [
        "method.loss=classification",
        "backbone.norm=none",
        "mixed_precision=None",
        "optimizer.type=SGD",
        "schedule.type=Constant",
        "schedule.warmup=0.0",
    ]
    once = tiny_config("colorization", *common, "batch_size=8", "steps=2")
    twice = tiny_config("colorization", *common, "batch_size=4", "steps=4", "accumulate=2")
    states = []
    for number, config in enumerate((once, twice)):
        path = pretrain(config, work_dir=tmp_path / str(number), data=str(photo_folder))
        states.append(load_backbone(path).backbone.state_dict())
    for name, weight in states[0].items():
        torch.testing.assert_close(weight, states[1][name], atol=1e-6, rtol=1e-5)


def test_only_clearly_too_many_unreadable_photos_are_refused_before_training(photo_list):
    looked_at = [int(999 * number / 63) for number in range(64)]
    engine._check_photos(open_photos(photo_list(1000, looked_at[:5])))
    with refused("broken0.jpg", "6 of 64", allowed="1%"):
        engine._check_photos(open_photos(photo_list(1000, looked_at[:6])))


def test_truncated_photos_are_found_before_anything_is_written(tiny_config, photo_folder, tmp_path):
    folder = tmp_path / "truncated"
    folder.mkdir()
    for photo in photo_folder.glob("*.jpg"):
        (folder / photo.name).write_bytes(photo.read_bytes()[:300])
    with refused("00.jpg", "truncated", "48 of 48"):
        pretrain(tiny_config(), work_dir=tmp_path / "run", data=str(folder))
    assert not (tmp_path / "run").exists()


def test_no_room_on_the_disk_is_found_before_training(tiny_config, photo_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("pretext.training.claim.shutil.disk_usage", lambda path: SimpleNamespace(free=10**4))
    with refused(tmp_path / "run", received="0 MB free"):
        pretrain(tiny_config(), work_dir=tmp_path / "run", data=str(photo_folder))
    assert not (tmp_path / "run").exists()


LEAST = "allowed are whole numbers from {} up"


@pytest.mark.parametrize(
    ("override", "names", "fields"),
    [
        (
            "schedule.type=Linear",
            ["schedule"],
            {"received": "Linear", "allowed": ("Bottou", "Constant", "Cosine", "Poly", "Step")},
        ),
        (
            "method.loss=l3",
            ["loss"],
            {"received": "l3", "allowed": "lab_marginals"},
        ),
        ("method.layer=conv9", ["layer", "alexnet"], {"received": "conv9", "allowed": "conv1"}),
        ("backbone.architecture=resnet", ["architecture"], {"received": "resnet", "allowed": "alexnet"}),
        ("backbone.input_space=rgb", ["input_space"], {"received": "rgb", "allowed": ("lightness",)}),
        ("name=random", ["name"], {"received": "random", "allowed": "None"}),
        ("name=' '", ["name"], {"received": " "}),
        ("schedule.warmup=1.0", ["schedule.warmup"], {"received": 1.0, "allowed": "from 0 to below 1"}),
        ("steps=0", ["steps"], {"received": 0, "allowed": LEAST.format(1)}),
        ("mixed_precision=bogus", ["mixed_precision"], {"received": "bogus", "allowed": "bfloat16"}),
        ("epochs=3", ["steps", "epochs"], {"received": "steps=2 and epochs=3"}),
        ("method.sigma=0", ["sigma", "0"], {}),
        ("method.neighbors=0", ["neighbors", "0"], {}),
        ("method.neighbors=400", ["neighbors", "400"], {}),
        ("method.rebalance_mix=2", ["rebalance_mix", "2.0"], {}),
        ("method.target_stride=0", ["target_stride"], {"received": 0, "allowed": LEAST.format(1)}),
        ("method.head_channels=-1", ["head_channels"], {"received": -1, "allowed": LEAST.format(0)}),
        ("backbone.groups=5", ["alexnet", "groups"], {}),
        ("batch_size=0", ["batch_size"], {"received": 0, "allowed": LEAST.format(1)}),
        ("batch_size=None", ["batch_size"], {"received": "None", "allowed": "a whole number"}),
        ("held_out=-1", ["held_out"], {"received": -1, "allowed": LEAST.format(0)}),
        ("accumulate=0", ["accumulate"], {"received": 0, "allowed": LEAST.format(1)}),
        ("workers=-1", ["workers"], {"received": -1, "allowed": LEAST.format(0)}),
        ("checkpoint_interval=0", ["checkpoint_interval"], {"received": 0, "allowed": LEAST.format(1)}),
        ("preview_interval=-1", ["preview_interval"], {"received": -1, "allowed": LEAST.format(0)}),
        ("max_grad_norm=-1", ["max_grad_norm"], {"received": -1, "allowed": "from 0.0 up"}),
        ("max_grad_norm=much", ["max_grad_norm"], {"received": "'much'"}),
        ("optimizer.lr=-1.0", ["optimizer.lr"], {"received": -1.0, "allowed": "from 0.0 up"}),
        ("view={}", ["class"], {"received": "one without a type: {}", "allowed": "RandomCrop"}),
        ("method.type=3", ["type"], {"received": "3", "allowed": "rotation"}),
        ("backbone={}", ["backbone", "architecture"], {}),
        ("optimizer={'type': 'AdamW', 'lr': 0.1, 'betas': ()}", ["AdamW"], {}),
    ],
)
def test_bad_settings_are_named(tiny_config, photo_folder, tmp_path, override, names, fields):
    config = tiny_config("colorization", override)
    with refused(*names, **fields):
        pretrain(config, work_dir=tmp_path / "run", data=str(photo_folder))
    assert not (tmp_path / "run").exists()


def test_two_players_share_no_norm_of_gradients(tiny_config, photo_folder, tmp_path):
    config = tiny_config("bigan", "max_grad_norm=1.0")
    with refused("max_grad_norm", "bigan", received=1.0, allowed=(None,)):
        pretrain(config, work_dir=tmp_path / "run", data=str(photo_folder))


@pytest.mark.parametrize("method", ["bigan", "counting", "egomotion", "jigsaw", "supervised", "tracking"])
def test_a_batch_of_one_photo_is_refused_where_photos_are_compared(
    method, tiny_config, photo_folder, tmp_path
):
    config = tiny_config(method, "batch_size=1")
    with refused("batch_size", method, received=1, allowed=LEAST.format(2)):
        pretrain(config, work_dir=tmp_path / "run", data=str(photo_folder))
    assert not (tmp_path / "run").exists()


def test_a_run_may_have_a_name_of_its_own(tiny_config, photo_folder, tmp_path):
    config = tiny_config("colorization", "name=l2", "method.loss=l2")
    backbone = pretrain(config, work_dir=tmp_path / "run", data=str(photo_folder))
    assert load_backbone(backbone).provenance.method == "l2"


@pytest.mark.parametrize(("method", "seen"), [("colorization", 2), ("counting", 6)])
def test_batch_norms_of_what_saw_patches_are_recalibrated_on_all_photos(
    method, seen, tiny_config, photo_folder, tmp_path
):
    # Two steps of training; 44 photos in batches of 8.
    config = tiny_config(method, "batch_size=8", "steps=2")
    backbone = load_backbone(pretrain(config, work_dir=tmp_path / "run", data=str(photo_folder))).backbone
    norms = [module for module in backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert [int(norm.num_batches_tracked) for norm in norms] == [seen] * 5


def test_batch_norms_are_recalibrated_on_photos_spread_over_all(
    tiny_config, photo_folder, tmp_path, monkeypatch
):
    seen = []
    monkeypatch.setattr(engine, "RECALIBRATION_PHOTOS", 8)
    monkeypatch.setattr(engine, "recalibrate_batch_norm", lambda backbone, batches: seen.extend(batches))
    config = tiny_config("counting", "batch_size=8", "steps=2")
    pretrain(config, work_dir=tmp_path / "run", data=str(photo_folder))
    photos = open_photos(photo_folder)
    view = config["view"]
    # Of 48 photos, the first and the last are held out.
    first, last = (center_crop(photos.image(index), view["size"], view["resize"]) for index in (1, 46))
    assert [len(batch) for batch in seen] == [8]
    assert torch.equal(seen[0][0], first)
    assert torch.equal(seen[0][-1], last)


def test_pairs_are_for_those_who_take_them(tiny_config, pair_lists, tmp_path):
    with refused("colorization", "list.tracks"):
        pretrain(tiny_config(), work_dir=tmp_path / "run", data=str(pair_lists["tracks"]))
    assert not (tmp_path / "run").exists()


def test_half_precision_needs_a_gpu(tiny_config, photo_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = tiny_config("colorization", "mixed_precision=float16")
    with refused("mixed_precision", "cpu", received="float16", allowed=(None, "bfloat16")):
        pretrain(config, work_dir=tmp_path / "run", data=str(photo_folder))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("method", "rate"), [("colorization", 1e-2), ("rotation", 1e-4)])
def test_two_processes_compute_what_one_does(method, rate, photo_folder, tmp_path):
    # By SGD. Adam divides by the size of a gradient, which enlarges rounding where that is tiny: by AdamW a single
    # process parts from itself, with two threads instead of one, by 3e-3 within twelve steps, as far as two processes
    # do; with eps=1e-4 both part by 7e-5, with eps=1e-2 by 1e-6. Rotation on few photos enlarges it by SGD too: at a
    # rate of 1e-2 a single process parts from itself, with two threads, by 1e-3.
    def run(gpus, batch_size):
        words = [word for word in SMALL_WORDS if not word.startswith("batch_size")]
        words += [f"batch_size={batch_size}", "steps=12", "optimizer.type=SGD", f"optimizer.lr={rate}"]
        work_dir = tmp_path / str(gpus)
        subprocess.run(
            command(method, *words, work_dir=work_dir, data=photo_folder),
            check=True,
            env={**os.environ, "GPUS": str(gpus), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        )
        assert load_backbone(work_dir / "backbone.safetensors").provenance.processes == gpus
        return losses(work_dir)

    torch.testing.assert_close(run(1, 8), run(2, 4), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("reason", ["photos", "folder"])
def test_bad_input_of_two_processes_is_said_once(reason, photo_folder, tmp_path):
    # All processes find too few photos; only the first finds the folder in use.
    words = ["steps=2", *(["batch_size=40"] if reason == "photos" else [])]
    in_use = sole_run(tmp_path / "run" / "run.lock", tmp_path / "run")
    with in_use if reason == "folder" else nullcontext():
        done = subprocess.run(
            command("colorization", *SMALL_WORDS, *words, work_dir=tmp_path / "run", data=photo_folder),
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, "GPUS": "2", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert all(
        part in line
        for part in (("46", "40", "2 processes") if reason == "photos" else (str(tmp_path / "run"),))
    )


def test_the_same_data_may_be_spelled_otherwise(tiny_config, photo_folder, tmp_path, monkeypatch):
    config, work_dir = tiny_config("colorization"), tmp_path / "run"
    backbone = pretrain(config, work_dir=work_dir, data=str(photo_folder))
    written = backbone.read_bytes()
    (tmp_path / "link").symlink_to(photo_folder)
    monkeypatch.chdir(photo_folder)
    for data in (f"{photo_folder}/", f"../{photo_folder.name}", str(tmp_path / "link"), "."):
        pretrain(config, work_dir=work_dir, data=data)
    config["data"] = str(photo_folder)
    pretrain(config, work_dir=work_dir)
    assert backbone.read_bytes() == written
    # Before the place was made one, a link's own name stood in the fingerprint.
    record = json.loads((work_dir / "config.json").read_text())
    record["data_fingerprint"] = spelled_fingerprint(open_photos(tmp_path / "link"))
    assert record["data_fingerprint"] != fingerprint(open_photos(tmp_path / "link"))
    (work_dir / "config.json").write_text(json.dumps(record))
    pretrain(config, work_dir=work_dir, data=str(tmp_path / "link"))
    assert backbone.read_bytes() == written
    # Other photos are another run.
    (tmp_path / "others").mkdir()
    for photo in photo_folder.glob("*[0-4].jpg"):
        shutil.copy(photo, tmp_path / "others")
    with refused(work_dir, "data_fingerprint"):
        pretrain(config, work_dir=work_dir, data=str(tmp_path / "others"))


def test_a_runs_own_pictures_are_not_its_photos(tiny_config, photo_folder, tmp_path, monkeypatch):
    for photo in photo_folder.glob("*.jpg"):
        shutil.copy(photo, tmp_path)
    monkeypatch.chdir(tmp_path)
    config = tiny_config("colorization", "preview_interval=1")
    backbone = pretrain(config, work_dir=Path("work_dirs/run"), data=".")
    written = backbone.read_bytes()
    assert list(Path("work_dirs/run/color_grids").glob("*.png"))
    pretrain(config, work_dir=Path("work_dirs/run"), data=".")
    assert backbone.read_bytes() == written


def test_a_run_that_is_refused_before_its_first_step_gives_its_folder_back(
    tiny_config, photo_folder, tmp_path
):
    data, work_dir = str(photo_folder), tmp_path / "run"
    with refused("label"):
        pretrain(tiny_config("supervised", "method.num_classes=7"), work_dir=work_dir, data=data)
    assert pretrain(tiny_config("rotation"), work_dir=work_dir, data=data).is_file()
