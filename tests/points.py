"""A data set of six points, and the job of fine-tuning on them."""

import torch
from torch.utils.data import Dataset

from transfer.job import Job


class Points(Dataset):
    """Number i of an epoch is the point i."""

    def __len__(self):
        return 6

    def __getitem__(self, draw):
        return torch.tensor([float(draw.index)])


def points_job(folder, **overrides):
    config = {
        "epochs": 1,
        "steps": None,
        "scale": 1.0,
        "decay_biases": False,
        "batch_size": 3,
        "workers": 0,
        "checkpoint_interval": 2,
        "optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.5},
        "bias_lr_factor": 2.0,
        "max_grad_norm": 100.0,
        "schedule": {"name": "step", "warmup": 0.0, "decay": 0.5, "stages": 2},
    }
    return Job(config | overrides, "random:alexnet", folder, 0, folder, torch.device("cpu"))
