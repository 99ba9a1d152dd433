"""VOC segmentation: mmsegmentation's EncoderDecoder with a fully convolutional head around a backbone.

The test behind the last column of table 2 of "Colorful Image Colorization" (Zhang et al., ECCV 2016): every pixel gets
a class, and the score is the mean over classes of intersection over union.

There are three networks: ``head``, mmsegmentation's FCNHead on conv5; ``fcn32s``, the paper's, see
`transfer.networks.fcn32s`; and ``hypercolumn``, that of Larsson et al. (ECCV 2016), see
`transfer.networks.hypercolumn`.
With ``head`` the loss is averaged over all pixels of a batch, void and padding counted as zero, as mmsegmentation
does it, so that two processes compute what one does. With the others it is averaged over the pixels that are not void,
as in the papers.
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
from jaxtyping import Float, Shaped
from mmengine.config import ConfigDict
from mmengine.dataset import DefaultSampler
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import TestLoop, ValLoop
from torch import Tensor, nn
from torch import distributed as dist
from torch.utils.data import DataLoader

from pretext.backbones.base import Backbone
from pretext.backbones.initializers import he_normal_, normal_
from pretext.color.lab import lab_to_rgb, rgb_to_lightness
from pretext.data.sampling import EpochSampler
from pretext.distributed import data_parallel, on_first, rank_and_world_size
from pretext.progress import LOG, ProgressDisplay, say
from pretext.training.claim import sole_run
from pretext.training.hooks import PinRandomNumbers, ShowProgress, StopOnNonFinite
from pretext.training.optimizers import make_optimizer
from pretext.training.runner import WholeCheckpointRunner, norm_limit
from transfer.data.identity import names_fingerprint
from transfer.data.masks import MaskedPhotos, ScaledCrop, collate, read_masks
from transfer.data.voc import VOID
from transfer.job import Job, Measurement
from transfer.networks.fcn32s import FCN32s
from transfer.networks.hypercolumn import HypercolumnClassifier, PointLogits
from transfer.networks.parts import Conv5
from transfer.networks.preparation import prepare_backbone, sample_photos
from transfer.protocols.settings import SegmentationSettings
from transfer.scores.metrics import check_scores
from transfer.scores.outcomes import Iou
from transfer.training.early_stopping import KeepScores, best_step, parted, read_scores
from transfer.training.resume import run_digest

with warnings.catch_warnings():
    # mmcv comes without compiled operators, and none are needed here.
    warnings.filterwarnings("ignore", "Fail to import ``MultiScaleDeformableAttention``", UserWarning)
    from mmseg.evaluation import IoUMetric
    from mmseg.models import EncoderDecoder, FCNHead, SegDataPreProcessor
    from mmseg.models.decode_heads.decode_head import BaseDecodeHead
    from mmseg.models.losses import CrossEntropyLoss

#: Names the run in the progress display and in errors.
TITLE = "VOC segmentation"
#: Fills a crop beyond the photo: the gray of lightness 50, which a backbone normalises to about zero.
PADDING_GRAY = 119
#: The setting of the score for each value of ``train``.
SCORED_AS = {"all": "all", "head": "frozen"}


class Encoder(nn.Module):
    """A backbone as mmsegmentation wants it: it returns a tuple of feature maps, here conv5's alone.

    Args:
        backbone: Becomes part of this module. Loses its layers above conv5, so that they are neither trained nor saved.
        settings: The stage's.
    """

    def __init__(self, backbone: Backbone, settings: SegmentationSettings):
        super().__init__()
        self.conv5 = Conv5(backbone, settings, trained=settings.train == "all")
        names = backbone.layer_names
        for name in names[names.index(self.conv5.layer.name) + 1 :]:
            if hasattr(backbone, name):
                delattr(backbone, name)

    def forward(self, photos: Shaped[Tensor, "n 3 h w"]) -> tuple[Float[Tensor, "n c i j"]]:
        """Return the map (N, C, H / stride, W / stride) of RGB photos with values 0..255."""
        return (self.conv5(photos),)


class LogitsHead(BaseDecodeHead):  # type: ignore[misc]  # mmseg is not typed
    """A head that returns its input: a network that gives logits needs of mmsegmentation only the loss."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.conv_seg = nn.Identity()

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return the logits."""
        return inputs[0]


class PointsHead(LogitsHead):
    """A head whose input are logits of some pixels of each photo in training, and of all in eval mode."""

    def loss(
        self, inputs: tuple[PointLogits], batch_data_samples: Sequence[Any], train_cfg: Any
    ) -> dict[str, Tensor]:
        """Return the loss of these pixels."""
        (given,) = inputs
        masks = self._stack_batch_gt(batch_data_samples).squeeze(1)
        rows, columns = given.points.unbind(2)
        labels = masks[torch.arange(len(masks), device=masks.device)[:, None], rows, columns]
        return {"loss_ce": self.loss_decode(given.logits, labels, ignore_index=self.ignore_index)}


class GrayPhotos(SegDataPreProcessor):  # type: ignore[misc]
    """mmsegmentation's preparation of a batch, after which photos have their lightness alone."""

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Return the batch: RGB photos with three equal channels, whose CIE lightness is that of the photos."""
        prepared: dict[str, Any] = super().forward(data, training)
        lightness = rgb_to_lightness(prepared["inputs"] / 255)
        colorless = torch.cat([lightness, torch.zeros_like(lightness).expand(-1, 2, -1, -1)], 1)
        # Its three channels differ in the fourth digit.
        gray = 255 * lab_to_rgb(colorless)[:, 1:2]
        return prepared | {"inputs": gray.expand(-1, 3, -1, -1).contiguous()}


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


def build_segmentor(
    backbone: Backbone, num_classes: int, settings: SegmentationSettings, seed: int
) -> nn.Module:
    """Build mmsegmentation's EncoderDecoder around a backbone.

    Args:
        backbone: With ``network="head"`` it becomes part of the model and loses its layers above conv5; with the other
            networks see `FCN32s` and `HypercolumnClassifier`.
        num_classes: Number of classes with the background.
        settings: The stage's.
        seed: Seed of the head's weights: He et al.'s, and N(0, 0.01^2) for the classifier.

    Returns:
        A model whose backbone is on the device it was on, and whose head is on the CPU.
    """
    crop = settings.crop
    preprocessor = {
        "type": GrayPhotos if settings.gray else SegDataPreProcessor,
        # Whole photos are padded to the largest of their batch.
        **({"size_divisor": 1} if crop is None else {"size": (crop, crop)}),
        "pad_val": PADDING_GRAY,
        "seg_pad_val": VOID,
    }
    head: dict[str, Any] = {
        "num_classes": num_classes,
        "out_channels": num_classes,
        "ignore_index": VOID,
        # Otherwise mmengine draws new weights when training starts.
        "init_cfg": None,
    }
    logits = {
        "in_channels": num_classes,
        "channels": num_classes,
        "loss_decode": {"type": CrossEntropyLoss, "avg_non_ignore": True},
    }
    encoder: nn.Module
    if settings.network == "fcn32s":
        encoder = FCN32s(backbone, num_classes, settings, seed)
        head |= {"type": LogitsHead} | logits
    elif settings.network == "hypercolumn":
        encoder = HypercolumnClassifier(backbone, num_classes, settings, seed)
        head |= {"type": PointsHead} | logits
    else:
        encoder = Encoder(backbone, settings)
        head |= {
            "type": FCNHead,
            "in_channels": encoder.conv5.out_channels,
            "norm_cfg": {"type": "BN"},
            "loss_decode": {"type": CrossEntropyLoss},
            **(settings.head or {}),
        }
    with warnings.catch_warnings():
        # We do want to average over all pixels: the mean over the pixels that are not void would differ between
        # one process and two.
        warnings.filterwarnings("ignore", "Default ``avg_non_ignore`` is False", UserWarning)
        segmentor = EncoderDecoder(
            data_preprocessor=preprocessor,
            # mmseg builds from descriptions only; the encoder takes this place below.
            backbone={"type": nn.Identity},
            decode_head=head,
            test_cfg=ConfigDict(mode="whole"),
        )
    segmentor.backbone = encoder
    if settings.network == "head":
        he_normal_(segmentor.decode_head, seed)
        normal_(segmentor.decode_head.conv_seg.weight, std=0.01, seed=seed, name="conv_seg.weight")
    built: nn.Module = segmentor
    return built


def _prepare(job: Job[SegmentationSettings]) -> Segmentation:
    settings = job.settings
    view = None
    if settings.crop is not None:
        view = ScaledCrop(settings.crop, settings.scales, settings.flip)
    splits = (settings.train_split, settings.test_split)
    train, test = read_masks(job.data, settings.year, splits, view, job.seed, settings.check_counts)
    fingerprint = names_fingerprint([splits[0], *train.names(), splits[1], *test.names()])
    rank, world_size = rank_and_world_size()
    sampler = EpochSampler(len(train), settings.batch_size, job.seed, rank, world_size)
    steps = settings.length(sampler.steps_per_epoch)
    loaded = prepare_backbone(job, [entry.path for entry in train.entries])
    model = build_segmentor(loaded.backbone, len(train.metainfo["classes"]), settings, job.seed)
    if isinstance(model.backbone, HypercolumnClassifier):
        model.backbone.balance(sample_photos([entry.path for entry in train.entries]).to(job.device))
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
