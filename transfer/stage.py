"""What all transfer stages share: the job they are given, and the measurements they return."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pretext.backbones.checkpoint import LoadedBackbone, load_backbone


@dataclass(frozen=True)
class Job:
    """One transfer run: which backbone is judged, on which data, how, and with which seed.

    Attributes:
        config: The stage's resolved config.
        backbone: A backbone file, ``random:NAME`` or ``random:FILE``; see :func:`load_backbone`.
        data: Root folder of the labelled data.
        seed: Seed of everything that is drawn; also of the weights of an untrained backbone.
        work_dir: Folder of the run; exists.
        device: Where to compute.
    """

    config: dict[str, Any]
    backbone: str
    data: Path
    seed: int
    work_dir: Path
    device: torch.device

    def load_backbone(self, geometry: str, norm: str) -> LoadedBackbone:
        """The job's backbone in eval mode, on the job's device."""
        loaded = load_backbone(self.backbone, geometry=geometry, seed=self.seed, norm=norm)
        loaded.backbone.to(self.device)
        return loaded


@dataclass(frozen=True)
class Measurement:
    """One number a stage measured.

    Attributes:
        setting: What was trained or probed, for instance ``conv5`` or ``all``.
        metric: Name of the metric, for instance ``top1``.
        value: In percent, 0..100.
        split: What was trained on and scored on, for instance ``train->val``.
        split_fingerprint: SHA-256 of the lists of both.
    """

    setting: str
    metric: str
    value: float
    split: str
    split_fingerprint: str


def names_fingerprint(names: Iterable[str]) -> str:
    """SHA-256 of names in their order, one a line."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()
