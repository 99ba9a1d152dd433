"""Networks that look at coloured photos, one by one, and what they find: classifiers, LPIPS, and FID."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor, nn

from pretext.backbones.classifier import classifier_sha256
from pretext.backbones.classifier import load_classifier as load_own_classifier
from pretext.checks import room_for
from pretext.config import build
from pretext.data.crops import VIEWS, View, center_crop
from pretext.errors import InputError
from pretext.progress import say
from transfer.data.colored import TruePhotos
from transfer.networks.classifiers import (
    CROP,
    RESIZE,
    class_numbers,
    load_classifier,
)
from transfer.networks.given_weights import file_sha256
from transfer.networks.perceptual import InceptionFeatures, Lpips, linear_weights, load_inception, load_lpips
from transfer.protocols.settings import ColorizationSettings
from transfer.scores.colors import frechet_distance
from transfer.scores.metrics import check_scores
from transfer.scores.outcomes import Accuracy, Mean, Outcomes

Photo = UInt8[Tensor, "3 h w"]


@dataclass(frozen=True)
class Finding:
    """What a critic found.

    Attributes:
        metric: Of the stage.
        network: Its name and the hash of its weights; None where the metric's name says enough.
        value: In the metric's unit.
        outcomes: What was found on each photo, if it is a mean over photos.
    """

    metric: str
    network: str | None
    value: float
    outcomes: Outcomes | None = None


@runtime_checkable
class Critic(Protocol):
    """What looks at coloured photos."""

    def add(self, rgb: Photo, truth: Photo) -> None:
        """Look at one photo in its colours; the true one is of the same size."""
        ...

    def found(self) -> Finding:
        """Return what was found on all."""
        ...


@dataclass(frozen=True)
class _Crop:
    """The central square that a classifier sees, and the shorter side before it is cut, in pixels."""

    size: int
    resize: int

    def __call__(self, rgb: Photo) -> UInt8[Tensor, "3 size size"]:
        return center_crop(Image.fromarray(rgb.permute(1, 2, 0).numpy()), self.size, self.resize)


class Classification:
    """Classifies coloured photos, batch by batch.

    Args:
        metric: What the share of those that are classified as what they show is called.
        network: As `Finding` has it.
        classifier: Takes uint8 photos and gives logits; on its device.
        labels: Number of the class of each photo.
        crop: What it sees of a photo.
        batch_size: Photos of a batch.
    """

    def __init__(
        self,
        metric: str,
        network: str | None,
        classifier: nn.Module,
        labels: Sequence[int],
        crop: _Crop,
        batch_size: int,
    ):
        self.metric, self.network, self.labels = metric, network, labels
        self._classifier, self._crop, self._batch_size = classifier, crop, batch_size
        self._device = next(classifier.parameters()).device
        self._waiting: list[Tensor] = []
        self._predicted: list[int] = []

    def add(self, rgb: Photo, truth: Photo) -> None:
        """See `Critic`."""
        self._waiting.append(self._crop(rgb))
        if len(self._waiting) == self._batch_size:
            self._classify()

    def found(self) -> Finding:
        """See `Critic`."""
        if self._waiting:
            self._classify()
        pairs = zip(self._predicted, self.labels, strict=True)
        outcomes = Accuracy(np.array([predicted == label for predicted, label in pairs]))
        return Finding(self.metric, self.network, outcomes.metric(), outcomes)

    def _classify(self) -> None:
        logits = self._classifier(torch.stack(self._waiting).to(self._device))
        check_scores("classifier", [logits])
        self._predicted += logits.argmax(1).tolist()
        self._waiting = []


class Likeness:
    """LPIPS of each photo and the true one."""

    def __init__(self, network: str, lpips: Lpips):
        self.network, self._lpips, self._values = network, lpips, list[float]()

    def add(self, rgb: Photo, truth: Photo) -> None:
        """See `Critic`."""
        device = self._lpips.shift.device
        with room_for("LPIPS", " x ".join(map(str, truth.shape[1:]))):
            self._values += self._lpips(rgb[None].to(device), truth[None].to(device)).tolist()

    def found(self) -> Finding:
        """See `Critic`."""
        outcomes = Mean(np.array(self._values))
        return Finding("lpips", self.network, outcomes.metric(), outcomes)


class Frechet:
    """The Frechet Inception distance between all photos and the true ones."""

    def __init__(self, network: str, inception: InceptionFeatures):
        self.network, self._inception = network, inception
        self._device = next(inception.parameters()).device
        self._features: list[Tensor] = []

    def add(self, rgb: Photo, truth: Photo) -> None:
        """See `Critic`."""
        self._features.append(self._inception(torch.stack([rgb, truth]).to(self._device)).cpu())

    def found(self) -> Finding:
        """See `Critic`."""
        both = torch.stack(self._features, dim=1)
        check_scores("Inception network", [both])
        return Finding("fid", self.network, frechet_distance(both[0], both[1]))


def critics(settings: ColorizationSettings, photos: TruePhotos, device: torch.device) -> list[Critic]:
    """Return all that the settings ask for, on the device.

    Raises:
        InputError: A file of weights cannot be used, or the class of a photo is not known.
    """
    found: list[Critic | None] = [_classification(settings, photos, device)]
    if settings.lpips_weights is not None:
        given = settings.lpips_linear
        linear = linear_weights() if given is None else Path(given)
        lpips = load_lpips(Path(settings.lpips_weights), linear)
        digests = [file_sha256(path)[:8] for path in (settings.lpips_weights, linear)]
        found.append(Likeness(f"alexnet {' '.join(digests)}", lpips.to(device)))
    if settings.fid_weights is not None:
        form, inception = load_inception(Path(settings.fid_weights))
        found.append(Frechet(f"{form} {file_sha256(settings.fid_weights)[:8]}", inception.to(device)))
    return [critic for critic in found if critic is not None]


def _classification(
    settings: ColorizationSettings, photos: TruePhotos, device: torch.device
) -> Classification | None:
    """Return what classifies the photos; None, and a line on stderr, where their classes have no known numbers."""
    name = settings.classifier
    if name is None:
        return None
    if settings.classifies_by_own:
        return _own_classification(Path(name), settings, photos, device)
    numbers = class_numbers(photos.all_folders, settings.classes)
    if numbers is None:
        say("the photos are not classified: their folders are not named by WordNet ids, such as n01440764")
        return None
    classifier = load_classifier(name, settings.classifier_weights).to(device)
    metric, network = "top1_efficientnet_lite0", None
    if settings.classifier_weights is not None:
        metric, network = "top1_classifier", f"{name} {file_sha256(settings.classifier_weights)[:8]}"
    return Classification(
        metric, network, classifier, _labels(photos, numbers), _Crop(CROP, RESIZE), settings.batch_size
    )


def _own_classification(
    path: Path, settings: ColorizationSettings, photos: TruePhotos, device: torch.device
) -> Classification:
    classifier = load_own_classifier(path).to(device)
    provenance, backbone = classifier.provenance, classifier.backbone
    assert provenance is not None  # load_classifier reads it
    if backbone.input_space == "lightness":
        raise InputError(
            "the classifier does not see colours",
            received=f"{path}, which sees lightness alone",
            allowed="train one by supervised with backbone.input_space=rgb, the default",
        )
    numbers = {name: number for number, name in enumerate(classifier.classes)}
    unknown = sorted(photos.all_folders - numbers.keys())
    if unknown:
        raise InputError(
            f"the classifier {path} was not trained on all folders of the photos",
            received=", ".join(unknown[:5]),
            allowed=f"it knows {', '.join(classifier.classes[:5])}{', ...' if len(numbers) > 5 else ''};"
            " classifier=None leaves it out",
        )
    view: View = build(provenance.config["view"], VIEWS)
    return Classification(
        "top1_own_classifier",
        f"{provenance.method} {backbone.architecture} {classifier_sha256(classifier)[:8]}",
        classifier,
        _labels(photos, numbers),
        _Crop(view.size, view.resize),
        settings.batch_size,
    )


def _labels(photos: TruePhotos, numbers: Mapping[str, int]) -> list[int]:
    return [numbers[name.split("/")[-2]] for name in photos.names]
