"""Linear probing: one linear classifier on the frozen features of each layer, all trained in one pass.

The test of "Colorful Image Colorization" (Zhang et al., ECCV 2016, section 3.2 and figure 7) as its authors
updated it in "Split-Brain Autoencoders" (CVPR 2017): feature maps are resized to about 9,000 dimensions,
normalised by batch norm without affine parameters, and classified linearly.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from pretext.backbones.base import Backbone, Layer
from pretext.backbones.initializers import normal_, uniform_
from pretext.checks import room_for
from pretext.config import build
from pretext.data.crops import VIEWS
from pretext.data.sampling import EpochSampler
from pretext.distributed import data_parallel, rank_and_world_size
from pretext.precision import mixed_precision
from pretext.progress import ProgressDisplay, say
from transfer.data.folders import LabeledViews, read_splits
from transfer.data.overlap import tell_overlap
from transfer.job import Job, Measurement
from transfer.networks.reductions import REDUCTIONS
from transfer.protocols.settings import ProbeSettings
from transfer.protocols.table import sizes_note
from transfer.scores.metrics import check_scores, topk_hits
from transfer.scores.outcomes import Accuracy
from transfer.training.finetuning import check_finite, optimizer_and_scheduler
from transfer.training.resume import Stateful, resumable

#: Makes a layer's map (N, C, H, W) smaller; see `transfer.networks.reductions`.
Reduction = Callable[[Layer, Tensor], Tensor]


class LayerProbe(nn.Module):
    """The probe of one layer: reduce, normalise, classify.

    Args:
        layer: The layer to probe.
        shape: (C, H, W) of its maps.
        num_classes: Number of classes.
        reduction: How to reduce the map.
        batch_norm: Whether to normalise each channel, without affine parameters, before the classifier.
        classifier_init: Rule of the classifier's first weights. ``normal``: their standard deviation is
            ``classifier_std``. ``fan_out``: it is sqrt(2 / classes), as in RotNet's code. ``xavier_uniform``: they are
            uniform up to sqrt(6 / (fan-in + fan-out)) (Glorot and Bengio 2010), where the fans are those of a
            convolution over the whole map, channels x area and classes x area, as in Asano et al.'s code.
        classifier_std: Standard deviation for ``normal``.
        seed: Seed of these weights, which also depend on the layer's name.
    """

    def __init__(
        self,
        layer: Layer,
        shape: Sequence[int],
        num_classes: int,
        *,
        reduction: Reduction,
        batch_norm: bool,
        classifier_init: str,
        classifier_std: float,
        seed: int,
    ):
        super().__init__()
        self.layer, self.reduction = layer, reduction
        self.norm = nn.BatchNorm2d(layer.channels, affine=False) if batch_norm else nn.Identity()
        reduced = reduction(layer, torch.zeros(1, *shape))
        self.classifier = nn.Linear(reduced.numel(), num_classes)
        weight = self.classifier.weight
        if classifier_init == "xavier_uniform":
            fan_out = num_classes * reduced[0, 0].numel()
            bound = math.sqrt(6 / (self.classifier.in_features + fan_out))
            uniform_(weight, bound=bound, seed=seed, name=layer.name)
        else:
            std = {"normal": classifier_std, "fan_out": math.sqrt(2 / num_classes)}[classifier_init]
            normal_(weight, std=std, seed=seed, name=layer.name)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return the logits of the classes."""
        logits: Tensor = self.classifier(self.norm(self.reduction(self.layer, features)).flatten(1))
        return logits


class Probes(nn.ModuleDict):
    """The probes of all layers by name. Their losses are added up; no probe affects another."""

    def forward(self, features: dict[str, Tensor], labels: Int[Tensor, " n"]) -> Float[Tensor, ""]:
        """Return the sum over layers of the cross-entropy."""
        return torch.stack([F.cross_entropy(self[name](features[name]), labels) for name in self]).sum()


def select_layers(backbone: Backbone, layers: str) -> tuple[str, ...]:
    """Return the layers that ``conv5``, ``conv1,conv3`` or ``all`` (every convolution) names, in network order.

    Raises:
        InputError: The backbone does not have one of them.
    """
    if layers == "all":
        return tuple(name for name in backbone.layer_names if name.startswith("conv"))
    wanted = {backbone.layer(name.strip()).name for name in layers.split(",")}
    return tuple(name for name in backbone.layer_names if name in wanted)


def linear_probe(job: Job[ProbeSettings]) -> list[Measurement]:
    """Train and score the probes of ``job.settings.layers``; an interrupted run goes on.

    Returns:
        For each layer top-1 and top-5 accuracy on the test split at the end (``top1``, ``top5``), and the best of
        each over all evaluations (``top1_best``, ``top5_best``: chosen on the test split, as the field often does).

    Raises:
        InputError: The data or a layer is missing.
        TrainingDivergedError: The loss or a score is not a finite number.
    """
    settings = job.settings
    train, test, fingerprint = read_splits(job.data, settings.train_split, settings.test_split)
    tell_overlap(train.paths, test.paths)
    view = build(settings.view, VIEWS)
    loaded = job.load_backbone(settings.geometry, "keep")
    backbone = loaded.backbone.requires_grad_(False).to(memory_format=torch.channels_last)
    layers = select_layers(backbone, settings.layers)
    probes = _probes(backbone, layers, len(train.classes), view.size, job)
    rank, world_size = rank_and_world_size()
    sampler = EpochSampler(len(train.paths), settings.batch_size, job.seed, rank, world_size)
    test_views = LabeledViews(test, view, job.seed, settings.crops)
    ours = range(rank, len(test.paths), world_size)
    test_loader = _loader(test_views, settings, job, ours, settings.crops)
    steps = settings.length(sampler.steps_per_epoch)
    ends = _evaluation_steps(settings, steps)
    # No gradient clipping here, ever: a norm over all probes would couple the layers.
    optimizer, schedule = optimizer_and_scheduler(probes, settings, steps)
    images, title = settings.batch_size * world_size, f"linear probe of {','.join(layers)}"
    with resumable(job, loaded.sha256, fingerprint) as unfinished:
        parts: dict[str, Stateful] = {"probes": probes, "optimizer": optimizer, "schedule": schedule}
        start, earlier = unfinished.restore(**parts)
        evaluations: list[Bool[Tensor, "layers n 2"]] = earlier or []
        sampler.skip(start * settings.batch_size)
        # One stream of batches for the whole run: workers never wait for an epoch to begin.
        batches = iter(_loader(LabeledViews(train, view, job.seed), settings, job, sampler))
        with ProgressDisplay(title, steps, start, enabled=rank == 0) as progress:
            for step in range(start + 1, steps + 1):
                loss = _step(backbone, probes, optimizer, next(batches), job)
                mean_loss = float(loss) / len(layers)
                check_finite(mean_loss, step - 1, title)
                schedule.step()
                progress.step(images, loss=mean_loss)
                if step in ends:
                    evaluations.append(_hits(backbone, probes, test_loader, len(test.paths), job))
                unfinished.save(step, evaluations, **parts)
    return _measurements(evaluations, layers, settings.split, fingerprint)


def _evaluation_steps(settings: ProbeSettings, steps: int) -> frozenset[int]:
    """Return the steps after which the test split is scored: each epoch's last, or as many as the settings say."""
    count = math.ceil((settings.evaluations or settings.epochs or 1) * settings.scale)
    return frozenset(round(steps * number / count) for number in range(1, count + 1)) - {0}


def _probes(
    backbone: Backbone, layers: Sequence[str], num_classes: int, side: int, job: Job[ProbeSettings]
) -> nn.Module:
    settings = job.settings
    blank = torch.zeros(1, 3, side, side, dtype=torch.uint8, device=job.device)
    reduction = build(settings.reduction, REDUCTIONS)
    with room_for(backbone.architecture, f"view.size={side}"):
        maps = _features(backbone, blank, layers, settings)
        probes = {
            name: LayerProbe(
                backbone.layer(name),
                features.shape[1:],
                num_classes,
                reduction=reduction,
                batch_norm=settings.batch_norm,
                classifier_init=settings.classifier_init,
                classifier_std=settings.classifier_std,
                seed=job.seed,
            )
            for name, features in maps.items()
        }
    note = sizes_note(settings.protocol, {name: p.classifier.in_features for name, p in probes.items()})
    if note and rank_and_world_size()[0] == 0:
        say(note)
    return data_parallel(Probes(probes), job.device)


def _loader(
    views: LabeledViews, settings: ProbeSettings, job: Job[ProbeSettings], sampler: Any, crops: int = 1
) -> DataLoader[Any]:
    return DataLoader(
        views,
        batch_size=max(1, settings.batch_size // crops),
        sampler=sampler,
        num_workers=settings.workers,
        pin_memory=job.device.type == "cuda",
        prefetch_factor=4 if settings.workers else None,
    )


def _step(
    backbone: Backbone,
    probes: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Any,
    job: Job[ProbeSettings],
) -> Tensor:
    photos, labels = (value.to(job.device, non_blocking=True) for value in batch)
    features = _features(backbone, photos, list(_inner(probes)), job.settings)
    loss: Tensor = probes(features, labels)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
    optimizer.step()
    return loss.detach()


@torch.no_grad()
def _features(
    backbone: Backbone, photos: UInt8[Tensor, "n 3 h w"], layers: Sequence[str], settings: ProbeSettings
) -> dict[str, Tensor]:
    """Return frozen features in single precision, whatever precision they were computed in."""
    inputs = backbone.prepare(photos).contiguous(memory_format=torch.channels_last)
    with mixed_precision(photos.device, settings.mixed_precision):
        features = backbone.extract(inputs, layers)
    return {name: value.float() for name, value in features.items()}


def _inner(probes: nn.Module) -> Probes:
    inner = probes.module if isinstance(probes, DistributedDataParallel) else probes
    assert isinstance(inner, Probes)
    return inner


@torch.no_grad()
def _hits(
    backbone: Backbone, probes: nn.Module, loader: DataLoader[Any], count: int, job: Job[ProbeSettings]
) -> Bool[Tensor, "layers n 2"]:
    """Return by layer whether each of ``count`` photos is right in the top 1 and the top 5."""
    inner = _inner(probes).eval()
    rank, world_size = rank_and_world_size()
    hits = torch.zeros(len(inner), count, 2, dtype=torch.uint8, device=job.device)
    done = rank
    for photos, labels in loader:
        crops = photos.flatten(0, 1).to(job.device, non_blocking=True)
        features = _features(backbone, crops, list(inner), job.settings)
        for row, name in enumerate(inner):
            logits = inner[name](features[name]).unflatten(0, photos.shape[:2])
            scores = (logits.softmax(2) if job.settings.crop_scores == "probabilities" else logits).mean(1)
            check_scores(f"linear probe of {name}", [scores])
            hits[row, done : done + world_size * len(labels) : world_size] = topk_hits(
                scores, labels.to(job.device), (1, 5)
            )
        done += world_size * len(labels)
    inner.train()
    if world_size > 1:
        dist.all_reduce(hits)
    return hits.cpu().bool()


def _measurements(
    evaluations: Sequence[Bool[Tensor, "layers n 2"]], layers: Sequence[str], split: str, fingerprint: str
) -> list[Measurement]:
    measurements = []
    for row, name in enumerate(layers):
        for column, metric in enumerate(("top1", "top5")):
            correct = [hits[row, :, column] for hits in evaluations]
            best = max(correct, key=lambda hits: int(hits.sum()))
            for suffix, hits in (("", correct[-1]), ("_best", best)):
                outcomes = Accuracy(hits.numpy())
                value = outcomes.metric()
                measurements.append(Measurement(name, metric + suffix, value, split, fingerprint, outcomes))
    return measurements
