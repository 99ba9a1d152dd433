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
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.utils.data import DataLoader

from pretext.backbones.base import Backbone, Layer
from pretext.backbones.initializers import normal_
from pretext.checks import check_at_least, check_choice, room_for
from pretext.config import build
from pretext.data.crops import VIEWS
from pretext.data.sampling import EpochSampler
from pretext.distributed import data_parallel, rank_and_world_size
from pretext.errors import InputError
from pretext.precision import mixed_precision
from pretext.progress import ProgressDisplay
from pretext.training.optimizers import OPTIMIZERS
from pretext.training.schedules import total_steps
from transfer.data.folders import LabeledViews, read_splits
from transfer.job import Job, Measurement
from transfer.networks.reductions import REDUCTIONS
from transfer.protocols import run_length
from transfer.scores.metrics import check_scores, topk_hits
from transfer.scores.outcomes import Accuracy
from transfer.training.finetuning import check_finite
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
        classifier_init: Standard deviation of the classifier's first weights: ``normal`` for ``classifier_std``,
            ``fan_out`` for sqrt(2 / classes), as in RotNet's code, ``xavier`` for sqrt(2 / (features + classes)).
        classifier_std: The standard deviation for ``normal``.
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
        self.classifier = nn.Linear(reduction(layer, torch.zeros(1, *shape)).numel(), num_classes)
        stds = {
            "normal": classifier_std,
            "fan_out": math.sqrt(2 / num_classes),
            "xavier": math.sqrt(2 / (self.classifier.in_features + num_classes)),
        }
        normal_(self.classifier.weight, std=stds[classifier_init], seed=seed, name=layer.name)
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


def linear_probe(job: Job) -> list[Measurement]:
    """Train and score the probes of ``job.config["layers"]``; an interrupted run goes on.

    Returns:
        For each layer top-1 and top-5 accuracy on the test split at the end (``top1``, ``top5``), and the best of
        each over all evaluations (``top1_best``, ``top5_best``: chosen on the test split, as the field often does).

    Raises:
        InputError: The data or a layer is missing, or a value of the config is out of range.
        TrainingDivergedError: The loss or a score is not a finite number.
    """
    config = job.config
    _check_config(config)
    train, test, fingerprint = read_splits(job.data, config["train_split"], config["test_split"])
    view = build(config["view"], VIEWS)
    loaded = job.load_backbone(config["geometry"], "keep")
    backbone = loaded.backbone.requires_grad_(False).to(memory_format=torch.channels_last)
    layers = select_layers(backbone, config["layers"])
    probes = _probes(backbone, layers, len(train.classes), view.size, job)
    rank, world_size = rank_and_world_size()
    sampler = EpochSampler(len(train.paths), config["batch_size"], job.seed, rank, world_size)
    test_views = LabeledViews(test, view, job.seed, config["crops"])
    ours = range(rank, len(test.paths), world_size)
    test_loader = _loader(test_views, config, job, ours, config["crops"])
    steps = run_length(config, total_steps(config, sampler.steps_per_epoch))
    ends = _evaluation_steps(config, steps)
    optimizer, schedule = _optimizer(probes, config, steps)
    images, title = config["batch_size"] * world_size, f"linear probe of {','.join(layers)}"
    with resumable(job, loaded.sha256, fingerprint) as unfinished:
        parts: dict[str, Stateful] = {"probes": probes, "optimizer": optimizer, "schedule": schedule}
        start, earlier = unfinished.restore(**parts)
        evaluations: list[Bool[Tensor, "layers n 2"]] = earlier or []
        sampler.skip(start * config["batch_size"])
        # One stream of batches for the whole run: workers never wait for an epoch to begin.
        batches = iter(_loader(LabeledViews(train, view, job.seed), config, job, sampler))
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
    return _measurements(evaluations, layers, f"{config['train_split']}->{config['test_split']}", fingerprint)


def _check_config(config: dict[str, Any]) -> None:
    check_at_least("batch_size", config["batch_size"], 1)
    check_at_least("workers", config["workers"], 0)
    run_length(config, total_steps(config, 1))
    check_choice("classifier_init", config["classifier_init"], ("normal", "fan_out", "xavier"))
    check_at_least("classifier_std", config["classifier_std"], 0.0)
    if config["evaluations"] is not None:
        check_at_least("evaluations", config["evaluations"], 1)
    if config["crops"] not in (1, 10):
        raise InputError(
            "crops must be 1 (centre) or 10 (corners and centre, all also mirrored)",
            received=config["crops"],
            allowed=(1, 10),
        )
    check_choice("crop_scores", config["crop_scores"], ("logits", "probabilities"))
    check_choice("epoch_rule", config["epoch_rule"], ("last", "best"))
    schedule = config["schedule"]
    check_choice("schedule", schedule["name"], ("step", "bottou"))
    if len(schedule["milestones"]) != len(schedule["factors"]):
        raise InputError(
            "schedule.milestones and schedule.factors differ in length",
            received=f"{len(schedule['milestones'])} milestones and {len(schedule['factors'])} factors",
            allowed="give one factor per milestone",
        )


def _evaluation_steps(config: dict[str, Any], steps: int) -> frozenset[int]:
    """Return the steps after which the test split is scored: each epoch's last, or as many as the config says."""
    count = math.ceil((config["evaluations"] or config["epochs"] or 1) * config["scale"])
    return frozenset(round(steps * number / count) for number in range(1, count + 1)) - {0}


def _probes(backbone: Backbone, layers: Sequence[str], num_classes: int, side: int, job: Job) -> nn.Module:
    config = job.config
    blank = torch.zeros(1, 3, side, side, dtype=torch.uint8, device=job.device)
    reduction = build(config["reduction"], REDUCTIONS)
    with room_for(backbone.architecture, f"view.size={side}"):
        maps = _features(backbone, blank, layers, config)
        probes = Probes(
            {
                name: LayerProbe(
                    backbone.layer(name),
                    features.shape[1:],
                    num_classes,
                    reduction=reduction,
                    batch_norm=config["batch_norm"],
                    classifier_init=config["classifier_init"],
                    classifier_std=config["classifier_std"],
                    seed=job.seed,
                )
                for name, features in maps.items()
            }
        )
    return data_parallel(probes, job.device)


def _loader(
    views: LabeledViews, config: dict[str, Any], job: Job, sampler: Any, crops: int = 1
) -> DataLoader[Any]:
    return DataLoader(
        views,
        batch_size=max(1, config["batch_size"] // crops),
        sampler=sampler,
        num_workers=config["workers"],
        pin_memory=job.device.type == "cuda",
        prefetch_factor=4 if config["workers"] else None,
    )


def _optimizer(
    probes: nn.Module, config: dict[str, Any], steps: int
) -> tuple[torch.optim.Optimizer, LRScheduler]:
    weights = [p for p in probes.parameters() if p.ndim > 1]
    biases = [p for p in probes.parameters() if p.ndim == 1]
    bias_lr = config["bias_lr_factor"] * config["optimizer"]["lr"]
    groups: list[dict[str, Any]] = [{"params": weights}, {"params": biases, "lr": bias_lr}]
    if not config["decay_biases"]:
        groups[1]["weight_decay"] = 0.0
    optimizer: torch.optim.Optimizer = build(config["optimizer"], OPTIMIZERS, groups)
    # No gradient clipping here, ever: a norm over all probes would couple the layers.
    return optimizer, LambdaLR(optimizer, lambda step: _rate_factor(step, steps, config))


def _rate_factor(step: int, steps: int, config: dict[str, Any]) -> float:
    """Return what the learning rate is multiplied by at one step.

    For ``step``: the factor in ``factors`` of the last of ``milestones``, shares of all steps, that was reached. For
    ``bottou``: 1 / sqrt(1 + rate * weight decay * steps done of the unshortened schedule) (Bottou, "Stochastic
    Gradient Descent Tricks", 2012; DeepCluster).
    """
    schedule = config["schedule"]
    if schedule["name"] == "bottou":
        gone = step / config["scale"]
        rate, decay = config["optimizer"]["lr"], config["optimizer"]["weight_decay"]
        return float((1 + rate * decay * gone) ** -0.5)
    factor = 1.0
    for share, factor_from_there in zip(schedule["milestones"], schedule["factors"], strict=True):
        if step >= round(share * steps):
            factor = factor_from_there
    return factor


def _step(
    backbone: Backbone, probes: nn.Module, optimizer: torch.optim.Optimizer, batch: Any, job: Job
) -> Tensor:
    photos, labels = (value.to(job.device, non_blocking=True) for value in batch)
    features = _features(backbone, photos, list(_inner(probes)), job.config)
    loss: Tensor = probes(features, labels)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
    optimizer.step()
    return loss.detach()


@torch.no_grad()
def _features(
    backbone: Backbone, photos: UInt8[Tensor, "n 3 h w"], layers: Sequence[str], config: dict[str, Any]
) -> dict[str, Tensor]:
    """Return frozen features in single precision, whatever precision they were computed in."""
    inputs = backbone.prepare(photos).contiguous(memory_format=torch.channels_last)
    with mixed_precision(photos.device, config["mixed_precision"]):
        features = backbone.extract(inputs, layers)
    return {name: value.float() for name, value in features.items()}


def _inner(probes: nn.Module) -> Probes:
    inner = probes.module if isinstance(probes, DistributedDataParallel) else probes
    assert isinstance(inner, Probes)
    return inner


@torch.no_grad()
def _hits(
    backbone: Backbone, probes: nn.Module, loader: DataLoader[Any], count: int, job: Job
) -> Bool[Tensor, "layers n 2"]:
    """Return by layer whether each of ``count`` photos is right in the top 1 and the top 5."""
    inner = _inner(probes).eval()
    rank, world_size = rank_and_world_size()
    hits = torch.zeros(len(inner), count, 2, dtype=torch.uint8, device=job.device)
    done = rank
    for photos, labels in loader:
        crops = photos.flatten(0, 1).to(job.device, non_blocking=True)
        features = _features(backbone, crops, list(inner), job.config)
        for row, name in enumerate(inner):
            logits = inner[name](features[name]).unflatten(0, photos.shape[:2])
            scores = (logits.softmax(2) if job.config["crop_scores"] == "probabilities" else logits).mean(1)
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
