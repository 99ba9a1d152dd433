"""Pretraining: one run of a pretext method, from a config to a backbone file with its provenance."""

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.visualization import LocalVisBackend, TensorboardVisBackend, Visualizer
from torch import Tensor, nn
from torch import distributed as dist
from torch.utils.data import DataLoader, Subset

from pretext.backbones.checkpoint import Provenance, save_backbone
from pretext.backbones.checkpoint import build as build_backbone
from pretext.backbones.classifier import CLASSIFIER_NAME, save_classifier
from pretext.backbones.header import BACKBONE_NAME
from pretext.backbones.initializers import he_normal_
from pretext.checks import check_at_least, check_choice, check_seed
from pretext.colorize.colorizer import save_colorizer
from pretext.colorize.header import COLORIZER_NAME
from pretext.config import build
from pretext.data.crops import VIEWS, PairCrop, View, center_crop
from pretext.data.photos import KINDS, Photos
from pretext.data.places import data_path
from pretext.data.samples import some_photos, spread
from pretext.data.sampling import EpochLoader, EpochSampler, Order
from pretext.data.sources import fingerprint, open_photos, spelled_fingerprint
from pretext.data.views import CentralViews, PretrainingViews, collate
from pretext.distributed import data_parallel, on_first, process_group, rank_and_world_size
from pretext.errors import InputError
from pretext.methods import METHODS
from pretext.methods.base import Method
from pretext.precision import has_bfloat16
from pretext.progress import ProgressDisplay, say
from pretext.training.claim import claim, release, sole_run
from pretext.training.effective_rank import PHOTOS as RANK_PHOTOS
from pretext.training.effective_rank import LogEffectiveRank
from pretext.training.hooks import (
    BeginEpochs,
    PinRandomNumbers,
    SavePreviews,
    ShowProgress,
    SkipUnreadable,
    StopOnNonFinite,
    check_unreadable,
)
from pretext.training.optimizers import make_optimizer
from pretext.training.recalibration import recalibrate_batch_norm
from pretext.training.runner import CpuAmpOptimWrapper, WholeCheckpointRunner, norm_limit
from pretext.training.settings import PretrainingSettings
from pretext.training.start import PHOTOS as START_PHOTOS
from pretext.training.start import Start, fit_filters, start_from
from pretext.versions import versions

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

    settings: PretrainingSettings
    work_dir: Path
    seed: int
    data: str
    data_fingerprint: str
    method: Method
    start: Start
    photos: Photos
    views: PretrainingViews
    held_out: int
    sampler: EpochSampler
    steps: int
    device: torch.device

    @property
    def name(self) -> str:
        """The backbone's name in tables: the method's, and what it started from."""
        name = self.settings.name or self.method.name
        return f"{name}, from {self.start.label}" if self.start.label else name

    @property
    def backbone_file(self) -> Path:
        """The file of the pretrained backbone."""
        return self.work_dir / BACKBONE_NAME

    def identity(self) -> dict[str, Any]:
        """Return what this run shares with each run that may go on from its checkpoints."""
        start = {"init_sha256": self.start.sha256} if self.start.sha256 else {}
        return {
            "config": self.settings.config() | start,
            "seed": self.seed,
            "data": self.data,
            "data_fingerprint": self.data_fingerprint,
            "processes": self.sampler.world_size,
        }

    def respelled(self, earlier: dict[str, Any]) -> dict[str, Any]:
        """Return an earlier run's identity, with the same data and the same start called as in this one's.

        Fingerprint and hash say whether they are the same, wherever they lie and however their place is spelled.
        """
        same = earlier["data_fingerprint"] in (self.data_fingerprint, spelled_fingerprint(self.photos))
        if not same or not isinstance(earlier["config"], dict):
            return earlier
        return earlier | {
            "data": self.data,
            "data_fingerprint": self.data_fingerprint,
            "config": earlier["config"]
            | {"data": self.settings.data}
            | self._respelled_start(earlier["config"]),
        }

    def _respelled_start(self, earlier: Mapping[str, Any]) -> dict[str, Any]:
        same = self.start.sha256 is not None and earlier.get("init_sha256") == self.start.sha256
        return {"init": self.settings.init} if same else {}


def pretrain(
    config: Mapping[str, Any], *, work_dir: Path, seed: int = 0, data: str | None = None, fresh: bool = False
) -> Path:
    """Pretrain a backbone by a config, or go on where an interrupted run of the same config stopped.

    Args:
        config: Config of a run, as in ``configs/pretext/*.py``.
        work_dir: Folder of the run, which it uses alone: ``config.json``, ``backbone.safetensors`` (and
            ``colorizer.safetensors`` of a method that learns to colour, ``classifier.safetensors`` of one that learns
            labels), checkpoints, logs, pictures.
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
    settings = PretrainingSettings.from_config(config)
    check_seed(seed)
    with process_group() as device, _sole_run(work_dir, fresh):
        _check_precision(settings.mixed_precision, device)
        run = _prepare(settings, work_dir, seed, data or settings.data, device)
        # Weights and two moments in single precision, in three checkpoints at a time; and the files of the end.
        room = 11 * 4 * sum(p.numel() for p in run.method.parameters())
        on_first(lambda: claim(run.work_dir, run.identity(), room, fresh, run.respelled))
        if run.backbone_file.is_file():
            if run.sampler.rank == 0:
                say(f"finished already in {work_dir}; --fresh trains anew")
            return run.backbone_file
        try:
            _setup(run)
            _fit_filters(run)
        except InputError:
            if run.sampler.rank == 0:
                release(work_dir)
            raise
        display = ProgressDisplay(run.name, run.steps, enabled=run.sampler.rank == 0)
        runner = _runner(run, display)
        with display:
            runner.train()
        if not run.method.whole_photos:
            recalibrate_batch_norm(run.method.backbone, _some_photos(run))
        if run.sampler.rank == 0:
            _save(run)
        return run.backbone_file


def build_method(settings: PretrainingSettings, seed: int) -> Method:
    """Build the method and its backbone, with weights initialised from ``seed``."""
    arguments = {key: value for key, value in settings.backbone.items() if key != "architecture"}
    # Constructors draw, too: spectral norm's first vectors.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = build_backbone(settings.backbone["architecture"], arguments)
        method: Method = build(settings.method, METHODS, backbone)
    he_normal_(method, seed)
    return method


def _sole_run(work_dir: Path, fresh: bool) -> AbstractContextManager[None]:
    finished = on_first(lambda: (work_dir / BACKBONE_NAME).is_file()) and not fresh
    # A finished run is only read.
    return nullcontext() if finished else sole_run(work_dir / "run.lock", work_dir)


def _prepare(
    settings: PretrainingSettings, work_dir: Path, seed: int, data: str, device: torch.device
) -> Pretraining:
    method = build_method(settings, seed)
    start = start_from(method.backbone, settings)
    check_at_least(f"batch_size of {method.name}", settings.batch_size, method.least_batch)
    # Only to check the settings: the run's own is made once the method is on its device.
    _optimizer(method, settings)
    view: View = build(settings.view, VIEWS)
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
    held_out = min(settings.held_out, len(photos) // 10)
    chosen = spread(len(photos), held_out)
    indices = np.setdiff1d(np.arange(len(photos)), chosen)
    order = _order(method, indices) if method.chooses_photos else None
    sampler = EpochSampler(len(indices), settings.batch_size, seed, *rank_and_world_size(), order=order)
    return Pretraining(
        settings=settings,
        work_dir=work_dir,
        seed=seed,
        data=data,
        data_fingerprint=fingerprint(photos),
        method=method,
        start=start,
        photos=photos,
        views=PretrainingViews(photos, indices, view, seed),
        held_out=held_out,
        sampler=sampler,
        steps=settings.length(sampler.steps_per_epoch),
        device=device,
    )


def _order(method: Method, indices: Int[np.ndarray, " n"]) -> Order:
    """Return what gives the photos that a method chooses for an epoch, as places in ``indices``."""
    return lambda rng: np.searchsorted(indices, method.choose(indices, rng))


def _check_precision(kind: str | None, device: torch.device) -> None:
    allowed = (None, "bfloat16", "float16") if device.type == "cuda" else (None, "bfloat16")
    check_choice(f"mixed_precision for device {device.type}", kind, allowed)


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


def _fit_filters(run: Pretraining) -> None:
    """Make the first filters from training photos if the config says so; a run that goes on has its own."""
    kind = run.settings.init
    if kind == "he" or run.settings.init_file is not None:
        return

    def fitted() -> dict[str, Tensor] | None:
        if any(run.work_dir.glob("step_*.pth")):
            return None
        return fit_filters(run.method, _central_crops(run, START_PHOTOS), kind, run.seed)

    # All processes take the filters of the first: sums of floats may differ in their last digits.
    backbone = on_first(fitted)
    if backbone is not None:
        run.method.backbone.load_state_dict(backbone)


def _runner(run: Pretraining, display: ProgressDisplay) -> WholeCheckpointRunner:
    settings = run.settings
    # Convolutions are faster with the channels last.
    model = data_parallel(run.method.to(memory_format=torch.channels_last), run.device)
    return WholeCheckpointRunner(
        run.work_dir,
        steps=run.steps,
        schedule=settings.schedule.fitted(settings.optimizer, 1.0),
        checkpoint_interval=settings.checkpoint_interval,
        accumulate=settings.accumulate,
        seed=run.seed,
        model=model,
        train_dataloader=_loader(run),
        optim_wrapper=_optim_wrapper(model, settings, run.device),
        custom_hooks=_hooks(run, display),
        visualizer={
            "type": Visualizer,
            "vis_backends": [{"type": LocalVisBackend}, {"type": TensorboardVisBackend}],
        },
    )


def _loader(run: Pretraining) -> EpochLoader:
    workers = run.settings.workers
    return EpochLoader(
        run.views,
        batch_size=run.settings.batch_size,
        sampler=run.sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=run.device.type == "cuda",
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
    )


def _optimizer(model: nn.Module, settings: PretrainingSettings) -> torch.optim.Optimizer:
    method = model.module if is_model_wrapper(model) else model
    assert isinstance(method, Method)
    if method.rate_factors and settings.max_grad_norm is not None:
        raise InputError(
            f"max_grad_norm does not fit {method.name}: it has two players, whose gradients have no common norm",
            received=settings.max_grad_norm,
            allowed=(None,),
        )
    # The rate of the first group is shown and logged.
    return make_optimizer(settings.optimizer, method.named_parameters(), rate_factors=method.rate_factors)


def _optim_wrapper(model: nn.Module, settings: PretrainingSettings, device: torch.device) -> OptimWrapper:
    optimizer = _optimizer(model, settings)
    shared = {"accumulative_counts": settings.accumulate, "clip_grad": norm_limit(settings.max_grad_norm)}
    if settings.mixed_precision and device.type == "cuda":
        return AmpOptimWrapper(dtype=settings.mixed_precision, optimizer=optimizer, **shared)
    if settings.mixed_precision and has_bfloat16(device):
        return CpuAmpOptimWrapper(optimizer, **shared)
    return OptimWrapper(optimizer, **shared)


def _hooks(run: Pretraining, display: ProgressDisplay) -> list[Hook]:
    settings, rank = run.settings, run.sampler.rank
    images = settings.batch_size * run.sampler.world_size
    shown, unreadable = _held_out_photos(run) if rank == 0 and settings.preview_interval else ([], {})
    hooks: list[Hook] = [
        PinRandomNumbers(run.seed, rank),
        BeginEpochs(run.sampler.steps_per_epoch, _all_photos(run), run.seed, rank),
        SkipUnreadable(run.work_dir / "unreadable.txt", len(run.photos), unreadable),
        StopOnNonFinite(),
        ShowProgress(display, images, run.sampler.steps_per_epoch),
    ]
    if shown:
        pictures = run.work_dir / "color_grids"
        hooks.append(SavePreviews(torch.stack(shown), pictures, settings.preview_interval))
    if rank == 0:
        hooks.append(LogEffectiveRank(_central_crops(run, min(settings.batch_size, RANK_PHOTOS))))
    return hooks


def _all_photos(run: Pretraining) -> DataLoader[dict[str, Any]]:
    """Return central crops of all training photos, in the order of their numbers."""
    views = CentralViews(run.views)
    return DataLoader(
        views, batch_size=run.settings.batch_size, num_workers=run.settings.workers, collate_fn=collate
    )


def _some_photos(run: Pretraining) -> Iterator[Tensor]:
    """Yield central crops of training photos spread over all, the same on all processes, on the run's device."""
    size = run.settings.batch_size
    views = CentralViews(run.views)
    count = size * math.ceil(RECALIBRATION_PHOTOS / size)
    chosen = Subset(views, spread(len(views), count).tolist())
    for batch in DataLoader(chosen, size, num_workers=run.settings.workers, collate_fn=collate):
        yield batch["image"].to(run.device)


def _central_crops(run: Pretraining, count: int) -> UInt8[Tensor, "n 3 size size"]:
    """Return central crops of some training photos, spread over all; of a pair that of its first picture."""
    view, crops = run.views.view, []
    for position in spread(len(run.views), count).tolist():
        _, image, _ = run.views.readable(position)
        if run.photos.kind != "photos":
            image = image.crop((0, 0, image.width // 2, image.height))
        crops.append(center_crop(image, view.size, view.resize))
    return torch.stack(crops)


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
        init_sha256=run.start.sha256,
        init=asdict(run.start.provenance) if run.start.provenance else None,
        config=run.settings.config(),
        versions=versions(),
    )
    colorizer = run.method.colorizer()
    if colorizer is not None:
        save_colorizer(colorizer, run.work_dir / COLORIZER_NAME, provenance)
    classifier = run.method.photo_classifier()
    if classifier is not None:
        save_classifier(classifier, run.work_dir / CLASSIFIER_NAME, provenance)
    save_backbone(run.method.backbone, run.backbone_file, provenance)
