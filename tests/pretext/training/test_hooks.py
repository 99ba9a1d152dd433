import os
import shutil
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
from mmengine.logging import MessageHub
from pretraining_runs import losses
from refusals import refused

from pretext.errors import TrainingDivergedError
from pretext.progress import ProgressDisplay
from pretext.training.engine import pretrain
from pretext.training.hooks import ShowProgress, SkipUnreadable, StopOnNonFinite
from pretext.training.runner import latest_checkpoint


def listed(run):
    return [line.split("\t")[0] for line in (run / "unreadable.txt").read_text().splitlines()]


def test_a_diverging_run_stops_and_keeps_the_last_good_checkpoint(tiny_config, photo_folder, tmp_path):
    config = tiny_config("colorization", "steps=30", "checkpoint_interval=1", "schedule.type=Constant")
    config["optimizer"]["lr"] = 1e30
    with pytest.raises(TrainingDivergedError, match=r"is (nan|inf|not finite) at step"):
        pretrain(config, work_dir=tmp_path / "run", data=str(photo_folder))
    assert not (tmp_path / "run" / "backbone.safetensors").exists()
    checkpoint = latest_checkpoint(tmp_path / "run")
    if checkpoint is not None:
        weights = torch.load(checkpoint, weights_only=False)["state_dict"]
        assert all(torch.isfinite(weight).all() for weight in weights.values())


def test_a_few_unreadable_photos_are_listed_and_many_stop_the_run(tiny_config, photo_folder, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for copy in range(5):
        for photo in photo_folder.glob("*.jpg"):
            shutil.copy(photo, folder / f"{copy}{photo.name}")
    (folder / "007.jpg").write_bytes(b"broken")
    config = tiny_config("colorization", "batch_size=16")
    config["epochs"], config["steps"] = 1, None
    pretrain(config, work_dir=tmp_path / "few", data=str(folder))
    assert listed(tmp_path / "few") == [str(folder / "007.jpg")]
    for name in ("105.jpg", "133.jpg", "221.jpg"):
        (folder / name).write_bytes(b"broken")
    with refused("of 240", ".jpg", allowed="1%"):
        pretrain(config, work_dir=tmp_path / "too_many", data=str(folder))
    assert not (tmp_path / "too_many" / "backbone.safetensors").exists()


@pytest.mark.parametrize("broken", [[239], [0, 239]])
def test_unreadable_held_out_photos_are_listed_like_others(tiny_config, photo_list, tmp_path, broken):
    config = tiny_config("colorization", "held_out=2", "preview_interval=1")
    pretrain(config, work_dir=tmp_path / "run", data=str(photo_list(240, broken)))
    assert listed(tmp_path / "run") == [str(tmp_path / f"broken{n}.jpg") for n in broken]
    pictures = list((tmp_path / "run").glob("color_grids/*.png"))
    assert len(pictures) == (2 if len(broken) == 1 else 0)


def test_too_many_unreadable_held_out_photos_stop_the_run(tiny_config, photo_list, tmp_path):
    config = tiny_config("colorization", "held_out=3", "preview_interval=1")
    data = photo_list(240, [0, 119, 239])
    with refused("broken0.jpg", "3 of 240", allowed="1%"):
        pretrain(config, work_dir=tmp_path / "run", data=str(data))


def test_names_are_counted_once_whatever_is_in_them(tmp_path):
    names = ["a\nb.jpg", "a\tb.jpg", "a\r.jpg", "é\x0b\u2028.jpg", os.fsdecode(b"caf\xe9.jpg")]
    runner = SimpleNamespace(logger=SimpleNamespace(warning=lambda message: None))
    path = tmp_path / "unreadable.txt"
    for _ in range(2):
        # As after an interruption: the list is read.
        hook = SkipUnreadable(path, 500, {})
        hook.before_train_iter(runner, 0, {"unreadable": [(name, "no photo") for name in names]})
    assert path.read_bytes().count(b"\n") == path.read_bytes().count(b"\tno photo\n") == 5
    assert b"caf\xe9.jpg" in path.read_bytes()
    with refused("6 of 500"):
        hook.before_train_iter(runner, 1, {"unreadable": [("sixth.jpg", "no photo")]})


class Unread:
    """A loss on a device that must not be asked for it."""

    def __getattr__(self, name):
        raise AssertionError(f"{name} of the loss is read")


@pytest.mark.parametrize(("loss", "stops"), [(0.5, False), (float("nan"), True)])
def test_the_loss_that_the_log_has_read_is_not_read_again(loss, stops):
    hub = MessageHub("test")
    hub.update_scalar("train/loss", loss)
    optimizer = SimpleNamespace(get_lr=lambda: {"lr": [0.1]})
    runner = SimpleNamespace(message_hub=hub, optim_wrapper=optimizer, iter=3)
    with ProgressDisplay("test", 5) as display:
        show = ShowProgress(display, 4, 2)
        show.before_train(runner)
        show.after_train_iter(runner, 3, None, {"loss": Unread()})
    assert display.steps == 4
    stop = StopOnNonFinite()
    if stops:
        with pytest.raises(TrainingDivergedError, match="nan at step 4"):
            stop.after_train_iter(runner, 3, None, {"loss": Unread()})
    else:
        stop.after_train_iter(runner, 3, None, {"loss": Unread()})


def test_a_resumed_run_counts_on(run_config, interrupted_run, photo_folder, capsys):
    (interrupted_run / "step_00000008.pth").unlink()
    pretrain(run_config, work_dir=interrupted_run, data=str(photo_folder))
    assert "colorization: 8/8 epoch 2" in capsys.readouterr().err
    assert len(losses(interrupted_run)) == 8


@pytest.mark.parametrize("name", [b"two\nlines\t.jpg", b"caf\xe9.jpg", b"a\x0bb\xe2\x80\xa8c.jpg"])
def test_an_unreadable_photo_of_any_name_is_listed_once(tmp_path, name):
    photo, path = str(tmp_path / os.fsdecode(name)), tmp_path / "unreadable.txt"
    for _ in range(2):
        hook = SkipUnreadable(path, 100, {photo: "it is\nempty"})
        for _ in range(2):
            hook.before_train(MagicMock())
    assert path.read_bytes().count(b"\n") == 1
    assert path.read_bytes().startswith(os.fsencode(tmp_path))
    assert path.read_bytes().endswith(b"\tit is\\nempty\n")
