"""Compare ways to give a photo the colours of a histogram: the true photo's own, as table 4 of Larsson et al. has it.

usage: python benchmarks/histogram_transfer.py [--photos FOLDER] [--colorizer FILE] [--count 100] [--out FILE.json]

gray       no colours.
none       what the colorizer predicts.
quantile   `match_photo` as the paper describes it: RGB divided by lightness, matched to the true photo's.
lightness  the same, each pixel weighted by its lightness.
marginals  `match_hues` and `match_quantiles`: hue and chroma, matched to the true photo's.
energy     `minimize_energy`: the distributions, brought near the true photo's histograms.
bins       the same of bins of both a and b, as the command steers them: expectations; `annealed`: annealed means.

A colorizer predicts histograms of hue and of chroma; or ab bins on a grid, of which a and b are the marginals. Without
one, distributions of hue and chroma are synthetic: the true photo's bins, one-hot, blurred, flattened and mixed with
those of all photos. Without photos, they are smooth noise, of which the numbers mean nothing.

The RMSE is of ab in CIE units, over a and b and the photos' pixels at full size, with 95 % intervals over the choice of
photos; differences are over the same choices. The time is that of the transfer alone, from the distributions (energy)
or from the coloured photo (all others). Exits with 1 unless energy is below quantile and that below none.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.functional import pil_to_tensor

from pretext.color.bicone import bicone_ab, rgb_to_bicone
from pretext.color.energy import match_hue_and_chroma, minimize_energy
from pretext.color.histograms import expectation, histogram, hue_and_chroma_histograms
from pretext.color.lab import lab_to_rgb, rgb_to_lab
from pretext.color.quantiles import match_hues, match_photo, match_quantiles
from pretext.color.spaces import AbBins, HueChroma, OutputSpace
from pretext.colorize.colorizer import load_colorizer
from pretext.colorize.painting import find_colorizer, predict
from pretext.data.sources import open_photos
from transfer.scores.colors import ab_errors, mean_squared_ab_error
from transfer.scores.outcomes import interval_of

DRAWS, SEED = 10_000, 0
#: Of synthetic distributions: cells of the map on the longer side, the blur in cells, the temperature that flattens,
#: and the share of the mean over all photos.
CELLS, BLUR, FLATTEN, MIX = 56, 8.0, 1.5, 0.4
#: Photos of noise, and the pixels of their sides.
NOISE, SIDE = 8, 64

#: Takes a photo; returns scores (1, Q, h, w) and the CIE lightness at their positions, (1, 1, h, w).
Predictor = Callable[[Tensor], tuple[Tensor, Tensor]]
#: Takes scores, lightness and the true photo; returns ab (1, 2, h, w) by the energy.
Steer = Callable[[Tensor, Tensor, Tensor], Tensor]
#: Ways to lower the energy, by their names.
Steers = dict[str, Steer]


def steered_hue_and_chroma(space: HueChroma) -> Steer:
    """Return what minimises the energy of hue and of chroma."""

    def steer(scores: Tensor, lightness: Tensor, photo: Tensor) -> Tensor:
        hue, chroma, _ = rgb_to_bicone(photo).unbind(1)
        hue_target, chroma_target = hue_and_chroma_histograms(hue, chroma, space.count)
        hue_scores, chroma_scores = space.parts(scores)
        matches = match_hue_and_chroma(hue_scores, chroma_scores, hue_target, chroma_target)
        return space.decode(
            torch.cat([match.probabilities for match in matches], 1).log(), lightness=lightness
        )

    return steer


def steered_a_and_b(space: AbBins) -> Steer:
    """Return what minimises the energy of a and of b, summed from bins of both, and takes expectations."""
    grids = [torch.unique(space.bins[:, channel]) for channel in (0, 1)]

    def steer(scores: Tensor, lightness: Tensor, photo: Tensor) -> Tensor:
        probabilities = scores.softmax(1)
        found = []
        for channel, centers in enumerate(grids):
            own = (space.bins[:, channel, None] == centers).float()  # (Q, K)
            marginal = torch.einsum("nqhw,qk->nkhw", probabilities, own)
            step = (centers[1] - centers[0]) / 2
            edges = torch.cat([centers - step, centers[-1:] + step])
            target = histogram(rgb_to_lab(photo)[:, 1 + channel], edges)
            found.append(expectation(minimize_energy(marginal.log(), target).probabilities, centers))
        return torch.stack(found, 1)

    return steer


def steered_bins(space: AbBins, rule: str) -> Steer:
    """Return what minimises the energy of bins of both a and b, and then chooses colours by a rule."""

    def steer(scores: Tensor, lightness: Tensor, photo: Tensor) -> Tensor:
        (bias,) = space.biases(scores, space.histograms_of(rgb_to_lab(photo)))
        return space.decode(scores + bias.to(scores)[:, :, None, None], rule=rule)

    return steer


def noise() -> list[Tensor]:
    """Return smooth noise, sRGB in [0, 1], (1, 3, H, W) each."""
    generator = torch.Generator().manual_seed(SEED)
    cells = torch.rand(NOISE, 3, 6, 6, generator=generator)
    pixels = F.interpolate(cells, size=(SIDE, SIDE), mode="bicubic").clamp(0, 1)
    return list(torch.split(pixels, 1))


def photos_of(folder: str, count: int) -> list[Tensor]:
    """Return photos of a folder, evenly chosen, as `noise` does."""
    photos = open_photos(folder)
    chosen = np.linspace(0, len(photos) - 1, min(count, len(photos))).round().astype(int)
    return [pil_to_tensor(photos.image(int(index)).convert("RGB"))[None] / 255 for index in chosen]


def of_colorizer(path: str) -> tuple[OutputSpace, Steers, Predictor]:
    """Return the space of a colorizer file, and what predicts and steers with it."""
    colorizer = load_colorizer(find_colorizer(path))
    space = colorizer.space
    if isinstance(space, HueChroma):
        steers = {"energy": steered_hue_and_chroma(space)}
    elif isinstance(space, AbBins):
        steers = {
            "energy": steered_a_and_b(space),
            "bins": steered_bins(space, "mean"),
            "annealed": steered_bins(space, "annealed"),
        }
    else:
        raise SystemExit(f"{path} predicts {space.name}: no histograms of hue and chroma, and no bins of ab")

    def predicted(photo: Tensor) -> tuple[Tensor, Tensor]:
        colors = predict(colorizer, rgb_to_lab(photo)[0, :1])
        assert colors.distribution is not None
        assert colors.lightness is not None
        return colors.distribution.log(), colors.lightness

    return space, steers, predicted


def synthetic(photos: list[Tensor]) -> tuple[OutputSpace, Steers, Predictor]:
    """Return a space, what steers it, and what makes distributions of the true colours."""
    space = HueChroma()

    def reduced(photo: Tensor) -> Tensor:
        height, width = photo.shape[2:]
        scale = CELLS / max(height, width)
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        return F.interpolate(photo, size=size, mode="area")

    def counted(photo: Tensor) -> tuple[Tensor, Tensor]:
        """Return which bins of hue, times chroma, and of chroma the pixels are in."""
        hue, chroma, _ = rgb_to_bicone(photo).unbind(1)
        bins = (torch.stack([hue, chroma]) * space.count).long().clamp_max(space.count - 1)
        of_hue, of_chroma = F.one_hot(bins, space.count).movedim(-1, 2).float()
        return of_hue * (chroma.unsqueeze(1) + 1e-3), of_chroma

    sums = [torch.cat([each.sum((2, 3)) for each in counted(reduced(photo))]) for photo in photos]
    means = torch.stack(sums).sum(0)
    means = means / means.sum(1, keepdim=True)

    def predicted(photo: Tensor) -> tuple[Tensor, Tensor]:
        small = reduced(photo)
        parts = []
        for bins, mean in zip(counted(small), means, strict=True):
            soft = blurred(bins) + 1e-6
            flat = (soft / soft.sum(1, keepdim=True)).pow(1 / FLATTEN)
            parts.append((1 - MIX) * flat / flat.sum(1, keepdim=True) + MIX * mean.view(1, -1, 1, 1))
        return torch.cat(parts, 1).log(), rgb_to_lab(small)[:, :1]

    return space, {"energy": steered_hue_and_chroma(space)}, predicted


def blurred(maps: Tensor) -> Tensor:
    """Return maps blurred by a Gaussian."""
    reach = int(3 * BLUR)
    weights = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * BLUR**2))
    kernel = (weights / weights.sum()).view(1, 1, -1, 1)
    stacked = maps.transpose(0, 1)
    down = F.conv2d(F.pad(stacked, (0, 0, reach, reach), "replicate"), kernel)
    across = F.conv2d(F.pad(down, (reach, reach, 0, 0), "replicate"), kernel.transpose(2, 3))
    return across.transpose(0, 1)


def compared(
    space: OutputSpace, steers: Steers, predictor: Predictor, photo: Tensor
) -> dict[str, tuple[float, float]]:
    """Return the mean squared ab error of each way with a photo, and its seconds."""
    truth = rgb_to_lab(photo)
    lightness = truth[:, :1]
    true_hue, true_chroma, _ = rgb_to_bicone(photo).unbind(1)
    scores, small = predictor(photo)

    def enlarged(ab: Tensor) -> Tensor:
        return F.interpolate(ab, size=photo.shape[2:], mode="bilinear")

    painted = lab_to_rgb(torch.cat([lightness, enlarged(space.decode(scores, lightness=small))], 1))

    def by_marginals() -> Tensor:
        hue, chroma, _ = rgb_to_bicone(painted).unbind(1)
        matched = match_hues(hue, true_hue, chroma, true_chroma), match_quantiles(chroma, true_chroma)
        return bicone_ab(matched[0].unsqueeze(1), matched[1].unsqueeze(1), lightness)

    def by_energy(steer: Steer) -> Tensor:
        return enlarged(steer(scores, small, photo))

    ways: dict[str, Callable[[], Tensor]] = {
        "gray": lambda: torch.zeros_like(truth[:, 1:]),
        "none": lambda: rgb_to_lab(painted)[:, 1:],
        "quantile": lambda: rgb_to_lab(match_photo(painted, photo, by_lightness=False).clamp(0, 1))[:, 1:],
        "lightness": lambda: rgb_to_lab(match_photo(painted, photo).clamp(0, 1))[:, 1:],
        "marginals": by_marginals,
    }
    ways |= {name: partial(by_energy, steer) for name, steer in steers.items()}
    found = {}
    for name, way in ways.items():
        start = time.perf_counter()
        ab = way()
        seconds = time.perf_counter() - start
        error = mean_squared_ab_error(ab_errors(torch.cat([lightness, ab], 1), truth)).item()
        found[name] = (error, seconds)
    return found


@torch.no_grad()
def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description="histogram transfer with the true photo's histogram")
    parser.add_argument("--photos", help="folder or list of photos in colour; left out, noise")
    parser.add_argument("--colorizer", help="colorizer file or its run's folder; left out, synthetic")
    parser.add_argument("--count", type=int, default=100, help="photos, evenly chosen")
    parser.add_argument("--out", type=Path, help="where the errors of each photo are written as JSON")
    arguments = parser.parse_args()
    photos = photos_of(arguments.photos, arguments.count) if arguments.photos else noise()
    made = of_colorizer(arguments.colorizer) if arguments.colorizer else synthetic(photos)
    found = [compared(*made, photo) for photo in photos]
    errors = {name: np.array([each[name][0] for each in found]) for name in found[0]}
    seconds = {name: np.median([each[name][1] for each in found]) for name in found[0]}
    if arguments.out:
        arguments.out.write_text(json.dumps({name: each.tolist() for name, each in errors.items()}))
    chosen = np.random.default_rng(SEED).integers(len(photos), size=(DRAWS, len(photos)))
    draws = {name: np.sqrt(each[chosen].mean(1)) for name, each in errors.items()}
    print(
        f"{len(photos)} photos of {arguments.photos or 'noise'}, predictions: "
        f"{arguments.colorizer or 'synthetic'}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    values = {name: float(np.sqrt(each.mean())) for name, each in errors.items()}
    for name, value in values.items():
        low, high = interval_of(draws[name])
        less = interval_of(draws[name] - draws["none"])
        print(
            f"{name:10s} RMSE {value:6.3f} ({low:6.3f} .. {high:6.3f})   against none {value - values['none']:+7.3f}"
            f" ({less[0]:+7.3f} .. {less[1]:+7.3f})   {seconds[name] * 1e3:7.1f} ms"
        )
    for name in ("quantile", "lightness"):
        low, high = interval_of(draws["energy"] - draws[name])
        print(f"energy against {name} {values['energy'] - values[name]:+.3f} ({low:+.3f} .. {high:+.3f})")
    reached = values["energy"] < values["quantile"] < values["none"]
    print(f"target: energy below quantile below none: {'reached' if reached else 'MISSED'}")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
