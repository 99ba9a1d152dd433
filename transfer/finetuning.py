"""What fine-tuning for classification and detection shares: parts of the network, and the training loop."""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset

from pretext.backbones.base import Backbone, ConvBlock, Layer, check_choice
from pretext.config import build
from pretext.data.views import EpochSampler
from pretext.distributed import rank_and_world_size
from pretext.errors import InputError
from pretext.hooks import TrainingDivergedError
from pretext.initializers import he_normal_
from pretext.progress import ProgressDisplay
from transfer.stage import Job

BatchNorm = Literal["absorb", "frozen", "train"]


class Part(nn.Module):
    """A part of a network that is fine-tuned, or left as it is, as a whole.

    Batch norm is never trained halfway: in a part that is not trained, or with ``batch_norm="frozen"``,
    neither its statistics nor its scale and shift change (DeepCluster's erratum: scale and shift trained in
    "frozen" convolutions gave 72.0 instead of 70.4 mAP).
    """

    def hold(self, trained: bool, batch_norm: BatchNorm) -> None:
        """Decide what is trained: nothing, or all but, with ``frozen`` or ``absorb``, the batch norms."""
        self.requires_grad_(trained)
        self.batch_norm_trained = trained and batch_norm == "train"
        if not self.batch_norm_trained:
            for norm in self._batch_norms():
                norm.requires_grad_(False)

    def train(self, mode: bool = True) -> "Part":
        """As for any module, but a batch norm that is not trained stays in eval mode."""
        super().train(mode)
        for norm in self._batch_norms():
            norm.train(mode and self.batch_norm_trained)
        return self

    def _batch_norms(self) -> list[nn.Module]:
        return [m for m in self.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


class Conv5(Part):
    """A backbone up to its last convolution of block 5 (AlexNet: conv5, VGG-16: conv5_3).

    Attributes:
        layer: That layer.
        out_channels: Its channels; torchvision's detectors read it.
    """

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.backbone = backbone
        self.layer: Layer = [layer for layer in backbone.layers if layer.name.startswith("conv5")][-1]
        self.out_channels = self.layer.channels

    def forward(self, photos: Shaped[Tensor, "n 3 h w"]) -> Float[Tensor, "n c i j"]:
        """Features (N, out_channels, H / stride, W / stride) of photos with values 0..255."""
        features: Tensor = self.backbone(photos, [self.layer.name])[self.layer.name]
        return features


class FullyConnected(Part):
    """fc6 and fc7 over a pooled map, each followed by ReLU and dropout.

    They are the backbone's own where it has them, and are then taken out of it; else they are new, and drawn
    as He et al. (ICCV 2015) do from (seed, name).

    Args:
        backbone: Where fc6 and fc7 are taken from.
        in_channels: Channels of the pooled map.
        size: Side of the pooled map for new layers; the backbone's own know theirs.
        channels: Channels of new layers; the papers have 4096.
        dropout: Probability that a channel is dropped.
        seed: Seed of new layers.
    """

    def __init__(
        self, backbone: Backbone, in_channels: int, size: int, channels: int, dropout: float, seed: int
    ):
        super().__init__()
        if "fc6" in backbone.layer_names:
            fc6, fc7 = backbone.get_submodule("fc6"), backbone.get_submodule("fc7")
            assert isinstance(fc6, ConvBlock)
            assert isinstance(fc7, ConvBlock)
            self.fc6, self.fc7 = fc6, fc7
            del backbone.fc6, backbone.fc7
        else:
            self.fc6 = ConvBlock(nn.Conv2d, in_channels, channels, "none", kernel_size=size)
            self.fc7 = ConvBlock(nn.Conv2d, channels, channels, "none", kernel_size=1)
            he_normal_(self, seed)
        self.size, self.out_channels = self.fc6.conv.kernel_size[0], self.fc7.conv.out_channels
        self.dropout = nn.Dropout(dropout)

    def forward(self, pooled: Float[Tensor, "n c k k"]) -> Float[Tensor, "n d"]:
        """Features (N, out_channels) of fc7."""
        x = self.dropout(_fully_connected(self.fc6, pooled.flatten(1)))
        features: Tensor = self.dropout(_fully_connected(self.fc7, x))
        return features


def _fully_connected(block: ConvBlock, x: Float[Tensor, "n i"]) -> Float[Tensor, "n o"]:
    # A convolution that covers its whole input is a matrix product, and faster as one. Its padding and
    # dilation in the pretraining geometry do not matter here.
    x = F.linear(x, block.conv.weight.flatten(1), block.conv.bias)
    return F.relu(block.norm(x[:, :, None, None]).flatten(1))


def check_config(config: Mapping[str, Any], settings: Iterable[str]) -> None:
    """Check what all fine-tuning configs share.

    Args:
        config: The stage's config.
        settings: Allowed values of its key ``train``.

    Raises:
        InputError: ``train``, ``batch_norm`` or ``schedule.name`` is none of the allowed values, or a number
            is out of range.
    """
    check_choice("train", config["train"], settings)
    check_choice("batch_norm", config["batch_norm"], ("absorb", "frozen", "train"))
    check_choice("schedule", config["schedule"]["name"], ("cosine", "step"))
    for key in ("epochs", "batch_size", "fc_channels", "fc6_size"):
        if config[key] < 1:
            raise InputError(f"{key} is too small: received {config[key]}, allowed are 1 and above")
    warmup = config["schedule"]["warmup"]
    if not 0 <= warmup < 1:
        raise InputError(
            f"schedule.warmup is a share of all steps: received {warmup}, allowed are 0 to below 1"
        )


def fine_tune(
    model: nn.Module,
    samples: Dataset[Any],
    loss_of: Callable[[Any], Float[Tensor, ""]],
    job: Job,
    title: str,
    collate: Callable[[list[Any]], Any] | None = None,
) -> None:
    """Train what requires a gradient in ``model`` by gradient descent, and leave it in eval mode.

    Every random number that is drawn on the way depends on (seed, step) or (seed, epoch, index of the photo).
    With several processes each computes its share of a batch, and gradients are averaged.

    Args:
        model: On the job's device.
        samples: Training samples by :class:`pretext.data.views.Draw`; their number is ``len(samples)``.
        loss_of: From a batch to the loss that is minimised.
        job: Its config has ``epochs``, ``batch_size``, ``workers``, ``optimizer``, ``bias_lr_factor``,
            ``max_grad_norm`` and ``schedule``.
        title: What the progress display says.
        collate: From samples to a batch; by default torch's.

    Raises:
        InputError: There are fewer samples than one batch needs.
        TrainingDivergedError: The loss is no longer finite.
    """
    config, (rank, world_size) = job.config, rank_and_world_size()
    images = config["batch_size"] * world_size
    sampler = EpochSampler(len(samples), config["batch_size"], job.seed, rank, world_size)  # type: ignore[arg-type]
    steps = config["epochs"] * sampler.steps_per_epoch
    batches = islice(loader(samples, job, sampler, collate), steps)
    optimizer = _optimizer(model, config)
    scheduler = LambdaLR(optimizer, lambda step: rate_factor(step, steps, config["schedule"]))
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    # On leaving, torch's generators are as they were.
    devices = [job.device] if job.device.type == "cuda" else []
    model.train()
    with torch.random.fork_rng(devices), ProgressDisplay(title, steps, enabled=rank == 0) as display:
        for step, batch in enumerate(batches):
            torch.manual_seed(_step_seed(job.seed, step, rank))
            optimizer.zero_grad()
            loss = loss_of(batch)
            loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
            _check_finite(loss.item(), step, title)
            _average_gradients(weights, world_size)
            nn.utils.clip_grad_norm_(weights, config["max_grad_norm"])
            optimizer.step()
            scheduler.step()
            display.step(images, loss=loss.item())
    model.eval()


def loader(
    samples: Dataset[Any],
    job: Job,
    sampler: Iterable[Any],
    collate: Callable[[list[Any]], Any] | None = None,
) -> DataLoader[Any]:
    """Batches of the samples that ``sampler`` names, decoded by the config's ``workers``."""
    return DataLoader(
        samples,
        batch_size=job.config["batch_size"],
        sampler=sampler,
        num_workers=job.config["workers"],
        collate_fn=collate,
        pin_memory=job.device.type == "cuda",
    )


def rate_factor(step: int, steps: int, schedule: Mapping[str, Any]) -> float:
    """What the learning rate is multiplied by at one step of a schedule.

    A linear warm-up over the share ``warmup`` of all steps, then ``cosine``: half a cosine down to 0; or
    ``step``: times ``decay`` after each of ``stages`` equal parts but the last (Kraehenbuehl et al. 2016: 0.5
    and 8 for classification, 0.1 and 3 for detection).
    """
    warmup = round(schedule["warmup"] * steps)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(steps - warmup, 1)
    if schedule["name"] == "cosine":
        return (1 + math.cos(math.pi * done)) / 2
    decay: float = schedule["decay"]
    return float(decay ** min(int(done * schedule["stages"]), schedule["stages"] - 1))


def gather(items: list[Any]) -> list[Any]:
    """The items of all processes: those of process 0, then those of process 1, and so on."""
    if rank_and_world_size()[1] == 1:
        return items
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, items)
    return [item for part in gathered for item in part]


def _optimizer(model: nn.Module, config: Mapping[str, Any]) -> torch.optim.Optimizer:
    # Biases are not decayed, and in Caffe's nets they learn at twice the rate.
    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    weights = [weight for _, weight in named if weight.ndim > 1]
    others = [weight for _, weight in named if weight.ndim <= 1]
    rate = config["optimizer"]["lr"] * config["bias_lr_factor"]
    groups = [{"params": weights}, {"params": others, "weight_decay": 0.0, "lr": rate}]
    optimizer: torch.optim.Optimizer = build(config["optimizer"], groups)
    return optimizer


def _step_seed(seed: int, step: int, rank: int) -> int:
    digest = hashlib.sha256(f"fine-tuning/{seed}/{step}/{rank}".encode()).digest()
    return int.from_bytes(digest[:7], "little")


def _check_finite(loss: float, step: int, title: str) -> None:
    if not math.isfinite(loss):
        raise TrainingDivergedError(
            f"the loss of the {title} is {loss} at step {step + 1}; no score is written. Lower optimizer.lr,"
            " or lengthen schedule.warmup"
        )


def _average_gradients(weights: Sequence[Tensor], world_size: int) -> None:
    if world_size == 1:
        return
    for weight in weights:
        weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
        dist.all_reduce(weight.grad)
        weight.grad /= world_size
