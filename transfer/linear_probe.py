"""Linear probing: one linear classifier on the frozen features of each layer, all trained in one pass.

The test of "Colorful Image Colorization" (Zhang et al., ECCV 2016, section 3.2 and figure 7) as its authors
updated it in "Split-Brain Autoencoders" (CVPR 2017): feature maps are resized to about 9,000 dimensions,
normalised by batch norm without affine parameters, and classified linearly.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from pretext.backbones.base import Backbone, Layer, check_at_least, check_choice
from pretext.config import build
from pretext.data.views import EpochSampler
from pretext.distributed import data_parallel, rank_and_world_size
from pretext.errors import InputError
from pretext.initializers import normal_
from pretext.precision import mixed_precision
from pretext.progress import ProgressDisplay
from transfer.data.folders import LabeledViews, read_splits
from transfer.metrics import topk_correct
from transfer.stage import Job, Measurement

#: Features a classifier gets at the most; 96, 256 and 384 channels give 10x10, 6x6 and 5x5 positions, whatever
#: the size of the photos.
MAX_FEATURES = 10_000


class LayerProbe(nn.Module):
    """Pool, normalise, classify: the probe of one layer.

    Args:
        layer: The layer that is probed.
        num_classes: Number of classes.
        pooling: ``bilinear`` (Split-Brain's update) or ``average`` (Zhang's first version).
        batch_norm: Whether to normalise each channel, without affine parameters, before the classifier.
        seed: Seed of the classifier's weights, N(0, 0.01^2), drawn from it and the layer's name alone.
    """

    def __init__(self, layer: Layer, num_classes: int, pooling: str, batch_norm: bool, seed: int):
        super().__init__()
        check_choice("pooling", pooling, ("bilinear", "average"))
        self.side = math.isqrt(MAX_FEATURES // layer.channels)
        self.pooling = pooling
        self.norm = nn.BatchNorm2d(layer.channels, affine=False) if batch_norm else nn.Identity()
        self.classifier = nn.Linear(layer.channels * self.side**2, num_classes)
        normal_(self.classifier.weight, std=0.01, seed=seed, name=layer.name)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Logits of the classes."""
        if self.pooling == "bilinear":
            pooled = F.interpolate(features, size=self.side, mode="bilinear", align_corners=False)
        else:
            pooled = F.adaptive_avg_pool2d(features, self.side)
        logits: Tensor = self.classifier(self.norm(pooled).flatten(1))
        return logits


class Probes(nn.ModuleDict):
    """The probes of all layers by name; their losses are added up and do not touch each other."""

    def forward(self, features: dict[str, Tensor], labels: Int[Tensor, " n"]) -> Float[Tensor, ""]:
        """The sum over layers of the cross-entropy."""
        return torch.stack([F.cross_entropy(self[name](features[name]), labels) for name in self]).sum()


def select_layers(backbone: Backbone, layers: str) -> tuple[str, ...]:
    """Layers named as ``conv5``, ``conv1,conv3`` or ``all`` (every convolution), in the network's order.

    Raises:
        InputError: A layer the backbone does not have.
    """
    if layers == "all":
        return tuple(name for name in backbone.layer_names if name.startswith("conv"))
    wanted = {backbone.layer(name.strip()).name for name in layers.split(",")}
    return tuple(name for name in backbone.layer_names if name in wanted)


def linear_probe(job: Job) -> list[Measurement]:
    """Train and score the probes of ``job.config["layers"]``.

    Returns:
        For each layer top-1 and top-5 accuracy on the test split after the last epoch (``top1``, ``top5``) and
        the best of each over all epochs (``top1_best``, ``top5_best``: chosen on the test split, as the field
        often does).

    Raises:
        InputError: The data or a layer is not there, or a number of the config is out of range.
    """
    config = job.config
    for key, least in (("epochs", 1), ("batch_size", 1), ("workers", 0)):
        check_at_least(key, config[key], least)
    train, test, fingerprint = read_splits(job.data, config["train_split"], config["test_split"])
    view = build(config["view"])
    backbone = job.load_backbone(config["geometry"], "keep").backbone.requires_grad_(False)
    backbone = backbone.to(memory_format=torch.channels_last)
    layers = select_layers(backbone, config["layers"])
    blank = torch.zeros(1, 3, view.size, view.size, dtype=torch.uint8, device=job.device)
    try:
        _features(backbone, blank, layers, config)
    except RuntimeError as error:
        raise InputError(
            f"{backbone.architecture} cannot look at photos of view.size={view.size}: {error}; choose a larger one"
        ) from error
    probes = _probes(backbone, layers, len(train.classes), job)
    rank, world_size = rank_and_world_size()
    sampler = EpochSampler(len(train.paths), config["batch_size"], job.seed, rank, world_size)
    # One stream of batches for the whole run: workers never wait for an epoch to begin.
    batches = iter(_loader(LabeledViews(train, view, job.seed), config, job, sampler))
    test_loader = _loader(
        LabeledViews(test, view, job.seed), config, job, range(rank, len(test.paths), world_size)
    )
    steps = sampler.steps_per_epoch * config["epochs"]
    optimizer, schedule = _optimizer(probes, config, steps)
    accuracies: list[dict[str, tuple[float, float]]] = []
    images = config["batch_size"] * world_size
    with ProgressDisplay(f"linear probe of {','.join(layers)}", steps, enabled=rank == 0) as progress:
        for _ in range(config["epochs"]):
            for _ in range(sampler.steps_per_epoch):
                loss = _step(backbone, probes, optimizer, next(batches), job)
                schedule.step()
                progress.step(images, loss=float(loss) / len(layers))
            accuracies.append(_accuracies(backbone, probes, test_loader, job))
    return _measurements(accuracies, layers, f"{config['train_split']}->{config['test_split']}", fingerprint)


def _probes(backbone: Backbone, layers: Sequence[str], num_classes: int, job: Job) -> nn.Module:
    pooling, batch_norm = job.config["pooling"], job.config["batch_norm"]
    probes: nn.Module = Probes(
        {
            name: LayerProbe(backbone.layer(name), num_classes, pooling, batch_norm, job.seed)
            for name in layers
        }
    )
    return data_parallel(probes, job.device)


def _loader(views: LabeledViews, config: dict[str, Any], job: Job, sampler: Any) -> DataLoader[Any]:
    return DataLoader(
        views,
        batch_size=config["batch_size"],
        sampler=sampler,
        num_workers=config["workers"],
        pin_memory=job.device.type == "cuda",
        prefetch_factor=4 if config["workers"] else None,
    )


def _optimizer(
    probes: nn.Module, config: dict[str, Any], steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    weights = [p for p in probes.parameters() if p.ndim > 1]
    biases = [p for p in probes.parameters() if p.ndim == 1]
    bias_lr = config["bias_lr_factor"] * config["optimizer"]["lr"]
    optimizer: torch.optim.Optimizer = build(
        config["optimizer"], [{"params": weights}, {"params": biases, "lr": bias_lr, "weight_decay": 0.0}]
    )
    # No gradient clipping here, ever: a norm over all probes would couple the layers.
    milestones = [round(share * steps) for share in config["milestones"]]
    return optimizer, torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, config["gamma"])


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
    """Frozen features in single precision, whatever they were computed in."""
    inputs = backbone.prepare(photos).contiguous(memory_format=torch.channels_last)
    with mixed_precision(photos.device, config["mixed_precision"]):
        features = backbone.extract(inputs, layers)
    return {name: value.float() for name, value in features.items()}


def _inner(probes: nn.Module) -> Probes:
    inner = probes.module if isinstance(probes, DistributedDataParallel) else probes
    assert isinstance(inner, Probes)
    return inner


@torch.no_grad()
def _accuracies(
    backbone: Backbone, probes: nn.Module, loader: DataLoader[Any], job: Job
) -> dict[str, tuple[float, float]]:
    """Top-1 and top-5 accuracy in percent, by layer."""
    inner = _inner(probes).eval()
    counts = torch.zeros(len(inner), 3, dtype=torch.float64, device=job.device)
    for photos, labels in loader:
        labels = labels.to(job.device)
        features = _features(backbone, photos.to(job.device, non_blocking=True), list(inner), job.config)
        for row, name in enumerate(inner):
            correct = topk_correct(inner[name](features[name]), labels, (1, 5))
            counts[row, :2] += correct
            counts[row, 2] += len(labels)
    inner.train()
    if rank_and_world_size()[1] > 1:
        dist.all_reduce(counts)
    shares = (100 * counts[:, :2] / counts[:, 2:]).tolist()
    return {name: (share[0], share[1]) for name, share in zip(inner, shares, strict=True)}


def _measurements(
    accuracies: list[dict[str, tuple[float, float]]], layers: Sequence[str], split: str, fingerprint: str
) -> list[Measurement]:
    def values() -> Iterator[tuple[str, str, float]]:
        for name in layers:
            yield name, "top1", accuracies[-1][name][0]
            yield name, "top5", accuracies[-1][name][1]
            yield name, "top1_best", max(epoch[name][0] for epoch in accuracies)
            yield name, "top5_best", max(epoch[name][1] for epoch in accuracies)

    return [Measurement(name, metric, value, split, fingerprint) for name, metric, value in values()]
