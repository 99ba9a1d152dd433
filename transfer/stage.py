"""What all transfer stages share: the job they are given, and the measurements they return."""

import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from pretext.backbones.checkpoint import LoadedBackbone, absorb_batch_norm, load_backbone
from pretext.checks import check_choice
from pretext.errors import InputError
from pretext.files import write_whole
from pretext.old_names import spelled_for_hash
from pretext.progress import LOG
from transfer.outcomes import Outcomes

#: The stages by their commands: default config, module and function.
STAGES = {
    "linear-probe": ("transfer/linear_probe.py", "transfer.linear_probe", "linear_probe"),
    "voc-classification": ("transfer/voc_classification.py", "transfer.classification", "voc_classification"),
    "voc-svm": ("transfer/voc_svm.py", "transfer.svm", "voc_svm"),
    "voc-detection": ("transfer/voc_detection.py", "transfer.detection", "voc_detection"),
    "voc-segmentation": ("transfer/voc_segmentation.py", "transfer.segmentation", "voc_segmentation"),
}
#: Keys of a stage's config that change no number: an interrupted run may go on with others, and keeps its protocol.
FREE_KEYS = frozenset({"workers", "checkpoint_interval"})
#: Keys of a pretraining config that change no weight; what ``data`` names is told by its fingerprint.
PLACE_KEYS = frozenset({"data", "workers", "checkpoint_interval", "preview_interval"})


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
        metric: Name of the metric, for instance ``top1``.
        value: In percent, 0..100.
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
                allowed="no score is written; check that the test split shows objects that are not difficult",
            )


@contextmanager
def recorded(runs: Path, name: str, record: Mapping[str, Any]) -> Iterator[Path]:
    """Write what a run is and what it says to a folder of its own, ``<name>-<hash of the record>``.

    The record goes to ``config.json``; what goes to `LOG` meanwhile, and an error that ends the run, is added to
    ``log.txt``. A run that ends in InputError, as it cannot be what was asked for, leaves nothing. Gives the folder.

    Args:
        runs: Where the folder goes.
        name: What the folder's name begins with.
        record: What tells the run from others, as JSON can hold it.

    Raises:
        InputError: The folder cannot be written.
    """
    content = json.dumps(record, indent=2) + "\n"
    folder = runs / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    again = folder.exists()
    write_whole(folder / "config.json", content)
    handler = logging.FileHandler(folder / "log.txt")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    LOG.addHandler(handler)
    try:
        yield folder
    except BaseException as error:
        LOG.info("%s: %s", type(error).__name__, error)
        if isinstance(error, InputError) and not again:
            shutil.rmtree(folder)
            with suppress(OSError):  # of a folder that holds something else
                os.removedirs(runs)
        raise
    finally:
        LOG.removeHandler(handler)
        handler.close()


def recipe_id(loaded: LoadedBackbone) -> str:
    """SHA-256 of how a backbone came about but for its seed.

    That is: its architecture, method, config, number of processes, photos and steps.
    """
    provenance = loaded.provenance
    arguments = {k: v for k, v in loaded.backbone.arguments.items() if k != "geometry"}
    config = {k: v for k, v in provenance.config.items() if k not in PLACE_KEYS}
    made = [provenance.method, config, provenance.data_fingerprint, provenance.step, provenance.processes]
    recipe = json.dumps(spelled_for_hash([loaded.backbone.architecture, arguments, *made]), sort_keys=True)
    return hashlib.sha256(recipe.encode()).hexdigest()
