"""What tests of pretraining runs share: commands, losses, interruptions."""

import sys

import torch
from mmengine.hooks import Hook

from pretext.training.runner import latest_checkpoint

#: Overrides for runs in processes of their own.
SMALL_WORDS = (
    "view.size=64", "view.resize=64", "held_out=2", "batch_size=4", "epochs=None", "workers=1", "checkpoint_interval=3",
    "mixed_precision=None", "init=he",
)  # fmt: skip


def command(method, *words, work_dir, data):
    """The command line of a run on the toy world's settings; ``data`` says where its photos are."""
    paths = ["--work-dir", str(work_dir), "--data", str(data)]
    return [sys.executable, "-m", "pretext", "train", method, "toyworld", *words, *paths]


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
