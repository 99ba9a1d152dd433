"""VOC segmentation: mmsegmentation's EncoderDecoder with a fully convolutional head around a backbone.

The test behind the last column of table 2 of "Colorful Image Colorization" (Zhang et al., ECCV 2016): every pixel gets
a class, and the score is the mean over classes of intersection over union.

There are three networks, see `transfer.networks.segmentor`: ``head``, mmsegmentation's FCNHead on conv5; ``fcn32s``,
the paper's; and ``hypercolumn``, that of Larsson et al. (ECCV 2016).
"""

import copy
import dataclasses
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import DefaultSampler
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import TestLoop, ValLoop
from torch import Tensor, nn
from torch import distributed as dist
from torch.utils.data import DataLoader

from pretext.data.sampling import EpochSampler
from pretext.distributed import data_parallel, on_first, rank_and_world_size
from pretext.progress import LOG, ProgressDisplay, say
from pretext.training.claim import sole_run
from pretext.training.hooks import PinRandomNumbers, ShowProgress, StopOnNonFinite
from pretext.training.optimizers import make_optimizer
from pretext.training.runner import WholeCheckpointRunner, norm_limit
from transfer.data.identity import names_fingerprint
from transfer.data.masks import MaskedPhotos, ScaledCrop, collate, read_masks
from transfer.data.overlap import tell_overlap
from transfer.data.voc import VOID
from transfer.job import Job, Measurement
from transfer.networks.hypercolumn import HypercolumnClassifier
from transfer.networks.preparation import prepare_backbone, sample_photos
from transfer.networks.segmentor import build_segmentor, gray_photos
from transfer.protocols.settings import SegmentationSettings
from transfer.scores.metrics import check_scores
from transfer.scores.outcomes import Iou
from transfer.training.early_stopping import KeepScores, best_step, parted, read_scores
from transfer.training.resume import run_digest

with warnings.catch_warnings():
    # mmcv comes without compiled operators, and none are needed here.
    warnings.filterwarnings("ignore", "Fail to import ``MultiScaleDeformableAttention``", UserWarning)
    from mmseg.evaluation import IoUMetric

#: Names the run in the progress display and in errors.
TITLE = "VOC segmentation"
#: The setting of the score for each value of ``train``.
SCORED_AS = {"all": "all", "head": "frozen"}


class ImageIou(IoUMetric):  # type: ignore[misc]
    """mmsegmentation's metric, which also keeps each image's areas and refuses logits that are not finite.

    Attributes:
        outcomes: The areas of all images once the metric is computed; None on processes other than the first.
    """

    outcomes: Iou | None = None

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Count the areas of a batch; TrainingDivergedError if a logit is NaN, which would pass for a class."""
        check_scores(TITLE, [sample["seg_logits"]["data"] for sample in data_samples])
        super().process(data_batch, data_samples)

    def compute_metrics(self, results: list[tuple[Tensor, ...]]) -> dict[str, float]:
        """Return the metrics in percent, from each image's intersections, unions, predicted and true areas."""
        areas = [torch.stack(column).long().numpy() for column in list(zip(*results, strict=True))[:2]]
        self.outcomes = Iou(*areas)
        return {name: float(value) for name, value in super().compute_metrics(results).items()}


@dataclass(frozen=True)
class Segmentation:
    """One segmentation run on one process, fully checked."""

    job: Job[SegmentationSettings]
    model: nn.Module
    train: MaskedPhotos
    test: MaskedPhotos
    fingerprint: str
    sampler: EpochSampler
    steps: int
    work_dir: Path


def voc_segmentation(job: Job[SegmentationSettings]) -> list[Measurement]:
    """Train a fully convolutional head, and the backbone with it unless ``train="head"``; score the test split.

    An interrupted run goes on from its last checkpoint if backbone, config, data, seed and number of processes are
    the same. Until the score is known, checkpoints and mmengine's log lie in a folder of their own below
    ``job.work_dir``. The table of all classes goes to `pretext.progress.LOG`. With ``early_stopping`` there are two
    runs, see `transfer.training.early_stopping`.

    Returns:
        ``mean_iou``, over the classes with the background, and ``pixel_accuracy``, both over whole photos at their own
        size, without void pixels, and to two decimals of a percent, as mmsegmentation's IoUMetric gives them; with
        ``early_stopping`` also ``stopped_at``, the step that was chosen.

    Raises:
        InputError: The backbone or the tree cannot be used; found before training starts.
        TrainingDivergedError: The loss or a score is not a finite number.
    """
    run = _prepare(job)
    rank = run.sampler.rank
    with sole_run(run.work_dir / "run.lock", run.work_dir):
        stop = run.steps if job.settings.early_stopping is None else _chosen_steps(run)
        display = ProgressDisplay(TITLE, stop, enabled=rank == 0)
        runner = _runner(run, display, until=stop)
        with display:
            runner.train()
        for handler in LOG.handlers:
            runner.logger.addHandler(handler)
        scores = runner.test()
        if run.sampler.world_size > 1:
            # Each process writes its log there.
            dist.barrier()
        if rank == 0:
            shutil.rmtree(run.work_dir)
    (metric_of_images,) = runner.test_evaluator.metrics
    setting = SCORED_AS[job.settings.train]
    split = job.settings.split
    iou = Measurement(
        setting, "mean_iou", float(scores["voc/mIoU"]), split, run.fingerprint, metric_of_images.outcomes
    )
    measured = [
        iou,
        Measurement(setting, "pixel_accuracy", float(scores["voc/aAcc"]), split, run.fingerprint),
    ]
    if job.settings.early_stopping is not None:
        measured.append(Measurement(setting, "stopped_at", float(stop), split, run.fingerprint))
    return measured


def _chosen_steps(run: Segmentation) -> int:
    """Return after how many steps training is stopped early, which is found on a part of the training photos."""
    stopping, rank = run.job.settings.early_stopping, run.sampler.rank
    assert stopping is not None
    kept, held = parted(len(run.train), stopping["share"], run.job.seed)
    settings, folder = run.job.settings, run.work_dir / "search"
    path = folder / "scores.json"
    sampler = EpochSampler(len(kept), settings.batch_size, run.job.seed, rank, run.sampler.world_size)
    # Only after an update of the weights is there something new to score.
    updates = -(-run.steps // (stopping["evaluations"] * settings.accumulate))
    every = settings.accumulate * updates
    if run.steps not in on_first(lambda: read_scores(path)):
        search = dataclasses.replace(
            run,
            model=copy.deepcopy(run.model),
            train=run.train.chosen(kept),
            sampler=sampler,
            work_dir=folder,
        )
        display = ProgressDisplay(f"{TITLE}, to choose the steps", run.steps, enabled=rank == 0)
        runner = _runner(
            search,
            display,
            [KeepScores(path, "voc/mIoU", every, rank == 0)],
            validate_every=every,
            val_dataloader=_loader(
                run.train.chosen(held), 1, DefaultSampler(held, shuffle=False), settings.workers
            ),
            val_cfg={"type": ValLoop},
            val_evaluator=_evaluator(),
        )
        with display:
            runner.train()
    scores = on_first(lambda: read_scores(path))
    stop = best_step(scores)
    if rank == 0:
        for state in folder.glob("step_*.pth"):
            state.unlink()
        say(
            f"early stopping after step {stop} of {run.steps}: mean IoU {scores[stop]:.2f} on {len(held)} photos held"
            f" out, {scores[run.steps]:.2f} at the end"
        )
    return stop


def _prepare(job: Job[SegmentationSettings]) -> Segmentation:
    settings = job.settings
    view = None
    if settings.crop is not None:
        view = ScaledCrop(settings.crop, settings.scales, settings.flip)
    splits = (settings.train_split, settings.test_split)
    train, test = read_masks(job.data, settings.year, splits, view, job.seed, settings.check_counts)
    tell_overlap(*([entry.path for entry in split.entries] for split in (train, test)))
    fingerprint = names_fingerprint([splits[0], *train.names(), splits[1], *test.names()])
    rank, world_size = rank_and_world_size()
    sampler = EpochSampler(len(train), settings.batch_size, job.seed, rank, world_size)
    steps = settings.length(sampler.steps_per_epoch)
    loaded = prepare_backbone(job, [entry.path for entry in train.entries])
    model = build_segmentor(loaded.backbone, len(train.metainfo["classes"]), settings, job.seed)
    if isinstance(model.backbone, HypercolumnClassifier):
        photos = sample_photos([entry.path for entry in train.entries]).to(job.device)
        model.backbone.balance(gray_photos(photos) if settings.gray else photos)
    digest = run_digest(settings.recipe(), loaded.sha256, job.seed, fingerprint, world_size)
    name = f"{loaded.sha256[:12]}-seed{job.seed}-{digest[:8]}"
    return Segmentation(job, model, train, test, fingerprint, sampler, steps, job.work_dir / name)


def _runner(
    run: Segmentation, display: ProgressDisplay, more_hooks: Sequence[Hook] = (), **kwargs: Any
) -> WholeCheckpointRunner:
    settings = run.job.settings
    return WholeCheckpointRunner(
        run.work_dir,
        steps=run.steps,
        schedule=settings.schedule.fitted(settings.optimizer, settings.scale),
        checkpoint_interval=settings.checkpoint_interval,
        accumulate=settings.accumulate,
        seed=run.job.seed,
        model=data_parallel(run.model, run.job.device),
        train_dataloader=_loader(run.train, settings.batch_size, run.sampler, settings.workers),
        optim_wrapper=_optimizer(run.model, settings),
        test_dataloader=_loader(run.test, 1, DefaultSampler(run.test, shuffle=False), settings.workers),
        test_cfg={"type": TestLoop},
        test_evaluator=_evaluator(),
        custom_hooks=[*_hooks(run, display), *more_hooks],
        **kwargs,
    )


def _hooks(run: Segmentation, display: ProgressDisplay) -> list[Hook]:
    sampler = run.sampler
    images = sampler.batch_size * sampler.world_size
    progress = ShowProgress(display, images, sampler.steps_per_epoch)
    return [PinRandomNumbers(run.job.seed, sampler.rank), StopOnNonFinite(), progress]


def _loader(photos: MaskedPhotos, batch_size: int, sampler: Any, workers: int) -> DataLoader[dict[str, Any]]:
    return DataLoader(photos, batch_size=batch_size, sampler=sampler, num_workers=workers, collate_fn=collate)


def _evaluator() -> Evaluator:
    # "gpu" is mmengine's word for gathering through the process group, of any kind, instead of files.
    return Evaluator(ImageIou(ignore_index=VOID, prefix="voc", collect_device="gpu"))


def _optimizer(model: nn.Module, settings: SegmentationSettings) -> OptimWrapper:
    optimizer = make_optimizer(
        settings.optimizer,
        model.named_parameters(),
        bias_lr_factor=settings.bias_lr_factor,
        decay_biases=settings.decay_biases,
        # mmseg takes all of FCN-32s and of the hypercolumn, with the scores of their classes, for a backbone.
        rate_factors={("decode_head.", "backbone.score.", "backbone.hidden."): settings.head_lr_factor},
    )
    limit = norm_limit(settings.max_grad_norm)
    return OptimWrapper(optimizer, clip_grad=limit, accumulative_counts=settings.accumulate)
