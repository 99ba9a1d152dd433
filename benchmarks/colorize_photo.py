"""Compare the colouring of a photo of 512 x 512 pixels with the plain way: time and peak memory.

plain      scikit-image's Lab of the photo, the network at full size, ab enlarged bilinearly, scikit-image's RGB, in
           which colours outside sRGB are clipped channel by channel.
bilinear   ours: the network at its own size (here 128 pixels), colours outside sRGB brought in by their chroma.
bilateral  the same, with colours enlarged along the photo's edges.

The network is an AlexNet with random weights and 313 bins at conv5; each way runs in a process of its own, from pixels
to pixels. Memory is the most that the process takes in the rounds, less what it has before: libraries, network and
photo. For 24 megapixels only ours is measured, and the memory is that of the whole process. It is read from Linux's
/proc.

    python benchmarks/colorize_photo.py

Prints the median seconds of `ROUNDS` photos; exits with 1 if `bilinear` takes longer or more memory than `plain`.
"""

import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from skimage.color import lab2rgb, rgb2lab
from torch import Tensor
from torch.nn import functional as F

from pretext.backbones import AlexNet
from pretext.backbones.initializers import he_normal_
from pretext.color.bins import ab_bins
from pretext.color.spaces import AbBins
from pretext.colorize.colorizer import Colorizer
from pretext.colorize.heads import ColorHead
from pretext.colorize.painting import decode, lightness_of, paint, predict
from pretext.colorize.settings import Decoding

ROUNDS = 9
SIDE, OWN_SIZE, LARGE = 512, 128, (4000, 6000)
#: Memory of the whole process for the large photo.
LIMIT_GB = 2.0


def made_colorizer() -> Colorizer:
    """Return a colorizer with random weights."""
    colorizer = Colorizer(AlexNet("lightness"), ColorHead(256, 313), AbBins(ab_bins()), "conv5").eval()
    he_normal_(colorizer, 0)
    return colorizer


def photo_of(height: int, width: int) -> Tensor:
    """Return a smooth gray photo, uint8 (3, H, W)."""
    cells = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    gray = F.interpolate(cells, size=(height, width), mode="bilinear")[0]
    return (gray * 255).to(torch.uint8).expand(3, -1, -1).contiguous()


@torch.no_grad()
def plain(colorizer: Colorizer, photo: Tensor) -> Tensor:
    """Colour a photo as a short script does."""
    lab = rgb2lab(photo.permute(1, 2, 0).numpy())
    lightness = torch.from_numpy(lab[..., :1]).permute(2, 0, 1)[None].float()
    ab = F.interpolate(colorizer(lightness).ab, size=lightness.shape[2:], mode="bilinear")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of colours outside sRGB
        colored = lab2rgb(np.concatenate([lab[..., :1], ab[0].permute(1, 2, 0).numpy()], 2))
    return torch.from_numpy((colored * 255).round().astype(np.uint8)).permute(2, 0, 1)


def ours(upsampling: str) -> Callable[[Colorizer, Tensor], Tensor]:
    """Return the project's own way."""

    def colored(colorizer: Colorizer, photo: Tensor) -> Tensor:
        lightness = lightness_of(photo)
        colors = predict(colorizer, lightness, OWN_SIZE)
        return paint(lightness, decode(colorizer, colors, Decoding())[0], upsampling)

    return colored


WAYS = {"plain": plain, "bilinear": ours("bilinear"), "bilateral": ours("bilateral")}


def memory_mb(kind: str) -> float:
    """Return the memory of this process in MB: ``VmRSS`` now, or ``VmHWM`` the most since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{kind}:"))


def forget_peak() -> None:
    """Let the peak of the memory begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


def run_here(name: str, size: tuple[int, int], rounds: int) -> None:
    """Print the median seconds of the rounds, the memory taken by them, and that of the whole process in MB."""
    colorizer, photo = made_colorizer(), photo_of(*size)
    forget_peak()
    before = memory_mb("VmRSS")
    seconds = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        WAYS[name](colorizer, photo)
        seconds.append(time.perf_counter() - began)
    peak = memory_mb("VmHWM")
    # The first round is the warm-up.
    print(json.dumps([statistics.median(seconds[1:] or seconds), peak - before, peak]))


def measure(name: str, size: tuple[int, int], rounds: int) -> tuple[float, float, float]:
    """Return what `run_here` prints in a process of its own."""
    words = [sys.executable, __file__, name, *map(str, size), str(rounds)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    seconds, taken, whole = json.loads(done.stdout)
    return seconds, taken, whole


def main() -> int:
    """Measure, print, and return the exit code."""
    if len(sys.argv) > 1:
        name, height, width, rounds = sys.argv[1:]
        run_here(name, (int(height), int(width)), int(rounds))
        return 0
    print(
        f"one photo of {SIDE} x {SIDE} pixels, {torch.get_num_threads()} threads, median of {ROUNDS} rounds"
    )
    found = {name: measure(name, (SIDE, SIDE), ROUNDS) for name in WAYS}
    for name, (seconds, taken, _) in found.items():
        speed = found["plain"][0] / seconds
        print(f"{name:9s}  {seconds * 1e3:7.1f} ms  {speed:4.1f} x plain  {taken:6.0f} MB")
    seconds, _, whole = measure("bilinear", LARGE, 0)
    print(f"bilinear   {seconds:7.1f} s   {LARGE[1]} x {LARGE[0]} pixels, {whole / 1024:.2f} GB in all")
    reached = all(found["bilinear"][k] <= found["plain"][k] for k in (0, 1)) and whole / 1024 < LIMIT_GB
    print(
        f"target: bilinear takes no more time and memory than plain, large photos less than {LIMIT_GB:.0f} GB:"
        f" {'reached' if reached else 'MISSED'}"
    )
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
