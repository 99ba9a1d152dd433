"""Runs a pretext method with mmengine: seeds, devices, checkpoints, resume, provenance.

The only module that imports mmengine's Runner. What today's torch and mmengine get wrong together is handled
here and in :mod:`pretext.distributed`, once.
"""

import json
import logging
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook, Hook, LoggerHook
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import AmpOptimWrapper, CosineAnnealingLR, LinearLR, MultiStepLR, OptimWrapper
from mmengine.runner import IterBasedTrainLoop, Runner
from mmengine.visualization import LocalVisBackend, TensorboardVisBackend, Visualizer
from torch import Tensor, nn
from torch import distributed as dist
from torch.utils.data import DataLoader

from pretext.backbones.checkpoint import Provenance, save_backbone
from pretext.backbones.checkpoint import build as build_backbone
from pretext.config import build, data_path, plain
from pretext.data.photos import Photos, UnreadablePhotoError, decode_rgb, fingerprint, open_photos
from pretext.data.views import EpochSampler, PretrainingViews, RandomCrop, center_crop, collate
from pretext.distributed import process_group, rank_and_world_size, synchronize_batch_norm
from pretext.errors import InputError
from pretext.files import write_whole
from pretext.hooks import (
    PinRandomNumbers,
    SavePreviews,
    ShowProgress,
    SkipUnreadable,
    StopOnNonFinite,
    TrainingDivergedError,
    check_unreadable,
)
from pretext.initializers import he_normal_
from pretext.methods.base import Method
from pretext.precision import has_bfloat16, mixed_precision
from pretext.versions import versions

#: Photos that are looked at before training starts.
CHECKED_PHOTOS = 64
#: Steps between two entries in the log.
LOG_INTERVAL = 10


class WholeCheckpointRunner(Runner):  # type: ignore[misc]  # mmengine is not typed
    """mmengine's Runner with checkpoints that are written whole or not at all, and a quiet terminal.

    Args:
        work_dir: Folder of the run.
        **kwargs: As for mmengine's Runner.
    """

    def __init__(self, work_dir: Path, **kwargs: Any):
        # Two runs of one process would share their logs if they shared a name.
        name = f"{work_dir.name}-{uuid.uuid4().hex[:8]}"
        super().__init__(work_dir=str(work_dir), experiment_name=name, **kwargs)

    def build_logger(
        self, log_level: int | str = "INFO", log_file: str | None = None, **kwargs: Any
    ) -> MMLogger:
        """Log everything to the file, and only warnings to the terminal."""
        logger = super().build_logger(log_level, log_file, **kwargs)
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.setLevel(max(handler.level, logging.ERROR))
        return logger

    def dump_config(self) -> None:
        """Write nothing: the caller has written the resolved config."""

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Write a checkpoint whole or not at all.

        Raises:
            TrainingDivergedError: A weight is not finite.
            InputError: There is no room for it.
        """
        if self._rank != 0:
            return
        for name, weight in self.model.state_dict().items():
            if weight.is_floating_point() and not bool(torch.isfinite(weight).all()):
                raise TrainingDivergedError(f"the weight {name} is not finite at step {self.iter + 1}")
        partial = Path(out_dir) / f"{filename}.partial"
        try:
            super().save_checkpoint(out_dir, partial.name, *args, **kwargs)
            partial.replace(Path(out_dir) / filename)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise InputError(
                f"cannot write the checkpoint {filename} to {out_dir}: {error.strerror or error};"
                " make room and start the same command again: it goes on from the checkpoint before"
            ) from error


class CpuAmpOptimWrapper(OptimWrapper):  # type: ignore[misc]
    """Mixed precision on a CPU, in bfloat16; mmengine's own refuses a CPU."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass in bfloat16 where torch holds that to be safe."""
        with super().optim_context(model), mixed_precision(torch.device("cpu"), enabled=True):
            yield


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
    held_out: list[int]
    sampler: EpochSampler
    device: torch.device

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return int(self.config["steps"] or self.config["epochs"] * self.sampler.steps_per_epoch)

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


def pretrain(
    config: dict[str, Any], *, work_dir: Path, seed: int = 0, data: str | None = None, fresh: bool = False
) -> Path:
    """Pretrain a backbone as a config says, or go on where an interrupted run of the same config stopped.

    Args:
        config: As ``configs/pretext/*.py`` define it.
        work_dir: Folder of the run: ``config.json``, ``backbone.safetensors``, checkpoints, logs, pictures.
        seed: Seed of the weights and of everything that is drawn.
        data: Photos; see :func:`open_photos`. None takes the config's.
        fresh: Delete what an earlier run left in ``work_dir``.

    Returns:
        The path of the backbone file.

    Raises:
        InputError: Anything is wrong with config, data or folder; found before training starts where it can.
        TrainingDivergedError: The loss is no longer finite.
    """
    with process_group() as device:
        run = _prepare(config, work_dir, seed, data or config["data"], device)
        if run.sampler.rank == 0:
            _claim(run, fresh)
        _wait()
        if run.backbone_file.is_file():
            return run.backbone_file
        _setup(run)
        _runner(run).train()
        if run.sampler.rank == 0:
            _save(run)
        return run.backbone_file


def build_method(config: dict[str, Any], seed: int) -> Method:
    """The method and backbone that a config describes, with weights initialised from ``seed``."""
    arguments = {key: value for key, value in config["backbone"].items() if key != "architecture"}
    backbone = build_backbone(config["backbone"]["architecture"], arguments)
    method: Method = build(config["method"], backbone)
    he_normal_(method, seed)
    return method


def latest_checkpoint(work_dir: Path) -> Path | None:
    """The newest whole checkpoint of a run, or None."""
    return max(work_dir.glob("step_*.pth"), default=None)


def _prepare(
    config: dict[str, Any], work_dir: Path, seed: int, data: str, device: torch.device
) -> Pretraining:
    method = build_method(config, seed)
    view: RandomCrop = build(config["view"])
    photos = open_photos(data_path(data))
    _check_photos(photos)
    if (config["steps"] is None) == (config["epochs"] is None):
        raise InputError(
            f"a run needs steps or epochs, the other None: received steps={config['steps']},"
            f" epochs={config['epochs']}"
        )
    held_out = min(config["held_out"], len(photos) // 10)
    # Spread over the whole list, so that a sorted folder gives photos of every kind.
    chosen = np.linspace(0, len(photos) - 1, held_out, dtype=np.int64)
    indices = np.setdiff1d(np.arange(len(photos)), chosen)
    rank, world_size = rank_and_world_size()
    return Pretraining(
        config=config,
        work_dir=work_dir,
        seed=seed,
        data=data,
        data_fingerprint=fingerprint(photos),
        method=method,
        photos=photos,
        views=PretrainingViews(photos, indices, view, seed),
        held_out=chosen.tolist(),
        sampler=EpochSampler(len(indices), config["batch_size"], seed, rank, world_size),
        device=device,
    )


def _check_photos(photos: Photos) -> None:
    """Look at some photos spread over all, and raise InputError if too many are unreadable."""
    unreadable = {}
    looked_at = np.unique(np.linspace(0, len(photos) - 1, CHECKED_PHOTOS, dtype=np.int64))
    for index in looked_at:
        try:
            decode_rgb(photos.read(int(index)))
        except (UnreadablePhotoError, OSError) as error:
            unreadable[photos.name(int(index))] = str(error)
    # One bad photo in the sample says little about a large data set: the run itself counts exactly.
    if len(unreadable) > 1 or len(looked_at) == len(photos):
        check_unreadable(unreadable, len(looked_at))


def _claim(run: Pretraining, fresh: bool) -> None:
    """Take the folder for this run, or find that it holds this run already; raise InputError otherwise."""
    record = run.work_dir / "config.json"
    if fresh and record.is_file():
        shutil.rmtree(run.work_dir)
    identity = run.identity()
    if record.is_file():
        earlier = json.loads(record.read_text())
        if earlier != json.loads(json.dumps(identity)):
            differing = ", ".join(_differences(earlier, identity))
            raise InputError(
                f"{run.work_dir} holds another run: it differs in {differing};"
                " choose another --work-dir, or --fresh to delete that run"
            )
        return
    if run.work_dir.is_dir() and any(run.work_dir.glob("step_*.pth")):
        raise InputError(f"{run.work_dir} holds checkpoints but no config.json; choose another --work-dir")
    existing = next(p for p in [run.work_dir, *run.work_dir.absolute().parents] if p.is_dir())
    # Weights and two moments in single precision, three checkpoints at a time, and the backbone file.
    needed = 10 * 4 * sum(p.numel() for p in run.method.parameters())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise InputError(
            f"no room on the disk of {run.work_dir}: {free / 1e6:.0f} MB are free, the run's checkpoints need"
            f" {needed / 1e6:.0f} MB; make room or choose another --work-dir"
        )
    write_whole(record, json.dumps(identity, indent=2) + "\n")


def _differences(earlier: Any, now: Any, prefix: str = "") -> list[str]:
    if isinstance(earlier, dict) and isinstance(now, dict):
        keys = sorted(earlier.keys() | now.keys())
        return [
            line for key in keys for line in _differences(earlier.get(key), now.get(key), f"{prefix}.{key}")
        ]
    same = json.dumps(earlier) == json.dumps(now)
    return (
        [] if same else [f"{prefix.removeprefix('.config').removeprefix('.')} ({earlier} there, {now} here)"]
    )


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
    checkpoint = latest_checkpoint(run.work_dir)
    model = _wrap(run)
    return WholeCheckpointRunner(
        run.work_dir,
        model=model,
        train_dataloader=_loader(run),
        train_cfg={"type": IterBasedTrainLoop, "max_iters": run.steps},
        optim_wrapper=_optimizer(model, run.config, run.device),
        param_scheduler=_schedule(run.config["schedule"], run.steps),
        default_hooks={
            "logger": LoggerHook(LOG_INTERVAL, log_metric_by_epoch=False),
            "checkpoint": CheckpointHook(
                run.config["checkpoint_interval"],
                by_epoch=False,
                max_keep_ckpts=2,
                filename_tmpl="step_{:08d}.pth",
            ),
        },
        custom_hooks=_hooks(run),
        load_from=str(checkpoint) if checkpoint else None,
        resume=checkpoint is not None,
        launcher="pytorch" if run.sampler.world_size > 1 else "none",
        log_processor={"by_epoch": False},
        visualizer={
            "type": Visualizer,
            "vis_backends": [{"type": LocalVisBackend}, {"type": TensorboardVisBackend}],
        },
        randomness={"seed": run.seed},
        cfg=Config({}),
    )


def _wrap(run: Pretraining) -> nn.Module:
    """The method on its device and, with several processes, in mmengine's distributed wrapper."""
    # Convolutions are faster with the channels last.
    run.method.to(memory_format=torch.channels_last).to(run.device)
    if run.sampler.world_size == 1:
        return run.method
    model = synchronize_batch_norm(run.method, run.device).to(run.device)
    # Left to itself mmengine names the GPU LOCAL_RANK, which fails where there is none.
    device_ids = [run.device.index] if run.device.type == "cuda" else None
    wrapped: nn.Module = MMDistributedDataParallel(
        module=model, device_ids=device_ids, broadcast_buffers=False
    )
    return wrapped


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


def _optimizer(model: nn.Module, config: dict[str, Any], device: torch.device) -> OptimWrapper:
    # Batch norms and biases are not decayed.
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    optimizer = build(config["optimizer"], [{"params": decayed}, {"params": others, "weight_decay": 0.0}])
    shared = {"accumulative_counts": config["accumulate"], "clip_grad": config["clip_grad"]}
    if config["amp"] and device.type == "cuda":
        return AmpOptimWrapper(dtype=config["amp"], optimizer=optimizer, **shared)
    if config["amp"] and has_bfloat16(device):
        return CpuAmpOptimWrapper(optimizer, **shared)
    return OptimWrapper(optimizer, **shared)


def _schedule(schedule: dict[str, Any], steps: int) -> list[dict[str, Any]]:
    """Schedulers of a linear warm-up, then ``cosine`` to zero, ``step`` (rates at milestones) or ``constant``."""
    warmup = round(schedule["warmup"] * steps)
    # mmengine's warm-up of one step would never end.
    warmup = warmup if warmup > 1 else 0
    schedulers: list[dict[str, Any]] = []
    if warmup:
        schedulers.append({"type": LinearLR, "start_factor": 0.01, "end": warmup, "by_epoch": False})
    if schedule["name"] == "cosine":
        schedulers.append({"type": CosineAnnealingLR, "begin": warmup, "end": steps, "by_epoch": False})
    elif schedule["name"] == "step":
        schedulers += [
            {"type": MultiStepLR, "milestones": [step], "gamma": factor, "by_epoch": False}
            for step, factor in schedule["milestones"]
        ]
    elif schedule["name"] != "constant":
        raise InputError(
            f"unknown schedule: received {schedule['name']!r}, allowed are cosine, step and constant"
        )
    return schedulers


def _hooks(run: Pretraining) -> list[Hook]:
    config, rank = run.config, run.sampler.rank
    images = config["batch_size"] * run.sampler.world_size
    hooks: list[Hook] = [
        PinRandomNumbers(run.seed, rank),
        SkipUnreadable(run.work_dir / "unreadable.txt", len(run.photos)),
        StopOnNonFinite(),
        ShowProgress(run.method.name, images, run.sampler.steps_per_epoch, enabled=rank == 0),
    ]
    if rank == 0 and run.held_out and config["preview_interval"]:
        pictures = run.work_dir / "color_grids"
        hooks.append(SavePreviews(_held_out_photos(run), pictures, config["preview_interval"]))
    return hooks


def _held_out_photos(run: Pretraining) -> Tensor:
    view, photos = run.views.view, []
    for index in run.held_out:
        try:
            image = decode_rgb(run.photos.read(index))
        except (UnreadablePhotoError, OSError):
            continue
        photos.append(center_crop(image, view.size, view.resize))
    return torch.stack(photos)


def _save(run: Pretraining) -> None:
    provenance = Provenance(
        method=run.method.name,
        seed=run.seed,
        step=run.steps,
        data=run.data,
        data_fingerprint=run.data_fingerprint,
        config=plain(run.config),
        versions=versions(),
    )
    save_backbone(run.method.backbone, run.backbone_file, provenance)
