"""VOC classification by linear support vector machines on frozen features.

The test of Goyal et al. ("Scaling and Benchmarking Self-Supervised Visual Representation Learning", ICCV 2019,
section 6.1): one machine per class, whose cost is chosen by cross-validation on the training split.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Integer
from joblib import Parallel, delayed
from PIL import Image
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import cross_val_score
from sklearn.svm import LinearSVC
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pretext.backbones.base import Backbone
from pretext.checks import room_for
from pretext.config import build
from pretext.data.crops import to_tensor
from pretext.distributed import rank_and_world_size
from pretext.errors import InputError
from pretext.precision import mixed_precision
from pretext.progress import LOG, ProgressDisplay, say
from pretext.training.schedules import run_length
from transfer.data.overlap import tell_overlap
from transfer.data.voc import VocPhoto, classification_labels, open_voc, read_image, split_fingerprint
from transfer.job import Job, Measurement
from transfer.networks.reductions import REDUCTIONS
from transfer.protocols.settings import SvmSettings
from transfer.protocols.table import sizes_note
from transfer.stages.classification import precision_measurements
from transfer.stages.linear_probe import Reduction, select_layers

#: Added to the norm of a photo's features before dividing by it.
EPSILON = 1e-5


class WholePhotos(Dataset[Tensor]):
    """Photos resized whole to a square, uint8 (3, side, side)."""

    def __init__(self, photos: Sequence[VocPhoto], side: int):
        self.photos, self.side = photos, side

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> Tensor:
        """Return one photo.

        Raises:
            InputError: The photo cannot be decoded.
        """
        image = read_image(self.photos[index].path)
        return to_tensor(image.resize((self.side, self.side), Image.Resampling.BILINEAR))


@dataclass(frozen=True)
class ClassResult:
    """The machine of one class on one layer.

    Attributes:
        scores: (N,) its scores of the test photos.
        cost: The cost chosen.
        validation_ap: Its average precision in cross-validation.
        converged: Whether training converged within the allowed iterations.
    """

    scores: Float[np.ndarray, " n"]
    cost: float
    validation_ap: float
    converged: bool


def voc_svm(job: Job[SvmSettings]) -> list[Measurement]:
    """Train a linear SVM for each class on each of ``job.settings.layers``, and score another split.

    For each layer and class, the chosen cost and its AP in cross-validation go to `pretext.progress.LOG`. As in the
    authors' code, a training photo that shows only difficult objects of a class counts as one without it.

    Returns:
        For each layer the mean average precision in three definitions (the authors compute ``mean_ap_voc10``). The
        AP of a class leaves out photos that show only difficult objects of it.

    Raises:
        InputError: The data or the backbone cannot be used; a feature is not a finite number; there are several
            processes; fewer photos show a class, or do not show it, than there are folds.
    """
    settings = job.settings
    processes = rank_and_world_size()[1]
    if processes > 1:
        raise InputError(
            "support vector machines are trained by one process",
            received=f"{processes} processes",
            allowed="set workers=N to train several machines side by side",
        )
    year = open_voc(job.data, settings.year)
    train, test = year.photos(settings.train_split), year.photos(settings.test_split)
    tell_overlap([photo.path for photo in train], [photo.path for photo in test])
    labels = [classification_labels(photos, len(year.classes)) for photos in (train, test)]
    _check_folds(labels[0], year.classes, settings)
    backbone = job.load_backbone(settings.geometry, "keep").backbone
    layers = select_layers(backbone, settings.layers)
    _check_size(backbone, layers, job)
    features = [_features(backbone, photos, layers, job) for photos in (train, test)]
    names = split_fingerprint({settings.train_split: train, settings.test_split: test})
    measurements = []
    for layer in layers:
        results = train_machines(features[0][layer], labels[0], features[1][layer], settings, job.seed)
        for name, result in zip(year.classes, results, strict=True):
            doubt = "" if result.converged else ", not converged"
            LOG.info(f"{layer} {name}: cost {result.cost:g}, validation AP {result.validation_ap:.4f}{doubt}")
        scores = np.stack([result.scores for result in results], axis=1)
        measurements += precision_measurements(layer, scores, labels[1], settings.split, names)
    return measurements


def _check_folds(labels: Integer[np.ndarray, "n c"], classes: Sequence[str], settings: SvmSettings) -> None:
    few = [
        f"fewer {word} {name}"
        for word, shown in (("with", labels == 1), ("without", labels != 1))
        for name, count in zip(classes, shown.sum(0), strict=True)
        if count < settings.folds
    ]
    if few:
        raise InputError(
            f"folds={settings.folds} needs as many photos with each class, and without it, in"
            f" train_split={settings.train_split}",
            received=", ".join(few),
            allowed="choose fewer folds or a larger split",
        )


def train_machines(
    train: Float[np.ndarray, "n d"],
    labels: Integer[np.ndarray, "n c"],
    test: Float[np.ndarray, "m d"],
    settings: SvmSettings,
    seed: int,
) -> list[ClassResult]:
    """Train one machine per class, as many side by side as there are ``workers``.

    Args:
        train: Features of the training photos.
        labels: 1, 0, or 255 where a photo shows only difficult objects.
        test: Features of the photos to score.
        settings: The stage's.
        seed: Seed of the coordinate descent.
    """
    jobs = max(settings.workers, 1)
    one = delayed(_train_class)
    results: list[ClassResult] = Parallel(n_jobs=jobs)(
        one(train, np.where(column == 1, 1, -1), test, settings, seed) for column in labels.T
    )
    return results


def _train_class(
    train: Float[np.ndarray, "n d"],
    targets: Integer[np.ndarray, " n"],
    test: Float[np.ndarray, "m d"],
    settings: SvmSettings,
    seed: int,
) -> ClassResult:
    iterations = run_length(settings.scale, settings.max_iterations)

    def machine(cost: float) -> LinearSVC:
        return LinearSVC(
            C=cost,
            class_weight={1: settings.positive_weight, -1: 1.0},
            tol=settings.tolerance,
            max_iter=iterations,
            dual=True,
            random_state=seed,
        )

    with warnings.catch_warnings():
        # High costs do not converge within the authors' 2,000 iterations; theirs did not either.
        warnings.simplefilter("ignore", ConvergenceWarning)
        validation = [
            cross_val_score(machine(c), train, targets, cv=settings.folds, scoring="average_precision").mean()
            for c in settings.costs
        ]
        best = int(np.argmax(validation))
        chosen = machine(settings.costs[best]).fit(train, targets)
    converged = bool(chosen.n_iter_ < iterations)
    return ClassResult(
        chosen.decision_function(test), settings.costs[best], float(validation[best]), converged
    )


@torch.no_grad()
def _features(
    backbone: Backbone, photos: Sequence[VocPhoto], layers: Sequence[str], job: Job[SvmSettings]
) -> dict[str, Float[np.ndarray, "n d"]]:
    """Return reduced features of unit norm, by layer; InputError if one is not a finite number."""
    settings = job.settings
    reduction: Reduction = build(settings.reduction, REDUCTIONS)
    loader = DataLoader(
        WholePhotos(photos, settings.size), batch_size=settings.batch_size, num_workers=settings.workers
    )
    rows: dict[str, list[np.ndarray]] = {name: [] for name in layers}
    with ProgressDisplay("features", len(loader)) as progress:
        for batch in loader:
            with mixed_precision(job.device, settings.mixed_precision):
                maps = backbone(batch.to(job.device), layers)
            for name, values in maps.items():
                flat = reduction(backbone.layer(name), values.float()).flatten(1)
                rows[name].append((flat / (flat.norm(dim=1, keepdim=True) + EPSILON)).cpu().numpy())
            progress.step(len(batch))
    features = {name: np.concatenate(parts) for name, parts in rows.items()}
    broken = [name for name, values in features.items() if not np.isfinite(values).all()]
    if broken:
        raise InputError(
            f"{job.backbone} gives features that are NaN or infinite",
            received=", ".join(broken),
            allowed="use a backbone whose weights are finite numbers",
        )
    return features


def _check_size(backbone: Backbone, layers: Sequence[str], job: Job[SvmSettings]) -> None:
    size, reduction = job.settings.size, build(job.settings.reduction, REDUCTIONS)
    blank = torch.zeros(1, 3, size, size, dtype=torch.uint8, device=job.device)
    with torch.no_grad(), room_for(backbone.architecture, f"size={size}"):
        sizes = {
            name: reduction(backbone.layer(name), maps).numel()
            for name, maps in backbone(blank, layers).items()
        }
    note = sizes_note(job.settings.protocol, sizes)
    if note:
        say(note)
