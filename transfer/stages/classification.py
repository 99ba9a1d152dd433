"""VOC classification: multi-label fine-tuning of a backbone, or of layers on top of it.

The test of Kraehenbuehl et al. ("Data-dependent initializations of convolutional neural networks", ICLR 2016)
that "Colorful Image Colorization" reports in table 2 under fc8, fc6-8 and all.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from pretext.backbones.base import Backbone
from pretext.backbones.initializers import normal_
from pretext.backbones.surgery import drop_fully_connected
from pretext.checks import room_for
from pretext.config import build
from pretext.data.crops import VIEWS, RandomCrop, RandomResizedCrop, RandomWindowCrop, center_crop
from pretext.data.sampling import Draw, draw_rng
from pretext.distributed import rank_and_world_size
from pretext.errors import InputError
from transfer.data.overlap import tell_overlap
from transfer.data.voc import (
    VOID,
    VocPhoto,
    classification_labels,
    open_voc,
    read_image,
    split_fingerprint,
)
from transfer.job import Job, Measurement
from transfer.networks.parts import Conv5, FullyConnected
from transfer.networks.preparation import prepare_backbone
from transfer.protocols.settings import ClassificationSettings
from transfer.scores.metrics import AVERAGE_PRECISIONS, check_scores
from transfer.scores.outcomes import AveragePrecision
from transfer.training.finetuning import fine_tune, gather, loader
from transfer.training.resume import resumable

#: Which parts of the classifier each value of ``train`` trains; the others stay as they are.
TRAINED: dict[str, tuple[str, ...]] = {
    "fc8": ("fc8",),
    "fc6-8": ("fully_connected", "fc8"),
    "all": ("conv5", "fully_connected", "fc8"),
}


class Classifier(nn.Module):
    """conv5, pooling to fc6's size, fc6, fc7 and a new fc8.

    Pooling is adaptive: on the published 13 x 13 positions of AlexNet's conv5 (14 x 14 of VGG-16's) its windows
    are those of the network's own pool5, and smaller photos work too.

    Args:
        backbone: Becomes part of the classifier, with its fc6 and fc7 if it has them.
        num_classes: Outputs of fc8.
        settings: The stage's.
        seed: Seed of the new layers; fc8 is drawn from N(0, 0.01^2).
    """

    def __init__(self, backbone: Backbone, num_classes: int, settings: ClassificationSettings, seed: int):
        super().__init__()
        trained = TRAINED[settings.train]
        self.conv5 = Conv5(drop_fully_connected(backbone), settings, "conv5" in trained)
        self.fully_connected = FullyConnected(
            backbone, self.conv5.out_channels, settings, "fully_connected" in trained, seed
        )
        self.fc8 = nn.Linear(self.fully_connected.out_channels, num_classes)
        normal_(self.fc8.weight, std=0.01, seed=seed, name="fc8")
        nn.init.constant_(self.fc8.bias, settings.new_bias)

    def forward(self, photos: Shaped[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        """Return the logits of photos with values 0..255."""
        pooled = F.adaptive_max_pool2d(self.conv5(photos), self.fully_connected.size)
        logits: Tensor = self.fc8(self.fully_connected(pooled))
        return logits


class ClassificationViews(Dataset[tuple[Tensor, Tensor]]):
    """Views of photos with their labels: a random crop for a draw, the crops for the test for a plain index.

    Args:
        photos: One split.
        labels: (N, C) in {0, 1, 255}.
        view: The random crop; the central crop has its ``size`` and ``resize`` too.
        crops: How many random crops to test on; 1 for the central crop.
        seed: Seed of every draw.
    """

    def __init__(
        self,
        photos: Sequence[VocPhoto],
        labels: UInt8[np.ndarray, "n c"],
        view: RandomCrop | RandomResizedCrop | RandomWindowCrop,
        crops: int,
        seed: int,
    ):
        self.photos, self.labels, self.view = photos, torch.from_numpy(labels), view
        self.crops, self.seed = crops, seed

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, which: Any) -> tuple[Tensor, Tensor]:
        """Return uint8 views, (3, size, size) for a Draw or (crops, 3, size, size) for an index, and labels (C,).

        Raises:
            InputError: The photo cannot be decoded.
        """
        if isinstance(which, Draw):
            image = read_image(self.photos[which.index].path)
            return self.view(image, draw_rng(self.seed, which)), self.labels[which.index]
        image = read_image(self.photos[which].path)
        if self.crops == 1:
            return center_crop(image, self.view.size, self.view.resize)[None], self.labels[which]
        # One more number than a draw has, so that no training crop is seen again.
        rng = np.random.default_rng((self.seed, 0, which, 1))
        return torch.stack([self.view(image, rng) for _ in range(self.crops)]), self.labels[which]


def multi_label_loss(logits: Float[Tensor, "n c"], labels: UInt8[Tensor, "n c"]) -> Float[Tensor, ""]:
    """Compute the sigmoid cross-entropy, summed over the classes that are judged and averaged over the photos.

    Args:
        logits: (N, C).
        labels: (N, C), 1 or 0; or 255 where a photo shows only difficult objects, which gives no loss.
    """
    judged = labels != VOID
    losses = F.binary_cross_entropy_with_logits(logits, (labels == 1).to(logits.dtype), reduction="none")
    return (losses * judged).sum() / len(logits)


def voc_classification(job: Job[ClassificationSettings]) -> list[Measurement]:
    """Fine-tune on one split and score on another; an interrupted run goes on.

    Returns:
        The mean average precision in three definitions: ``mean_ap_sklearn`` (as the published code computes it),
        ``mean_ap_voc07`` (11 points) and ``mean_ap_voc10``.

    Raises:
        InputError: The data or the backbone cannot be used.
        TrainingDivergedError: The loss or a score is not a finite number.
    """
    settings = job.settings
    year = open_voc(job.data, settings.year)
    train, test = year.photos(settings.train_split), year.photos(settings.test_split)
    tell_overlap([photo.path for photo in train], [photo.path for photo in test])
    view = build(settings.view, VIEWS)
    views = [
        ClassificationViews(
            photos, classification_labels(photos, len(year.classes)), view, settings.crops, job.seed
        )
        for photos in (train, test)
    ]
    loaded = prepare_backbone(job, [photo.path for photo in train])
    backbone = loaded.backbone
    if settings.train == "fc8" and "fc6" not in backbone.layer_names:
        raise InputError(
            "train=fc8 needs a backbone with fc6 and fc7 of its own; new ones would stay random",
            received=f"{backbone.architecture} without",
            allowed="choose train=fc6-8 or train=all",
        )
    model = Classifier(backbone, len(year.classes), settings, job.seed).to(job.device)
    _check_size(model, view.size, job)

    def loss_of(network: nn.Module, batch: Sequence[Tensor]) -> Float[Tensor, ""]:
        photos, labels = (value.to(job.device, non_blocking=True) for value in batch)
        return multi_label_loss(network(photos), labels)

    names = split_fingerprint({settings.train_split: train, settings.test_split: test})
    with resumable(job, loaded.sha256, names) as unfinished:
        title = f"VOC classification ({settings.train})"
        fine_tune(model, views[0], loss_of, job, title, unfinished=unfinished)
        logits = predict(model, views[1], job)
        check_scores(title, [torch.from_numpy(logits)])
    labels = views[1].labels.numpy()
    return precision_measurements(settings.train, logits, labels, settings.split, names)


def _check_size(model: nn.Module, side: int, job: Job[ClassificationSettings]) -> None:
    blank = torch.zeros(1, 3, side, side, dtype=torch.uint8, device=job.device)
    with torch.no_grad(), room_for("the network", f"view.size={side}"):
        model.eval()(blank)


def precision_measurements(
    setting: str, scores: Float[np.ndarray, "n c"], labels: UInt8[np.ndarray, "n c"], split: str, names: str
) -> list[Measurement]:
    """Return the mean average precision of scores (N, C) in each of `AVERAGE_PRECISIONS`."""
    measurements = []
    for definition in AVERAGE_PRECISIONS:
        outcomes = AveragePrecision(scores, labels, np.array([definition]))
        value = outcomes.metric()
        measurements.append(Measurement(setting, f"mean_ap_{definition}", value, split, names, outcomes))
    return measurements


@torch.no_grad()
def predict(
    model: nn.Module, views: ClassificationViews, job: Job[ClassificationSettings]
) -> Float[np.ndarray, "n c"]:
    """Return the logits (N, C) of all photos, each the sum over its crops."""
    rank, world_size = rank_and_world_size()
    indices = range(rank, len(views), world_size)
    logits = [
        model(crops.flatten(0, 1).to(job.device)).unflatten(0, crops.shape[:2]).sum(1).double().cpu()
        for crops, _ in loader(views, job, indices)
    ]
    rows = gather(list(zip(indices, torch.cat(logits).tolist() if logits else [], strict=True)))
    return np.array([row for _, row in sorted(rows)])
