"""How good colours are: those of a colorizer, or of photos that were coloured before, against the true photos.

The raw accuracy and the classification of "Colorful Image Colorization" (Zhang et al., ECCV 2016, section 3.1 and
table 1), and the numbers of later papers. docs/colorization.md defines them. Everything is measured on the 8-bit sRGB
photo that a viewer would see: what was coloured by others has nothing else.
"""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.utils.data import DataLoader

from pretext.checks import room_for
from pretext.color.bins import SoftEncoder
from pretext.color.lab import rgb_to_lab
from pretext.color.prior import ColorPrior, load_prior
from pretext.distributed import rank_and_world_size
from pretext.errors import InputError
from pretext.progress import ProgressDisplay
from transfer.data.colored import ColoredFiles, TruePhotos
from transfer.job import Job, Measurement
from transfer.networks.critics import critics
from transfer.networks.judged_colors import painter_of
from transfer.networks.painters import Folder, Matched, Model
from transfer.protocols.settings import ColorizationSettings
from transfer.scores import colors
from transfer.scores.outcomes import Mean, Outcomes, RootMean, Share
from transfer.stage import STAGES

#: What scores are filed under: one setting, the photos.
SETTING = "photos"


def colorization(job: Job[ColorizationSettings]) -> list[Measurement]:
    """Measure the colours of ``job.backbone``, which `transfer.color_sources.color_source` takes.

    Returns:
        All metrics that apply: entropy and diversity need a distribution, the size of a network a network, the
        classification photos in folders of known classes, and FID and LPIPS files of weights. Both accuracies and the
        colourfulness also at each of the settings' ``temperatures``, filed under ``T=0.38`` and so on.

    Raises:
        InputError: Photos, colours, a gallery, a classifier or weights cannot be used; or there are several processes.
    """
    processes = rank_and_world_size()[1]
    if processes > 1:
        raise InputError("colours are judged by one process", received=f"{processes} processes")
    settings = job.settings
    photos = TruePhotos(job.data, settings.photos, settings.count, settings.fit, settings.size)
    prior = load_prior(settings.prior)
    # First what is told at once: a gallery takes long, and so do many photos.
    lookers = critics(settings, photos, job.device)
    painter = painter_of(job, photos, prior)
    _read_all("photos", photos, settings.workers)
    source = painter.painter if isinstance(painter, Matched) else painter
    if isinstance(source, Folder):
        _read_all("coloured files", source.files, settings.workers)
    rarity = _Rarity(prior)
    judge, sweep = _Judge(rarity), _Sweep(rarity)
    loader = DataLoader(photos, batch_size=None, num_workers=settings.workers)
    with ProgressDisplay("colours", len(photos)) as progress, torch.no_grad():
        for index, truth in enumerate(loader):
            with room_for("the colorizer", f"network_size={settings.network_size}"):
                painted = painter(index, truth)
            judge.add(painted.rgb, truth, painted.measured)
            sweep.add(painted.swept, truth)
            for critic in lookers:
                critic.add(painted.rgb, truth)
            progress.step(1)
    numbers = judge.numbers() | (_sizes(painter, photos[0]) if isinstance(painter, Model) else {})
    split, fingerprint = job.data.stem, photos.fingerprint()
    return [
        *(
            Measurement(SETTING, metric, outcomes.metric(), split, fingerprint, outcomes)
            for metric, outcomes in judge.outcomes().items()
        ),
        *(
            Measurement(seen.network or SETTING, seen.metric, seen.value, split, fingerprint, seen.outcomes)
            for seen in (critic.found() for critic in lookers)
        ),
        *(
            Measurement(place, metric, outcomes.metric(), split, fingerprint, outcomes)
            for (place, metric), outcomes in sweep.outcomes().items()
        ),
        *(Measurement(SETTING, metric, value, split, fingerprint) for metric, value in numbers.items()),
    ]


def _read_all(kind: str, photos: TruePhotos | ColoredFiles, workers: int) -> None:
    """Decode all photos once: InputError for a bad one now, not when hours of scoring would go with it."""
    with ProgressDisplay(f"reading {kind}", len(photos)) as progress:
        for _ in DataLoader(photos, batch_size=None, num_workers=workers):
            progress.step(1)


def _sizes(model: Model, photo: UInt8[Tensor, "3 h w"]) -> dict[str, float]:
    return {"parameters": model.parameters_mb(), "features": model.features_mb(photo)}


class _Rarity:
    """Tells how rare true colours are by a prior."""

    def __init__(self, prior: ColorPrior):
        self._probabilities = prior.probabilities
        self._encoder = SoftEncoder(prior.bins, neighbors=1)

    def __call__(self, lab: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n h w"]:
        """Return the weight of each pixel in the rebalanced accuracy."""
        return colors.rarity(self._encoder.nearest_bin(lab[:, 1:]), self._probabilities)


class _Judge:
    """Compares photo by photo, and keeps the numbers of each.

    Args:
        rarity: Weighs true colours.
    """

    def __init__(self, rarity: _Rarity):
        self._rarity = rarity
        self._numbers: dict[str, list[float]] = defaultdict(list)
        self._curves: list[np.ndarray] = []

    def add(
        self, rgb: UInt8[Tensor, "3 h w"], truth: UInt8[Tensor, "3 h w"], measured: Mapping[str, float]
    ) -> None:
        """Compare one photo."""
        lab, true_lab = (rgb_to_lab(each[None]) for each in (rgb, truth))
        shown, shown_truth = (each[None] / 255 for each in (rgb, truth))
        errors = colors.ab_errors(lab, true_lab)
        plain = colors.raw_accuracy(errors)
        weights = self._rarity(true_lab)
        found = {
            "auc": plain[0] / plain[1],
            "squares": colors.mean_squared_ab_error(errors),
            "alphabeta": colors.mean_squared_alphabeta_error(shown, shown_truth),
            "psnr": colors.psnr(shown, shown_truth),
            "ssim": colors.ssim(shown, shown_truth),
            "ciede2000": colors.ciede2000(lab, true_lab).mean((1, 2)),
        }
        found["parts"], found["wholes"] = colors.raw_accuracy(errors, weights)
        for suffix, absolute in (("", False), ("_abs", True)):
            found[f"colorfulness{suffix}"] = colors.colorfulness(shown, absolute)
            found[f"true{suffix}"] = colors.colorfulness(shown_truth, absolute)
        for name, value in (found | dict(measured)).items():
            self._numbers[name].append(float(value))
        self._curves.append(colors.error_curve(errors)[0].numpy())

    def outcomes(self) -> dict[str, Outcomes]:
        """Return by metric what was found on each photo."""
        each = {name: np.array(values) for name, values in self._numbers.items()}
        found: dict[str, Outcomes] = {
            # Each photo counts alike, whatever its size.
            "auc": Share(each["auc"], np.ones_like(each["auc"]), np.stack(self._curves)),
            "auc_rebalanced": Share(each["parts"], each["wholes"], np.zeros((len(each["parts"]), 0))),
            "rmse_ab": RootMean(each["squares"]),
            "rmse_alphabeta": RootMean(each["alphabeta"]),
        }
        for suffix in ("", "_abs"):
            change = np.abs(each[f"colorfulness{suffix}"] - each[f"true{suffix}"])
            found[f"delta_colorfulness{suffix}"] = Mean(change)
        plain = ("psnr", "ssim", "ciede2000", "colorfulness", "colorfulness_abs", "entropy", "diversity")
        return found | {name: Mean(each[name]) for name in plain if name in each}

    def numbers(self) -> dict[str, float]:
        """Return by metric what is no mean over photos."""
        means = {name: float(np.mean(values)) for name, values in self._numbers.items()}
        found = {
            f"delta_mean_colorfulness{suffix}": abs(means[f"colorfulness{suffix}"] - means[f"true{suffix}"])
            for suffix in ("", "_abs")
        }
        if "time" in means:
            # The first photos of a process take longer than all others.
            found["time"] = float(np.median(self._numbers["time"]))
        return found


class _Sweep:
    """Compares photos that were decoded at several temperatures, and keeps the numbers of each.

    Args:
        rarity: Weighs true colours.
    """

    def __init__(self, rarity: _Rarity):
        self._rarity = rarity
        self._numbers: dict[float, list[tuple[float, ...]]] = defaultdict(list)

    def add(self, swept: Mapping[float, UInt8[Tensor, "3 h w"]], truth: UInt8[Tensor, "3 h w"]) -> None:
        """Compare one photo at each temperature."""
        if not swept:
            return
        true_lab = rgb_to_lab(truth[None])
        weights = self._rarity(true_lab)
        for temperature, rgb in swept.items():
            errors = colors.ab_errors(rgb_to_lab(rgb[None]), true_lab)
            found = (
                *(*colors.raw_accuracy(errors), *colors.raw_accuracy(errors, weights)),
                colors.colorfulness(rgb[None] / 255),
            )
            self._numbers[temperature].append(tuple(map(float, found)))

    def outcomes(self) -> dict[tuple[str, str], Outcomes]:
        """Return by setting and metric what was found on each photo."""
        found: dict[tuple[str, str], Outcomes] = {}
        for temperature, numbers in self._numbers.items():
            setting = STAGES["colorization"].sweep_setting(temperature)
            parts, wholes, rare_parts, rare_wholes, colorfulness = np.array(numbers).T
            no_curve = np.zeros((len(numbers), 0))
            found[setting, "auc"] = Share(parts / wholes, np.ones_like(wholes), no_curve)
            found[setting, "auc_rebalanced"] = Share(rare_parts, rare_wholes, no_curve)
            found[setting, "colorfulness"] = Mean(colorfulness)
        return found
