"""A data set of six points, and the job of fine-tuning on them."""

from dataclasses import replace

import torch
from torch.utils.data import Dataset

from pretext.training.schedules import Step
from pretext.training.settings import Spec
from transfer.job import Job
from transfer.protocols.table import load_stage_config


class Points(Dataset):
    """Number i of an epoch is the point i."""

    def __len__(self):
        return 6

    def __getitem__(self, draw):
        return torch.tensor([float(draw.index)])


def points_job(folder, **changes):
    settings = {
        "epochs": 1,
        "steps": None,
        "batch_size": 3,
        "workers": 0,
        "checkpoint_interval": 2,
        "optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.5},
        "bias_lr_factor": 2.0,
        "max_grad_norm": 100.0,
        "schedule": Step(milestones=(0.5,), factors=(0.5,), rounding="up"),
    }
    settings |= changes
    settings["optimizer"] = Spec(settings["optimizer"])
    settings = replace(load_stage_config("voc-classification"), **settings)
    return Job(settings, "random:alexnet", folder, 0, folder, torch.device("cpu"))
