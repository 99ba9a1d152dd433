import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple

import pytest
import torch
from mmengine.hooks import Hook

from pretext import engine, runner
from pretext.backbones.checkpoint import load_backbone
from pretext.config import load_config
from pretext.data.sources import open_photos
from pretext.engine import pretrain
from pretext.errors import InputError, TrainingDivergedError
from pretext.runner import WholeCheckpointRunner, latest_checkpoint


def losses(work_dir):
    """The loss of every step, from the last checkpoint."""
    checkpoint = torch.load(latest_checkpoint(work_dir), weights_only=False)
    values, counts = checkpoint["message_hub"]["log_scalars"]["train/loss"].data
    return torch.tensor(values) / torch.tensor(counts)


class Interrupt(Hook):
    """Stops the process's run before a step, as a kill would."""

    def __init__(self, step):
        self.step = step

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == self.step:
            raise KeyboardInterrupt


@pytest.fixture
def interrupt_at(monkeypatch):
    def arm(step):
        original = engine._hooks
        monkeypatch.setattr(engine, "_hooks", lambda run: [*original(run), Interrupt(step)])

    return arm


def test_training_learns_and_leaves_a_whole_folder(small_config, photo_folder, tmp_path):
    config = small_config("pretext/colorization_alexnet_toyworld", "steps=40", "preview_interval=20")
    backbone = pretrain(config, work_dir=tmp_path / "run", data=str(photo_folder))
    history = losses(tmp_path / "run")
    assert len(history) == 40
    assert history[-5:].mean() < 0.7 * history[:5].mean()
    provenance = load_backbone(backbone).provenance
    assert (provenance.method, provenance.seed, provenance.step) == ("colorization", 0, 40)
    assert provenance.data == str(photo_folder)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"config.json", "prior.json", "backbone.safetensors", "color_grids", "step_00000040.pth"} <= names
    assert len(list((tmp_path / "run" / "color_grids").glob("*.png"))) == 2
    assert list((tmp_path / "run").rglob("events.out.tfevents*"))


# BiGAN has two players, and weights whose norm is known a little better after each pass.
@pytest.mark.parametrize("method", ["colorization", "bigan"])
def test_a_run_resumed_in_mid_epoch_ends_with_the_same_weights(
    method, small_config, photo_folder, tmp_path, interrupt_at, monkeypatch
):
    config = small_config(f"pretext/{method}_alexnet_toyworld", "steps=14", "checkpoint_interval=5")
    whole = pretrain(config, work_dir=tmp_path / "whole", data=str(photo_folder))
    interrupt_at(8)
    with pytest.raises(KeyboardInterrupt):
        pretrain(config, work_dir=tmp_path / "broken", data=str(photo_folder))
    monkeypatch.undo()
    assert latest_checkpoint(tmp_path / "broken").name == "step_00000005.pth"
    resumed = pretrain(config, work_dir=tmp_path / "broken", data=str(photo_folder))
    assert load_backbone(whole).sha256 == load_backbone(resumed).sha256
    assert torch.equal(losses(tmp_path / "whole"), losses(tmp_path / "broken"))


# The rate changes with each step, the weights with every third.
@pytest.mark.filterwarnings("ignore:Detected call of .scheduler.step:UserWarning")
def test_a_run_resumed_with_accumulated_gradients_ends_with_the_same_weights(
    small_config, photo_folder, tmp_path, interrupt_at, monkeypatch
):
    config = small_config(
        "pretext/colorization_alexnet_toyworld", "steps=8", "checkpoint_interval=2", "accumulate=3"
    )
    whole = pretrain(config, work_dir=tmp_path / "whole", data=str(photo_folder))
    interrupt_at(5)
    with pytest.raises(KeyboardInterrupt):
        pretrain(config, work_dir=tmp_path / "broken", data=str(photo_folder))
    monkeypatch.undo()
    # At step 4 a gradient would be under way, which a checkpoint does not hold.
    assert latest_checkpoint(tmp_path / "broken").name == "step_00000003.pth"
    resumed = pretrain(config, work_dir=tmp_path / "broken", data=str(photo_folder))
    assert load_backbone(whole).sha256 == load_backbone(resumed).sha256


def test_seeds_differ_and_repeat(small_config, photo_folder, tmp_path):
    runs = [(0, "a"), (0, "b"), (1, "c")]
    hashes = [
        load_backbone(
            pretrain(small_config(), work_dir=tmp_path / name, seed=seed, data=str(photo_folder))
        ).sha256
        for seed, name in runs
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_finished_run_is_left_alone_and_another_is_refused(small_config, photo_folder, tmp_path):
    config = small_config()
    backbone = pretrain(config, work_dir=tmp_path / "run", data=str(photo_folder))
    (tmp_path / "run" / "notes.txt").write_text("mine")
    written = backbone.stat().st_mtime_ns
    assert pretrain(config, work_dir=tmp_path / "run", data=str(photo_folder)) == backbone
    assert backbone.stat().st_mtime_ns == written
    config["optimizer"]["lr"] = 0.5
    with pytest.raises(
        InputError, match=r"holds another run: it differs in optimizer.lr \(0.001 there, 0.5 here\)"
    ):
        pretrain(config, work_dir=tmp_path / "run", data=str(photo_folder))
    (earlier,) = (tmp_path / "run").glob("2*")
    # Folders of logs are called by the second, and two of these runs may begin in one.
    earlier = earlier.rename(earlier.with_name("20200101_000000"))
    pretrain(config, work_dir=tmp_path / "run", data=str(photo_folder), fresh=True)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"]["optimizer"]["lr"] == 0.5
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    assert not earlier.exists()


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "config.json",
            '{"model": "bert", "hidden": 768}',
            "holds something else than a run: its config.json",
        ),
        ("config.json", '{"config": {"met', "holds something else than a run: its config.json"),
        ("config.json", "[1, 2]", "holds something else than a run: its config.json"),
        ("backbone.safetensors", "junk", "holds backbone.safetensors but no config.json"),
        ("step_00000002.pth", "junk", "holds step_00000002.pth but no config.json"),
        ("prior.json", "{}", "holds prior.json but no config.json"),
    ],
)
def test_a_folder_of_something_else_is_refused_and_kept(
    small_config, photo_folder, tmp_path, name, content, message, fresh
):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    (tmp_path / "run" / name).write_text(content)
    with pytest.raises(InputError, match=f"{message}.*; choose another --work-dir") as caught:
        pretrain(small_config(), work_dir=tmp_path / "run", data=str(photo_folder), fresh=fresh)
    assert "bert" not in str(caught.value)
    kept = {path.name: path.read_text() for path in (tmp_path / "run").iterdir()}
    assert kept == {"thesis.tex": "years of work", name: content}


def test_a_diverging_run_stops_and_keeps_the_last_good_checkpoint(small_config, photo_folder, tmp_path):
    config = small_config(
        "pretext/colorization_alexnet_toyworld", "steps=30", "checkpoint_interval=1", "schedule.name=constant"
    )
    config["optimizer"]["lr"] = 1e30
    with pytest.raises(TrainingDivergedError, match=r"is (nan|inf|not finite) at step"):
        pretrain(config, work_dir=tmp_path / "run", data=str(photo_folder))
    assert not (tmp_path / "run" / "backbone.safetensors").exists()
    checkpoint = latest_checkpoint(tmp_path / "run")
    if checkpoint is not None:
        weights = torch.load(checkpoint, weights_only=False)["state_dict"]
        assert all(torch.isfinite(weight).all() for weight in weights.values())


def test_the_seed_decides_all_that_a_new_method_holds():
    config = load_config("pretext/bigan_alexnet_toyworld")
    states = []
    for seed, drawn_before in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(drawn_before)
        torch.rand(drawn_before)
        follows = torch.random.get_rng_state()
        states.append(engine.build_method(config, seed).state_dict())
        assert torch.equal(torch.random.get_rng_state(), follows)
    first, again, other = states
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    drawn = [name for name, value in first.items() if not torch.equal(value, other[name])]
    assert {"backbone.conv1.conv.weight", "discriminator.head.2.parametrizations.weight.0._v"} <= set(drawn)


def test_gray_photos_add_no_loss(small_config, photo_folder):
    method = engine.build_method(small_config(), 0)
    image = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8).expand(-1, 3, -1, -1)
    loss = method(image, torch.zeros(2, dtype=torch.long))["loss_color"]
    loss.backward()
    assert loss == 0
    assert all(p.grad is None or not p.grad.any() for p in method.parameters())


def test_accumulated_steps_count_as_one_large_step(small_config, photo_folder, tmp_path):
    # Without batch norm, so that the batches do not see each other.
    common = [
        "method.loss=classification",
        "backbone.norm=none",
        "amp=None",
        "optimizer.type=SGD",
        "schedule.name=constant",
        "schedule.warmup=0.0",
    ]
    once = small_config("pretext/colorization_alexnet_toyworld", *common, "batch_size=8", "steps=2")
    twice = small_config(
        "pretext/colorization_alexnet_toyworld", *common, "batch_size=4", "steps=4", "accumulate=2"
    )
    states = []
    for number, config in enumerate((once, twice)):
        path = pretrain(config, work_dir=tmp_path / str(number), data=str(photo_folder))
        states.append(load_backbone(path).backbone.state_dict())
    for name, weight in states[0].items():
        torch.testing.assert_close(weight, states[1][name], atol=1e-6, rtol=1e-5)


def test_a_few_unreadable_photos_are_listed_and_many_stop_the_run(small_config, photo_folder, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for copy in range(5):
        for photo in photo_folder.glob("*.jpg"):
            shutil.copy(photo, folder / f"{copy}{photo.name}")
    (folder / "007.jpg").write_bytes(b"broken")
    config = small_config("pretext/colorization_alexnet_toyworld", "epochs=1", "steps=None", "batch_size=16")
    config["epochs"], config["steps"] = 1, None
    pretrain(config, work_dir=tmp_path / "few", data=str(folder))
    listed = (tmp_path / "few" / "unreadable.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in listed] == [str(folder / "007.jpg")]
    for name in ("105.jpg", "133.jpg", "221.jpg"):
        (folder / name).write_bytes(b"broken")
    with pytest.raises(
        InputError, match=r"too many unreadable photos: \d+ of \d+, first .*; at most 1% are skipped"
    ):
        pretrain(config, work_dir=tmp_path / "too_many", data=str(folder))
    assert not (tmp_path / "too_many" / "backbone.safetensors").exists()


@pytest.fixture
def photo_list(photo_folder, tmp_path):
    """Makes a list of photos, those at some places broken."""

    def make(length, broken):
        lines = [str(photo_folder / f"{number % 48:02d}.jpg") for number in range(length)]
        for place in broken:
            lines[place] = f"broken{place}.jpg"
            (tmp_path / lines[place]).write_bytes(b"broken")
        (tmp_path / "list.txt").write_text("\n".join(lines))
        return tmp_path / "list.txt"

    return make


def test_only_clearly_too_many_unreadable_photos_are_refused_before_training(photo_list):
    looked_at = [int(999 * number / 63) for number in range(64)]
    engine._check_photos(open_photos(photo_list(1000, looked_at[:5])))
    with pytest.raises(
        InputError, match="too many unreadable photos: 6 of 64, first .*at most 1% are skipped"
    ):
        engine._check_photos(open_photos(photo_list(1000, looked_at[:6])))


@pytest.mark.parametrize("broken", [[239], [0, 239]])
def test_unreadable_held_out_photos_are_listed_like_others(small_config, photo_list, tmp_path, broken):
    config = small_config("pretext/colorization_alexnet_toyworld", "held_out=2", "preview_interval=1")
    data = photo_list(240, broken)
    pretrain(config, work_dir=tmp_path / "run", data=str(data))
    listed = (tmp_path / "run" / "unreadable.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in listed] == [str(tmp_path / f"broken{n}.jpg") for n in broken]
    pictures = list((tmp_path / "run").glob("color_grids/*.png"))
    assert len(pictures) == (2 if len(broken) == 1 else 0)


def test_too_many_unreadable_held_out_photos_stop_the_run(small_config, photo_list, tmp_path):
    config = small_config("pretext/colorization_alexnet_toyworld", "held_out=3", "preview_interval=1")
    data = photo_list(240, [0, 119, 239])
    with pytest.raises(InputError, match="too many unreadable photos: 3 of 240, first .*broken0.jpg"):
        pretrain(config, work_dir=tmp_path / "run", data=str(data))


def test_truncated_photos_are_found_before_anything_is_written(small_config, photo_folder, tmp_path):
    folder = tmp_path / "truncated"
    folder.mkdir()
    for photo in photo_folder.glob("*.jpg"):
        (folder / photo.name).write_bytes(photo.read_bytes()[:300])
    with pytest.raises(
        InputError, match=r"too many unreadable photos: 48 of 48, first .*00.jpg \(.*truncated"
    ):
        pretrain(small_config(), work_dir=tmp_path / "run", data=str(folder))
    assert not (tmp_path / "run").exists()


def test_no_room_on_the_disk_is_found_before_training(small_config, photo_folder, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(10**9, 10**9, 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(
        InputError, match="no room on the disk of .*: 1 MB are free, the run's checkpoints need"
    ):
        pretrain(small_config(), work_dir=tmp_path / "run", data=str(photo_folder))
    assert not (tmp_path / "run").exists()


def test_a_disk_that_fills_up_costs_no_checkpoint(small_config, photo_folder, tmp_path, monkeypatch):
    config = small_config("pretext/colorization_alexnet_toyworld", "steps=6", "checkpoint_interval=2")
    original = runner.Runner.save_checkpoint

    def full(self, out_dir, filename, *args, **kwargs):
        original(self, out_dir, filename, *args, **kwargs)
        if self.iter + 1 == 4:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(runner.Runner, "save_checkpoint", full)
        with pytest.raises(InputError, match="cannot write the checkpoint step_00000004.pth .*No space left"):
            pretrain(config, work_dir=tmp_path / "run", data=str(photo_folder))
    assert [path.name for path in (tmp_path / "run").glob("step_*")] == ["step_00000002.pth"]
    resumed = pretrain(config, work_dir=tmp_path / "run", data=str(photo_folder))
    whole = pretrain(config, work_dir=tmp_path / "whole", data=str(photo_folder))
    assert load_backbone(resumed).sha256 == load_backbone(whole).sha256


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "schedule.name=linear",
            "unknown schedule: received 'linear', allowed are cosine, step, constant",
        ),
        (
            "method.loss=l3",
            "unknown colorization loss: received 'l3', allowed are rebalanced, classification, l2",
        ),
        ("method.layer=conv9", "unknown layer of alexnet: received 'conv9', allowed are conv1"),
        ("backbone.architecture=resnet", "unknown architecture: received 'resnet', allowed are alexnet"),
        (
            "backbone.input_space=rgb",
            "unknown colorization input_space: received 'rgb', allowed are lightness",
        ),
        ("name=random", "name is what tables call the backbone: received 'random', allowed are texts but"),
        ("name=' '", "name is what tables call the backbone: received ' '"),
        ("schedule.warmup=1.0", "schedule.warmup is a share of all steps: received 1.0"),
        ("steps=0", "steps is too small: received 0, allowed are 1 and above"),
        ("amp=bogus", "unknown amp: received 'bogus', allowed on device (cpu|cuda) are None, bfloat16"),
        ("epochs=3", "a run needs steps or epochs, the other None: received steps=2, epochs=3"),
        ("method.sigma=0", "Colorization does not take .*a Gaussian width above 0: received sigma=0"),
        ("method.neighbors=0", r"1 to 313 \(all\) nearest bins: received neighbors=0"),
        ("method.neighbors=400", r"1 to 313 \(all\) nearest bins: received neighbors=400"),
        ("method.rebalance_mix=2", "rebalance_mix is a share: received 2.0, allowed are 0 to 1"),
        ("method.target_stride=0", "target_stride is too small: received 0, allowed are 1 and above"),
        ("method.head_channels=-1", "head_channels is too small: received -1, allowed are 0 and above"),
        ("backbone.groups=5", "alexnet cannot be built from .*divisible by groups"),
        ("batch_size=0", "batch_size is too small: received 0, allowed are 1 and above"),
        ("batch_size=None", "batch_size is of a wrong type: received None, expected a whole number"),
        ("held_out=-1", "held_out is too small: received -1, allowed are 0 and above"),
        ("accumulate=0", "accumulate is too small: received 0, allowed are 1 and above"),
        ("workers=-1", "workers is too small: received -1, allowed are 0 and above"),
        ("checkpoint_interval=0", "checkpoint_interval is too small: received 0, allowed are 1 and above"),
        ("preview_interval=-1", "preview_interval is too small: received -1, allowed are 0 and above"),
        ("clip_grad=3", r"clip_grad is no clipping: received 3, allowed are None or dict\(max_norm="),
        ("clip_grad={'max_norm': -1}", "clip_grad.max_norm is too small: received -1"),
        ("optimizer.lr=-1.0", "optimizer.lr is too small: received -1.0, allowed are 0.0 and above"),
    ],
)
def test_bad_settings_are_named(small_config, photo_folder, tmp_path, override, message):
    with pytest.raises(InputError, match=message):
        pretrain(
            small_config("pretext/colorization_alexnet_toyworld", override),
            work_dir=tmp_path / "run",
            data=str(photo_folder),
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["bigan", "counting", "egomotion", "jigsaw", "supervised", "tracking"])
def test_a_batch_of_one_photo_is_refused_where_photos_are_compared(
    method, small_config, photo_folder, tmp_path
):
    config = small_config(f"pretext/{method}_alexnet_toyworld", "batch_size=1")
    with pytest.raises(InputError, match=f"batch_size of {method} is too small: received 1, allowed are 2"):
        pretrain(config, work_dir=tmp_path / "run", data=str(photo_folder))
    assert not (tmp_path / "run").exists()


def test_a_run_may_have_a_name_of_its_own(small_config, photo_folder, tmp_path):
    config = small_config("pretext/colorization_alexnet_toyworld", "name=l2", "method.loss=l2")
    backbone = pretrain(config, work_dir=tmp_path / "run", data=str(photo_folder))
    assert load_backbone(backbone).provenance.method == "l2"


@pytest.mark.parametrize(("method", "seen"), [("colorization", 2), ("counting", 6)])
def test_batch_norms_of_what_saw_patches_are_recalibrated_on_all_photos(
    method, seen, small_config, photo_folder, tmp_path
):
    # Two steps of training; 44 photos in batches of 8.
    config = small_config(f"pretext/{method}_alexnet_toyworld", "batch_size=8", "steps=2")
    backbone = load_backbone(pretrain(config, work_dir=tmp_path / "run", data=str(photo_folder))).backbone
    norms = [module for module in backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert [int(norm.num_batches_tracked) for norm in norms] == [seen] * 5


def test_pairs_are_for_those_who_take_them(small_config, pair_lists, tmp_path):
    config = small_config("pretext/colorization_alexnet_toyworld")
    message = r"colorization is not trained on pairs: received .*list\.tracks, allowed are folders, lists"
    with pytest.raises(InputError, match=message):
        pretrain(config, work_dir=tmp_path / "run", data=str(pair_lists["tracks"]))
    assert not (tmp_path / "run").exists()


def test_half_precision_needs_a_gpu(small_config, photo_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = small_config("pretext/colorization_alexnet_toyworld", "amp=float16")
    message = "unknown amp: received 'float16', allowed on device cpu are None, bfloat16"
    with pytest.raises(InputError, match=message):
        pretrain(config, work_dir=tmp_path / "run", data=str(photo_folder))
    assert not (tmp_path / "run").exists()


def test_schedules_run_as_described(small_config, photo_folder, tmp_path):
    rates = []
    config = small_config(
        "pretext/colorization_alexnet_toyworld", "steps=10", "schedule.name=step", "schedule.warmup=0.2"
    )
    config["schedule"]["milestones"] = ((5, 0.5), (8, 0.1))

    class Watch(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            rates.append(runner.optim_wrapper.get_lr()["lr"][0])

    original = WholeCheckpointRunner.__init__

    def watched(self, *args, **kwargs):
        kwargs["custom_hooks"].append(Watch())
        original(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WholeCheckpointRunner, "__init__", watched)
        pretrain(config, work_dir=tmp_path / "run", data=str(photo_folder))
    assert rates[0] == pytest.approx(1e-5)
    assert rates[2:] == pytest.approx([1e-3] * 3 + [5e-4] * 3 + [5e-5] * 2)


def command(config, *words, work_dir, data):
    return [
        sys.executable,
        "-m",
        "pretext",
        "train",
        config,
        *words,
        "--work-dir",
        str(work_dir),
        "--data",
        str(data),
    ]


SMALL_WORDS = [
    "view.size=64", "view.resize=64", "held_out=2", "batch_size=4", "epochs=None", "workers=1", "checkpoint_interval=3",
    "amp=None",
]  # fmt: skip


@pytest.mark.slow
def test_killed_and_started_again_the_weights_are_the_same(photo_folder, tmp_path):
    words = ("pretext/colorization_alexnet_toyworld", *SMALL_WORDS, "steps=60")
    subprocess.run(command(*words, work_dir=tmp_path / "whole", data=photo_folder), check=True)
    broken = command(*words, work_dir=tmp_path / "broken", data=photo_folder)
    kills = 0
    for step in (9, 30):
        process = subprocess.Popen(broken)
        while process.poll() is None:
            newest = latest_checkpoint(tmp_path / "broken")
            if newest is not None and newest.name >= f"step_{step:08d}.pth":
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
            time.sleep(0.02)
    assert kills == 2
    assert not (tmp_path / "broken" / "backbone.safetensors").exists()
    subprocess.run(broken, check=True)
    whole, resumed = (load_backbone(tmp_path / name / "backbone.safetensors") for name in ("whole", "broken"))
    assert whole.sha256 == resumed.sha256


@pytest.mark.slow
@pytest.mark.parametrize(("method", "rate"), [("colorization", 1e-2), ("rotation", 1e-4)])
def test_two_processes_compute_what_one_does(method, rate, photo_folder, tmp_path):
    # By SGD. Adam divides by the size of a gradient, which enlarges rounding where that is tiny: by AdamW a single
    # process parts from itself, with two threads instead of one, by 3e-3 within twelve steps, as far as two processes
    # do; with eps=1e-4 both part by 7e-5, with eps=1e-2 by 1e-6. Rotation on few photos enlarges it by SGD too: at a
    # rate of 1e-2 a single process parts from itself, with two threads, by 1e-3.
    def run(gpus, batch_size):
        words = [word for word in SMALL_WORDS if not word.startswith("batch_size")]
        work_dir = tmp_path / str(gpus)
        subprocess.run(
            command(
                f"pretext/{method}_alexnet_toyworld", *words, f"batch_size={batch_size}", "steps=12",
                "optimizer.type=SGD", f"optimizer.lr={rate}",
                work_dir=work_dir, data=photo_folder,
            ),
            check=True,
            env={**os.environ, "GPUS": str(gpus), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert load_backbone(work_dir / "backbone.safetensors").provenance.processes == gpus
        return losses(work_dir)

    torch.testing.assert_close(run(1, 8), run(2, 4), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_bad_input_of_two_processes_is_said_once(photo_folder, tmp_path):
    done = subprocess.run(
        command(
            "pretext/colorization_alexnet_toyworld",
            "batch_size=40",
            work_dir=tmp_path / "run",
            data=photo_folder,
        ),
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "GPUS": "2", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: 44 photos do not fill one batch of 40 on each of 2 processes; use more photos or a smaller batch_size"
    ]
