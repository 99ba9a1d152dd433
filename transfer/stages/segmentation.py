"""VOC segmentation: mmsegmentation's EncoderDecoder with a fully convolutional head around a backbone.

The test behind the last column of table 2 of "Colorful Image Colorization" (Zhang et al., ECCV 2016): every pixel gets
a class, and the score is the mean over classes of intersection over union.

There are two networks: ``head``, mmsegmentation's FCNHead on conv5, and ``fcn32s``, the paper's; see
`transfer.networks.fcn32s`.
With ``head`` the loss is averaged over all pixels of a batch, void and padding counted as zero, as mmsegmentation
does it, so that two processes compute what one does. With ``fcn32s`` it is averaged over the pixels that are not void,
as in the paper.
"""

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
from mmengine.runner import TestLoop
from torch import Tensor, nn
from torch import distributed as dist
from torch.utils.data import DataLoader

from pretext.backbones.base import Backbone
from pretext.backbones.initializers import he_normal_, normal_
from pretext.data.sampling import EpochSampler
from pretext.distributed import data_parallel, rank_and_world_size
from pretext.progress import LOG, ProgressDisplay
from pretext.training.claim import sole_run
from pretext.training.hooks import PinRandomNumbers, ShowProgress, StopOnNonFinite
from pretext.training.optimizers import make_optimizer
from pretext.training.runner import WholeCheckpointRunner, norm_limit
from transfer.data.identity import names_fingerprint
from transfer.data.masks import MaskedPhotos, ScaledCrop, collate, read_masks
from transfer.data.voc import VOID
from transfer.job import Job, Measurement
from transfer.networks.fcn32s import FCN32s
from transfer.networks.parts import Conv5
from transfer.networks.preparation import prepare_backbone
from transfer.protocols.settings import SegmentationSettings
from transfer.scores.metrics import check_scores
from transfer.scores.outcomes import Iou
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
    ``job.work_dir``. The table of all classes goes to `pretext.progress.LOG`.

    Returns:
        ``mean_iou``, over the classes with the background, and ``pixel_accuracy``, both over whole photos at their own
        size, without void pixels, and to two decimals of a percent, as mmsegmentation's IoUMetric gives them.

    Raises:
        InputError: The backbone or the tree cannot be used; found before training starts.
        TrainingDivergedError: The loss or a score is not a finite number.
    """
    run = _prepare(job)
    rank = run.sampler.rank
    with sole_run(run.work_dir / "run.lock", run.work_dir):
        display = ProgressDisplay(TITLE, run.steps, enabled=rank == 0)
        runner = _runner(run, display)
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
    return [
        iou,
        Measurement(setting, "pixel_accuracy", float(scores["voc/aAcc"]), split, run.fingerprint),
    ]


def build_segmentor(
    backbone: Backbone, num_classes: int, settings: SegmentationSettings, seed: int
) -> nn.Module:
    """Build mmsegmentation's EncoderDecoder around a backbone.

    Args:
        backbone: With ``network="head"`` it becomes part of the model and loses its layers above conv5; with
            ``fcn32s`` see `FCN32s`.
        num_classes: Number of classes with the background.
        settings: The stage's.
        seed: Seed of the head's weights: He et al.'s, and N(0, 0.01^2) for the classifier.

    Returns:
        A model whose backbone is on the device it was on, and whose head is on the CPU.
    """
    crop = settings.crop
    preprocessor = {
        "type": SegDataPreProcessor,
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
    encoder: nn.Module
    if settings.network == "fcn32s":
        encoder = FCN32s(backbone, num_classes, settings, seed)
        loss = {"type": CrossEntropyLoss, "avg_non_ignore": True}
        head |= {"type": LogitsHead, "in_channels": num_classes, "channels": num_classes, "loss_decode": loss}
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
    digest = run_digest(settings.recipe(), loaded.sha256, job.seed, fingerprint, world_size)
    name = f"{loaded.sha256[:12]}-seed{job.seed}-{digest[:8]}"
    return Segmentation(job, model, train, test, fingerprint, sampler, steps, job.work_dir / name)


def _runner(run: Segmentation, display: ProgressDisplay) -> WholeCheckpointRunner:
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
        custom_hooks=_hooks(run, display),
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
        # mmseg takes all of FCN-32s, with the scores of its classes, for a backbone.
        rate_factors={("decode_head.", "backbone.score."): settings.head_lr_factor},
    )
    limit = norm_limit(settings.max_grad_norm)
    return OptimWrapper(optimizer, clip_grad=limit, accumulative_counts=settings.accumulate)
