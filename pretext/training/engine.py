"""Pretraining: one run of a pretext method, from a config to a backbone file with its provenance."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
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
from pretext.backbones.initializers import he_normal_
from pretext.checks import check_at_least, check_choice
from pretext.colorize.colorizer import save_colorizer
from pretext.config import build, plain
from pretext.data.crops import VIEWS, PairCrop, View, center_crop
from pretext.data.photos import KINDS, Photos
from pretext.data.places import data_path
from pretext.data.samples import some_photos, spread
from pretext.data.sampling import EpochSampler
from pretext.data.sources import fingerprint, open_photos, spelled_fingerprint
from pretext.data.views import CentralViews, PretrainingViews, collate
from pretext.distributed import data_parallel, on_first, process_group, rank_and_world_size
from pretext.errors import InputError
from pretext.methods import METHODS
from pretext.methods.base import Method
from pretext.precision import has_bfloat16
from pretext.progress import ProgressDisplay
from pretext.training.claim import claim, sole_run
from pretext.training.hooks import (
    BeginEpochs,
    PinRandomNumbers,
    SavePreviews,
    ShowProgress,
    SkipUnreadable,
    StopOnNonFinite,
    check_unreadable,
)
from pretext.training.optimizers import OPTIMIZERS
from pretext.training.recalibration import recalibrate_batch_norm
from pretext.training.runner import CpuAmpOptimWrapper, WholeCheckpointRunner
from pretext.training.schedules import check_schedule, total_steps
from pretext.versions import versions

#: Name of the file of the pretrained backbone, the last that a run writes.
BACKBONE_NAME = "backbone.safetensors"
#: Name of the file of the colorizer, of runs of methods that learn to colour.
COLORIZER_NAME = "colorizer.safetensors"
#: Photos that are looked at before training starts.
CHECKED_PHOTOS = 64
#: Unreadable photos among them that stop the run: where 1 % of all photos are unreadable, chance gives so many in
#: fewer than one of 10,000 data sets (the binomial tail P(X >= 6) is 5e-5).
TOO_MANY_OF_CHECKED = 6
#: Least number of photos over which batch norms are recalibrated.
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
        """The backbone's name in tables."""
        return str(self.config["name"] or self.method.name)

    @property
    def backbone_file(self) -> Path:
        """The file of the pretrained backbone."""
        return self.work_dir / BACKBONE_NAME

    def identity(self) -> dict[str, Any]:
        """Return what this run shares with each run that may go on from its checkpoints."""
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
    """Pretrain a backbone by a config, or go on where an interrupted run of the same config stopped.

    Args:
        config: Config of a run, as in ``configs/pretext/*.py``.
        work_dir: Folder of the run, which it uses alone: ``config.json``, ``backbone.safetensors`` (and
            ``colorizer.safetensors`` of a method that learns to colour), checkpoints, logs, pictures.
        seed: Seed of the weights and of all draws.
        data: Photos; see :func:`open_photos`. None takes the config's.
        fresh: Delete what an earlier run left in ``work_dir``.

    Returns:
        The path of the backbone file.

    Raises:
        InputError: Something is wrong with config, data or folder, or another run uses the folder, or all its
            checkpoints are damaged; found before training starts if possible.
        TrainingDivergedError: The loss is no longer finite.
    """
    with process_group() as device, _sole_run(work_dir, fresh):
        _check_amp(config["amp"], device)
        run = _prepare(config, work_dir, seed, data or config["data"], device)
        # Weights and two moments in single precision, in three checkpoints at a time; and the files of the end.
        room = 11 * 4 * sum(p.numel() for p in run.method.parameters())
        on_first(lambda: claim(run.work_dir, run.identity(), room, fresh, run.respelled))
        if run.backbone_file.is_file():
            return run.backbone_file
        _setup(run)
        display = ProgressDisplay(run.name, run.steps, enabled=run.sampler.rank == 0)
        runner = _runner(run, display)
        with display:
            runner.train()
        if not run.method.whole_photos:
            recalibrate_batch_norm(run.method.backbone, _some_photos(run))
        if run.sampler.rank == 0:
            _save(run)
        return run.backbone_file


def build_method(config: dict[str, Any], seed: int) -> Method:
    """Build the method and backbone of a config, with weights initialised from ``seed``."""
    arguments = {key: value for key, value in config["backbone"].items() if key != "architecture"}
    # Constructors draw, too: spectral norm's first vectors.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = build_backbone(config["backbone"]["architecture"], arguments)
        method: Method = build(config["method"], METHODS, backbone)
    he_normal_(method, seed)
    return method


def _sole_run(work_dir: Path, fresh: bool) -> AbstractContextManager[None]:
    finished = on_first(lambda: (work_dir / BACKBONE_NAME).is_file()) and not fresh
    # A finished run is only read.
    return nullcontext() if finished else sole_run(work_dir / "run.lock", work_dir)


def _prepare(
    config: dict[str, Any], work_dir: Path, seed: int, data: str, device: torch.device
) -> Pretraining:
    _check_numbers(config)
    method = build_method(config, seed)
    check_at_least(f"batch_size of {method.name}", config["batch_size"], method.least_batch)
    # Only to check the config: the run's own is built once the method is on its device.
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
    check_choice(f"amp for device {device.type}", amp, allowed)


def _check_numbers(config: dict[str, Any]) -> None:
    for key in ("batch_size", "accumulate", "checkpoint_interval"):
        check_at_least(key, config[key], 1)
    for key in ("held_out", "workers"):
        check_at_least(key, config[key], 0)
    name = config["name"]
    if name is not None and (not isinstance(name, str) or not name.strip() or name == "random"):
        raise InputError(
            "name, the backbone's in tables, cannot be this",
            received=name,
            allowed="allowed are texts other than random, and None for the method's name",
        )
    check_at_least("preview_interval", config["preview_interval"] or 0, 0)
    clip = config["clip_grad"]
    if clip is not None and not (isinstance(clip, dict) and "max_norm" in clip):
        raise InputError("clip_grad must be None or dict(max_norm=...)", received=clip)
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
    """Let the method prepare, on the first process first: the others read what it leaves in the folder."""
    if run.sampler.rank == 0:
        run.method.setup(run.photos, run.work_dir)
    _wait()
    if run.sampler.rank != 0:
        run.method.setup(run.photos, run.work_dir)


def _runner(run: Pretraining, display: ProgressDisplay) -> WholeCheckpointRunner:
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
        custom_hooks=_hooks(run, display),
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
            f"clip_grad does not fit {method.name}: it has two players, whose gradients have no common norm",
            received=config["clip_grad"],
            allowed=(None,),
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
    # The rate of the first group is shown and logged.
    optimizer: torch.optim.Optimizer = build(config["optimizer"], OPTIMIZERS, groups[-2:] + groups[:-2])
    return optimizer


def _optim_wrapper(model: nn.Module, config: dict[str, Any], device: torch.device) -> OptimWrapper:
    optimizer = _optimizer(model, config)
    # mmengine removes an entry from the dict that it gets.
    clip = config["clip_grad"] and dict(config["clip_grad"])
    shared = {"accumulative_counts": config["accumulate"], "clip_grad": clip}
    if config["amp"] and device.type == "cuda":
        return AmpOptimWrapper(dtype=config["amp"], optimizer=optimizer, **shared)
    if config["amp"] and has_bfloat16(device):
        return CpuAmpOptimWrapper(optimizer, **shared)
    return OptimWrapper(optimizer, **shared)


def _hooks(run: Pretraining, display: ProgressDisplay) -> list[Hook]:
    config, rank = run.config, run.sampler.rank
    images = config["batch_size"] * run.sampler.world_size
    shown, unreadable = _held_out_photos(run) if rank == 0 and config["preview_interval"] else ([], {})
    hooks: list[Hook] = [
        PinRandomNumbers(run.seed, rank),
        BeginEpochs(run.sampler.steps_per_epoch, _all_photos(run)),
        SkipUnreadable(run.work_dir / "unreadable.txt", len(run.photos), unreadable),
        StopOnNonFinite(),
        ShowProgress(display, images, run.sampler.steps_per_epoch),
    ]
    if shown:
        pictures = run.work_dir / "color_grids"
        hooks.append(SavePreviews(torch.stack(shown), pictures, config["preview_interval"]))
    return hooks


def _all_photos(run: Pretraining) -> DataLoader[dict[str, Any]]:
    """Return central crops of all training photos, in the order of their numbers."""
    views = CentralViews(run.views)
    return DataLoader(
        views, batch_size=run.config["batch_size"], num_workers=run.config["workers"], collate_fn=collate
    )


def _some_photos(run: Pretraining) -> Iterator[Tensor]:
    """Yield the first batches of `_all_photos`, the same on all processes, on the run's device."""
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
    colorizer = run.method.colorizer()
    if colorizer is not None:
        save_colorizer(colorizer, run.work_dir / COLORIZER_NAME, provenance)
    save_backbone(run.method.backbone, run.backbone_file, provenance)
