import signal
import subprocess
import time

import pytest
import torch
from pretraining_runs import SMALL_WORDS, command, losses
from refusals import refused

from pretext.backbones.checkpoint import load_backbone
from pretext.training import runner
from pretext.training.engine import pretrain
from pretext.training.runner import latest_checkpoint


def same_weights(first, second):
    """Whether the backbones of two folders are the same."""
    hashes = [load_backbone(folder / "backbone.safetensors").sha256 for folder in (first, second)]
    return hashes[0] == hashes[1]


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_run_resumed_in_mid_epoch_ends_with_the_same_weights(
    run_config, finished_run, photo_folder, tmp_path, interrupt_at
):
    # Of 5 steps an epoch: it goes on after step 3 and passes the end of the first.
    go_on = interrupt_at(4)
    with pytest.raises(KeyboardInterrupt):
        pretrain(run_config, work_dir=tmp_path, data=str(photo_folder))
    go_on()
    assert latest_checkpoint(tmp_path).name == "step_00000003.pth"
    pretrain(run_config, work_dir=tmp_path, data=str(photo_folder))
    assert same_weights(finished_run, tmp_path)
    assert torch.equal(losses(finished_run), losses(tmp_path))


# BiGAN has two players, and weights whose norm is known a little better after each pass.
def test_a_run_of_two_players_resumed_in_mid_epoch_ends_with_the_same_weights(
    tiny_config, photo_folder, tmp_path, interrupt_at
):
    config = tiny_config("bigan", "batch_size=8", "steps=7", "checkpoint_interval=3")
    pretrain(config, work_dir=tmp_path / "whole", data=str(photo_folder))
    go_on = interrupt_at(4)
    with pytest.raises(KeyboardInterrupt):
        pretrain(config, work_dir=tmp_path / "broken", data=str(photo_folder))
    go_on()
    assert latest_checkpoint(tmp_path / "broken").name == "step_00000003.pth"
    pretrain(config, work_dir=tmp_path / "broken", data=str(photo_folder))
    assert same_weights(tmp_path / "whole", tmp_path / "broken")
    assert torch.equal(losses(tmp_path / "whole"), losses(tmp_path / "broken"))


# The rate changes with each step, the weights with every third.
@pytest.mark.filterwarnings("ignore:Detected call of .scheduler.step:UserWarning")
def test_a_run_resumed_with_accumulated_gradients_ends_with_the_same_weights(
    tiny_config, photo_folder, tmp_path, interrupt_at
):
    config = tiny_config("colorization", "steps=8", "checkpoint_interval=2", "accumulate=3")
    pretrain(config, work_dir=tmp_path / "whole", data=str(photo_folder))
    go_on = interrupt_at(5)
    with pytest.raises(KeyboardInterrupt):
        pretrain(config, work_dir=tmp_path / "broken", data=str(photo_folder))
    go_on()
    # At step 4 a gradient would be under way, which a checkpoint does not hold.
    assert latest_checkpoint(tmp_path / "broken").name == "step_00000003.pth"
    pretrain(config, work_dir=tmp_path / "broken", data=str(photo_folder))
    assert same_weights(tmp_path / "whole", tmp_path / "broken")


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(
    run_config, finished_run, interrupted_run, photo_folder, capsys
):
    cut(interrupted_run / "step_00000008.pth")
    pretrain(run_config, work_dir=interrupted_run, data=str(photo_folder))
    said = capsys.readouterr().err
    assert f"{interrupted_run / 'step_00000008.pth'}, which is damaged" in said
    assert "step_00000006.pth" in said
    assert same_weights(finished_run, interrupted_run)
    # The damaged one was written anew.
    assert latest_checkpoint(interrupted_run).name == "step_00000008.pth"


def test_a_run_whose_checkpoints_are_all_damaged_does_not_begin_again(
    tiny_config, run_config, interrupted_run, photo_folder
):
    checkpoints = sorted(interrupted_run.glob("step_*.pth"))
    for path in checkpoints:
        cut(path)
    kept = [path.read_bytes() for path in checkpoints]
    with refused(*checkpoints):
        pretrain(run_config, work_dir=interrupted_run, data=str(photo_folder))
    assert [path.read_bytes() for path in checkpoints] == kept
    config = tiny_config("colorization", "name=begun_again")
    backbone = pretrain(config, work_dir=interrupted_run, data=str(photo_folder), fresh=True)
    assert load_backbone(backbone).provenance.method == "begun_again"


def test_a_disk_that_fills_up_costs_no_checkpoint(
    run_config, finished_run, photo_folder, tmp_path, monkeypatch
):
    original = runner.Runner.save_checkpoint

    def full(self, out_dir, filename, *args, **kwargs):
        original(self, out_dir, filename, *args, **kwargs)
        if self.iter + 1 == 6:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(runner.Runner, "save_checkpoint", full)
        with refused("step_00000006.pth", "No space left", tmp_path):
            pretrain(run_config, work_dir=tmp_path, data=str(photo_folder))
    assert [path.name for path in tmp_path.glob("step_*")] == ["step_00000003.pth"]
    pretrain(run_config, work_dir=tmp_path, data=str(photo_folder))
    assert same_weights(finished_run, tmp_path)


@pytest.mark.slow
def test_killed_and_started_again_the_weights_are_the_same(photo_folder, tmp_path):
    words = (*SMALL_WORDS, "steps=60")
    subprocess.run(
        command("colorization", *words, work_dir=tmp_path / "whole", data=photo_folder), check=True
    )
    broken = command("colorization", *words, work_dir=tmp_path / "broken", data=photo_folder)
    kills = 0
    for step in (9, 30):
        process = subprocess.Popen(broken)
        while process.poll() is None:
            newest = max((tmp_path / "broken").glob("step_*.pth"), default=None)
            if newest is not None and newest.name >= f"step_{step:08d}.pth":
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
            time.sleep(0.02)
    assert kills == 2
    assert not (tmp_path / "broken" / "backbone.safetensors").exists()
    subprocess.run(broken, check=True)
    assert same_weights(tmp_path / "whole", tmp_path / "broken")


def test_ctrl_c_meets_no_formatter_of_configs(run_config, photo_folder, tmp_path, monkeypatch):
    """mmengine's makes an error of syntax of it."""

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("yapf.yapflib.yapf_api.FormatCode", interrupted)
    pretrain(run_config | {"steps": 3}, work_dir=tmp_path, data=str(photo_folder))
