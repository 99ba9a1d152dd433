"""What a stage is given, and what it gives: a job and measurements."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeVar

import torch

from pretext.backbones.checkpoint import LoadedBackbone, load_backbone
from pretext.backbones.surgery import absorb_batch_norm
from pretext.checks import check_choice
from pretext.errors import InputError
from transfer.protocols.settings import StageSettings
from transfer.scores.outcomes import Outcomes

S = TypeVar("S", bound=StageSettings, covariant=True)


@dataclass(frozen=True)
class Job(Generic[S]):
    """One transfer run: which backbone is judged, on which data, how, and with which seed.

    Attributes:
        settings: The stage's settings.
        backbone: A backbone file, ``random:NAME`` or ``random:FILE``; see :func:`load_backbone`.
        data: Root folder of the labelled data.
        seed: Seed of everything that is drawn; also of the weights of an untrained backbone.
        work_dir: Folder of the run; exists.
        device: Where to compute.
    """

    settings: S
    backbone: str
    data: Path
    seed: int
    work_dir: Path
    device: torch.device

    def load_backbone(self, geometry: str, norm: str) -> LoadedBackbone:
        """Load the job's backbone in eval mode, on the job's device.

        Args:
            geometry: See `pretext.backbones.checkpoint.load_backbone`.
            norm: ``keep``, or ``absorb`` to fold batch norm into the convolutions. The hash stays that of the file.
        """
        check_choice("norm policy", norm, ("keep", "absorb"))
        loaded = load_backbone(self.backbone, geometry=geometry, seed=self.seed)
        if norm == "absorb":
            loaded = replace(loaded, backbone=absorb_batch_norm(loaded.backbone).eval())
        loaded.backbone.to(self.device)
        return loaded


@dataclass(frozen=True)
class Measurement:
    """One number a stage measured.

    Attributes:
        setting: What was trained or probed, for instance ``conv5`` or ``all``.
        metric: Name of one of the stage's metrics, for instance ``top1``.
        value: In that metric's unit.
        split: What was trained on and scored on, for instance ``train->val``.
        split_fingerprint: SHA-256 of the lists of both.
        outcomes: What was found on each test image, if the stage keeps it.

    Raises:
        InputError: The value is not a finite number.
    """

    setting: str
    metric: str
    value: float
    split: str
    split_fingerprint: str
    outcomes: Outcomes | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise InputError(
                f"{self.metric} of {self.setting} on {self.split} is not a finite number",
                received=self.value,
                allowed="no score is written; a test split without anything to count, such as objects that are not"
                " difficult, has none",
            )
