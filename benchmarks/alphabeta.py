"""Find the alpha-beta in which Larsson et al. (ECCV 2016) measure the RMSE of colours, whose formula they do not print.

usage: python benchmarks/alphabeta.py [FOLDER_OF_PHOTOS]

They print what photos without any colour have: an RMSE of 0.343 at 22.98 dB on cval1k, and of 0.333 at 23.27 dB on
ctest10k, where gray is the mean of R, G and B. Photos at hand have another mean PSNR; weighted by exp(k PSNR), with the
k that gives the paper's mean PSNR, their RMSE in the right space should be the paper's. Prints it for each candidate,
and exits with 1 if another than that of `transfer.scores.colors.alphabeta` is nearer to the paper's. Without a folder
the photos are synthetic, and nothing follows from them.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from scipy.optimize import brentq
from torch import Tensor

from pretext.color import rgb_to_lab
from pretext.data.crops import to_tensor
from pretext.data.samples import some_photos
from pretext.data.sources import open_photos
from transfer.scores.colors import PSNR_LIMIT, alphabeta

COUNT = 500
#: Mean PSNR in dB, and RMSE in alpha-beta, of photos without colour.
PAPER = {"cval1k": (22.98, 0.343), "ctest10k": (23.27, 0.333)}
#: From linear RGB to cones, with photos taken as linear (Reinhard et al., Color Transfer between Images, 2001).
CONES = torch.tensor([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]]).double()
OURS = "R - G, R + G - 2 B"

Plane = Float[Tensor, "n 2 h w"]


def linear(*rows: tuple[float, float, float], by_lightness: bool = False) -> Callable[[Tensor], Plane]:
    """Return two sums of R, G and B; or of their quotients by the mean of the three."""
    matrix = torch.tensor(rows, dtype=torch.double)

    def plane(rgb: Tensor) -> Plane:
        values = rgb / rgb.mean(1, keepdim=True).clamp_min(1 / 255) if by_lightness else rgb
        return torch.einsum("kc,nchw->nkhw", matrix, values)

    return plane


def ruderman(rgb: Tensor) -> Plane:
    """Return alpha and beta of Ruderman et al. (1998), of natural logarithms."""
    long, middle, short = torch.einsum("kc,nchw->nkhw", CONES, rgb).clamp_min(1 / 255).log().unbind(1)
    return torch.stack([(long + middle - 2 * short) / 6**0.5, (long - middle) / 2**0.5], 1)


HEXAGON = ((1, -0.5, -0.5), (0, 0.75**0.5, -(0.75**0.5)))
CANDIDATES: dict[str, Callable[[Tensor], Plane]] = {
    OURS: alphabeta,
    "R - G, (R + G) / 2 - B": linear((1, -1, 0), (0.5, 0.5, -1)),
    "(R - G) / 2^.5, (R + G - 2 B) / 6^.5": linear(
        (0.5**0.5, -(0.5**0.5), 0), (6**-0.5, 6**-0.5, -2 * 6**-0.5)
    ),
    "the plane of HSL's hexagon": linear(*HEXAGON),
    "the same by lightness": linear(*HEXAGON, by_lightness=True),
    "R and G by lightness": linear((1, 0, 0), (0, 1, 0), by_lightness=True),
    "CIE ab / 100": lambda rgb: rgb_to_lab(rgb)[:, 1:] / 100,
    "Ruderman, log": ruderman,
    "Ruderman, log10": lambda rgb: ruderman(rgb) / np.log(10),
}


def synthetic_photos(folder: Path, count: int = 16) -> None:
    """Write smooth noise as PNGs, from nearly gray to colourful."""
    rng = np.random.default_rng(0)
    for number in range(count):
        gray, color = rng.uniform(100, 150, (8, 8, 1)), rng.uniform(-90, 90, (8, 8, 3))
        pixels = (gray + color * (number + 1) / count).astype(np.uint8)
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{number:02d}.png")


def measure(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return of each photo without its colour the PSNR, and the mean squared error in each candidate."""
    psnr, squares = [], []
    for _, photo in some_photos(open_photos(folder), COUNT):
        rgb = to_tensor(photo)[None].double() / 255
        gray = rgb.mean(1, keepdim=True).expand_as(rgb)
        psnr.append(min(-10 * np.log10(max(float((rgb - gray).square().mean()), 1e-12)), PSNR_LIMIT))
        squares.append([float((f(rgb) - f(gray)).square().sum(1).mean()) for f in CANDIDATES.values()])
    return np.array(psnr), np.array(squares)


def weights(psnr: np.ndarray, wanted: float) -> np.ndarray:
    """Return weights of photos, with a sum of 1, by which their mean PSNR is as wanted."""

    def tilted(k: float) -> np.ndarray:
        each = np.exp(k * (psnr - psnr.mean()))
        return np.asarray(each / each.sum())

    return tilted(float(brentq(lambda k: tilted(k) @ psnr - wanted, -5, 5)))


def main() -> int:
    """Measure, print, and return the exit code."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else scratch)
        if len(sys.argv) == 1:
            synthetic_photos(folder)
        psnr, squares = measure(folder)
    found = np.sqrt([weights(psnr, mean) @ squares for mean, _ in PAPER.values()])
    paper = np.array([rmse for _, rmse in PAPER.values()])
    off = np.abs(np.log(found / paper[:, None])).mean(0)
    print(f"{len(psnr)} photos without colour, of {psnr.mean():.2f} dB; RMSE at the paper's mean PSNR:")
    print(f"{'':40s}{''.join(f'{name:>10s}' for name in PAPER)}")
    for name, values in zip(CANDIDATES, found.T, strict=True):
        print(f"{name:40s}{''.join(f'{value:10.3f}' for value in values)}")
    print(f"{'Larsson et al.':40s}{''.join(f'{rmse:10.3f}' for rmse in paper)}")
    nearest = list(CANDIDATES)[int(off.argmin())]
    print(f"target {OURS}; nearest {nearest}, {100 * off.min():.0f} % off")
    return int(nearest != OURS)


if __name__ == "__main__":
    sys.exit(main())
