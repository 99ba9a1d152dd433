"""Runs a pretext method: one pretraining run from a config to a backbone file, with seeds and provenance."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.visualization import LocalVisBackend, TensorboardVisBackend, Visualizer
from torch import Tensor, nn
from torch import distributed as dist
from torch.utils.data import DataLoader

from pretext.backbones.checkpoint import Provenance, save_backbone
from pretext.backbones.checkpoint import build as build_backbone
from pretext.checks import check_at_least
from pretext.claim import claim
from pretext.config import build, plain
from pretext.data.crops import PairCrop, View, center_crop
from pretext.data.photos import KINDS, Photos
from pretext.data.places import data_path
from pretext.data.samples import some_photos, spread
from pretext.data.sampling import EpochSampler
from pretext.data.sources import fingerprint, open_photos, spelled_fingerprint
from pretext.data.view_table import VIEWS
from pretext.data.views import CentralViews, PretrainingViews, collate
from pretext.distributed import data_parallel, process_group, rank_and_world_size
from pretext.errors import InputError
from pretext.hooks import (
    BeginEpochs,
    PinRandomNumbers,
    SavePreviews,
    ShowProgress,
    SkipUnreadable,
    StopOnNonFinite,
    check_unreadable,
)
from pretext.initializers import he_normal_
from pretext.methods import METHODS
from pretext.methods.base import Method
from pretext.optimizers import OPTIMIZERS
from pretext.precision import has_bfloat16
from pretext.recalibration import recalibrate_batch_norm
from pretext.runner import CpuAmpOptimWrapper, WholeCheckpointRunner
from pretext.schedules import check_schedule, total_steps
from pretext.versions import versions

#: Photos that are looked at before training starts.
CHECKED_PHOTOS = 64
#: So many unreadable ones among them stop the run: where 1 % of all photos are unreadable, chance gives them in
#: fewer than one of 10,000 data sets (the binomial tail P(X >= 6) is 5e-5).
TOO_MANY_OF_CHECKED = 6


#: Photos over which batch norms are recalibrated, at least.
RECALIBRATION_PHOTOS = 2048


@dataclass(frozen=True)
class Pretraining:
    """One pretraining run on one process, everything about it checked."""

    config: dict[str, Any]
    work_dir: Path
    seed: int
    data: str
    data_fingerprint: str
    method: Method
    photos: Photos
    views: PretrainingViews
    held_out: int
    sampler: EpochSampler
    steps: int
    device: torch.device

    @property
    def name(self) -> str:
        """What tables call the backbone."""
        return str(self.config["name"] or self.method.name)

    @property
    def backbone_file(self) -> Path:
        """Where the pretrained backbone goes."""
        return self.work_dir / "backbone.safetensors"

    def identity(self) -> dict[str, Any]:
        """What makes another run the same run: it may go on from this one's checkpoints."""
        return {
            "config": plain(self.config),
            "seed": self.seed,
            "data": self.data,
            "data_fingerprint": self.data_fingerprint,
            "processes": self.sampler.world_size,
        }

    def respelled(self, earlier: dict[str, Any]) -> dict[str, Any]:
        """Return an earlier run's identity, with the same data called as in this one's.

        The fingerprint says whether they are the same, wherever they lie and however their place is spelled.
        """
        same = earlier["data_fingerprint"] in (self.data_fingerprint, spelled_fingerprint(self.photos))
        if not same or not isinstance(earlier["config"], dict):
            return earlier
        return earlier | {
            "data": self.data,
            "data_fingerprint": self.data_fingerprint,
            "config": earlier["config"] | {"data": self.config["data"]},
        }


def pretrain(
    config: dict[str, Any], *, work_dir: Path, seed: int = 0, data: str | None = None, fresh: bool = False
) -> Path:
    """Pretrain a backbone as a config says, or go on where an interrupted run of the same config stopped.

    Args:
        config: As ``configs/pretext/*.py`` define it.
        work_dir: Folder of the run: ``config.json``, ``backbone.safetensors``, checkpoints, logs, pictures.
        seed: Seed of the weights and of everything that is drawn.
        data: Photos; see :func:`pretext.data.sources.open_photos`. None takes the config's.
        fresh: Delete what an earlier run left in ``work_dir``.

    Returns:
        The path of the backbone file.

    Raises:
        InputError: Anything is wrong with config, data or folder; found before training starts where it can.
        TrainingDivergedError: The loss is no longer finite.
    """
    with process_group() as device:
        _check_amp(config["amp"], device)
        run = _prepare(config, work_dir, seed, data or config["data"], device)
        if run.sampler.rank == 0:
            # Weights and two moments in single precision, three checkpoints at a time, and the backbone file.
            room = 10 * 4 * sum(p.numel() for p in run.method.parameters())
            claim(run.work_dir, run.identity(), room, fresh, run.respelled)
        _wait()
        if run.backbone_file.is_file():
            return run.backbone_file
        _setup(run)
        _runner(run).train()
        if not run.method.whole_photos:
            recalibrate_batch_norm(run.method.backbone, _some_photos(run))
        if run.sampler.rank == 0:
            _save(run)
        return run.backbone_file


def build_method(config: dict[str, Any], seed: int) -> Method:
    """The method and backbone that a config describes, with weights initialised from ``seed``."""
    arguments = {key: value for key, value in config["backbone"].items() if key != "architecture"}
    # What constructors draw (spectral norm's first vectors) follows the seed, too.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = build_backbone(config["backbone"]["architecture"], arguments)
        method: Method = build(config["method"], METHODS, backbone)
    he_normal_(method, seed)
    return method


def _prepare(
    config: dict[str, Any], work_dir: Path, seed: int, data: str, device: torch.device
) -> Pretraining:
    _check_numbers(config)
    method = build_method(config, seed)
    check_at_least(f"batch_size of {method.name}", config["batch_size"], method.least_batch)
    # To be checked only: the run's own is made once the method is on its device.
    _optimizer(method, config)
    view: View = build(config["view"], VIEWS)
    photos = open_photos(data_path(data))
    if photos.kind not in method.takes:
        raise InputError(
            f"{method.name} is not trained on {photos.kind}",
            received=data,
            allowed=f"it takes {' or '.join(KINDS[kind] for kind in method.takes)}",
        )
    if (photos.kind == "photos") == isinstance(view, PairCrop):
        raise InputError(
            f"the view {type(view).__name__} does not fit the {photos.kind}",
            received=data,
            allowed="PairCrop is for lists of pairs (.pairs, .tracks), the other views are for single photos",
        )
    _check_photos(photos)
    check_schedule(config["schedule"], ("cosine", "step", "constant"))
    held_out = min(config["held_out"], len(photos) // 10)
    chosen = spread(len(photos), held_out)
    indices = np.setdiff1d(np.arange(len(photos)), chosen)
    sampler = EpochSampler(len(indices), config["batch_size"], seed, *rank_and_world_size())
    return Pretraining(
        config=config,
        work_dir=work_dir,
        seed=seed,
        data=data,
        data_fingerprint=fingerprint(photos),
        method=method,
        photos=photos,
        views=PretrainingViews(photos, indices, view, seed),
        held_out=held_out,
        sampler=sampler,
        steps=total_steps(config, sampler.steps_per_epoch),
        device=device,
    )


def _check_amp(amp: str | None, device: torch.device) -> None:
    allowed = (None, "bfloat16", "float16") if device.type == "cuda" else (None, "bfloat16")
    if amp not in allowed:
        names = ", ".join(map(str, allowed))
        raise InputError(f"unknown amp: received {amp!r}, allowed on device {device.type} are {names}")


def _check_numbers(config: dict[str, Any]) -> None:
    for key in ("batch_size", "accumulate", "checkpoint_interval"):
        check_at_least(key, config[key], 1)
    for key in ("held_out", "workers"):
        check_at_least(key, config[key], 0)
    name = config["name"]
    if name is not None and (not isinstance(name, str) or not name.strip() or name == "random"):
        raise InputError(
            f"name is what tables call the backbone: received {name!r}, allowed are texts but 'random', or None"
        )
    check_at_least("preview_interval", config["preview_interval"] or 0, 0)
    clip = config["clip_grad"]
    if clip is not None and not (isinstance(clip, dict) and "max_norm" in clip):
        raise InputError(
            f"clip_grad is no clipping: received {clip!r}, allowed are None or dict(max_norm=...)"
        )
    if clip is not None:
        check_at_least("clip_grad.max_norm", clip["max_norm"], 0.0)


def _check_photos(photos: Photos) -> None:
    """Look at some photos spread over all, and raise InputError if clearly too many are unreadable."""
    unreadable: dict[str, str] = {}
    readable = sum(1 for _ in some_photos(photos, CHECKED_PHOTOS, unreadable))
    # A few bad photos in the sample say little about a large data set: the run itself counts exactly.
    if len(unreadable) >= TOO_MANY_OF_CHECKED or len(photos) <= CHECKED_PHOTOS:
        check_unreadable(unreadable, readable + len(unreadable))


def _wait() -> None:
    if dist.is_available() and dist.is_initialized():
        dist.barrier()


def _setup(run: Pretraining) -> None:
    """Let the method prepare, on the first process first: the others find what it keeps in the folder."""
    if run.sampler.rank == 0:
        run.method.setup(run.photos, run.work_dir)
    _wait()
    if run.sampler.rank != 0:
        run.method.setup(run.photos, run.work_dir)


def _runner(run: Pretraining) -> WholeCheckpointRunner:
    config = run.config
    # Convolutions are faster with the channels last.
    model = data_parallel(run.method.to(memory_format=torch.channels_last), run.device)
    return WholeCheckpointRunner(
        run.work_dir,
        steps=run.steps,
        schedule=config["schedule"],
        checkpoint_interval=config["checkpoint_interval"],
        accumulate=config["accumulate"],
        seed=run.seed,
        model=model,
        train_dataloader=_loader(run),
        optim_wrapper=_optim_wrapper(model, config, run.device),
        custom_hooks=_hooks(run),
        visualizer={
            "type": Visualizer,
            "vis_backends": [{"type": LocalVisBackend}, {"type": TensorboardVisBackend}],
        },
    )


def _loader(run: Pretraining) -> DataLoader[dict[str, Any]]:
    workers = run.config["workers"]
    return DataLoader(
        run.views,
        batch_size=run.config["batch_size"],
        sampler=run.sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=run.device.type == "cuda",
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
    )


def _optimizer(model: nn.Module, config: dict[str, Any]) -> torch.optim.Optimizer:
    method = model.module if is_model_wrapper(model) else model
    assert isinstance(method, Method)
    if method.rate_factors and config["clip_grad"] is not None:
        raise InputError(
            f"{method.name} has two players, whose gradients have no common norm: received"
            f" clip_grad={config['clip_grad']}, allowed is None"
        )
    check_at_least("optimizer.lr", config["optimizer"].get("lr"), 0.0)
    groups: list[dict[str, Any]] = []
    trained = {name: p for name, p in method.named_parameters() if p.requires_grad}
    for prefix, factor in {**method.rate_factors, "": 1.0}.items():
        chosen = [trained.pop(name) for name in list(trained) if name.startswith(prefix)]
        rate = config["optimizer"]["lr"] * factor
        # Batch norms and biases are not decayed.
        groups.append({"params": [p for p in chosen if p.ndim > 1], "lr": rate})
        groups.append({"params": [p for p in chosen if p.ndim <= 1], "lr": rate, "weight_decay": 0.0})
    # The rate of the first group is what is shown and logged.
    optimizer: torch.optim.Optimizer = build(config["optimizer"], OPTIMIZERS, groups[-2:] + groups[:-2])
    return optimizer


def _optim_wrapper(model: nn.Module, config: dict[str, Any], device: torch.device) -> OptimWrapper:
    optimizer = _optimizer(model, config)
    # mmengine takes an entry out of what it is given.
    clip = config["clip_grad"] and dict(config["clip_grad"])
    shared = {"accumulative_counts": config["accumulate"], "clip_grad": clip}
    if config["amp"] and device.type == "cuda":
        return AmpOptimWrapper(dtype=config["amp"], optimizer=optimizer, **shared)
    if config["amp"] and has_bfloat16(device):
        return CpuAmpOptimWrapper(optimizer, **shared)
    return OptimWrapper(optimizer, **shared)


def _hooks(run: Pretraining) -> list[Hook]:
    config, rank = run.config, run.sampler.rank
    images = config["batch_size"] * run.sampler.world_size
    shown, unreadable = _held_out_photos(run) if rank == 0 and config["preview_interval"] else ([], {})
    hooks: list[Hook] = [
        PinRandomNumbers(run.seed, rank),
        BeginEpochs(run.sampler.steps_per_epoch, _all_photos(run)),
        SkipUnreadable(run.work_dir / "unreadable.txt", len(run.photos), unreadable),
        StopOnNonFinite(),
        ShowProgress(run.name, images, run.sampler.steps_per_epoch, enabled=rank == 0),
    ]
    if shown:
        pictures = run.work_dir / "color_grids"
        hooks.append(SavePreviews(torch.stack(shown), pictures, config["preview_interval"]))
    return hooks


def _all_photos(run: Pretraining) -> DataLoader[dict[str, Any]]:
    """Central crops of all photos of the training, in the order of their numbers."""
    views = CentralViews(run.views)
    return DataLoader(
        views, batch_size=run.config["batch_size"], num_workers=run.config["workers"], collate_fn=collate
    )


def _some_photos(run: Pretraining) -> Iterator[Tensor]:
    """The first batches of `_all_photos`, the same on all processes, on the run's device."""
    for batch in islice(_all_photos(run), -(-RECALIBRATION_PHOTOS // run.config["batch_size"])):
        yield batch["image"].to(run.device)


def _held_out_photos(run: Pretraining) -> tuple[list[Tensor], dict[str, str]]:
    """Return the held-out photos, and the names of those that cannot be read, with the reason."""
    view, unreadable = run.views.view, dict[str, str]()
    chosen = some_photos(run.photos, run.held_out, unreadable)
    return [center_crop(image, view.size, view.resize) for _, image in chosen], unreadable


def _save(run: Pretraining) -> None:
    provenance = Provenance(
        method=run.name,
        seed=run.seed,
        step=run.steps,
        processes=run.sampler.world_size,
        data=run.data,
        data_fingerprint=run.data_fingerprint,
        config=plain(run.config),
        versions=versions(),
    )
    save_backbone(run.method.backbone, run.backbone_file, provenance)
