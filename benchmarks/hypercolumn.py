"""Compare training on sparse hypercolumns with dense ones that are indexed, and measure dense prediction.

step     one training step, forward and backward, of a VGG-16 over the hypercolumns of all its layers, at `PLACES`
         places of each photo.
         sparse  as `hypercolumn` trains.
         dense   every layer's map interpolated to the photo's size, all of them joined, and the places taken out.
map      a prediction for one photo of `MAP_SIDE` x `MAP_SIDE` pixels at every fourth pixel.
         ours    as a colorizer predicts: shares of the hidden layer at each layer's own positions, added up.
         tiles   the hypercolumns of `TILE` places at a time, and the head over them.

Both ways of each must give the same numbers. Each runs in a process of its own; memory is the most that the process
takes in the rounds, less what it has before: libraries, network and photos. It is read from Linux's /proc. The side of
the photos of a step is the largest multiple of 32, up to `LARGEST`, whose dense step fits into `FREE_SHARE` of the
free memory.

    python benchmarks/hypercolumn.py              # a VGG-16 with all its channels
    python benchmarks/hypercolumn.py 0.25         # with a quarter of them

Prints the median of `ROUNDS` rounds; exits with 1 if `sparse` takes longer or more memory than `dense`, or `ours` than
`tiles`.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from pretext.backbones import VGG16
from pretext.backbones.hypercolumn import (
    all_column_layers,
    column_layers,
    sample_grid,
    walk_layers,
)
from pretext.backbones.initializers import he_normal_
from pretext.colorize.heads import HypercolumnHead

ROUNDS = 5
#: Share of the channels of VGG-16, if the command line gives none.
WIDTH = 1.0
BATCH, PLACES, OUTPUTS = 1, 128, 64
LARGEST = 256
#: A dense step takes about four times its hypercolumns: each layer's and all joined, and the gradients of both.
DENSE_COPIES = 4
FREE_SHARE = 0.8
MAP_SIDE = 512
STRIDE, TILE = 4, 1024
#: Greatest difference of two ways, as a share of the greatest number.
TOLERANCE = 1e-4

Way = Callable[[VGG16, HypercolumnHead, Tensor], Tensor]


def made(width: float) -> tuple[VGG16, HypercolumnHead]:
    """Return a VGG-16 of the release's padding and a head over all its layers, with random weights."""
    backbone = VGG16(fully_connected=True, width=width, pool5_stride=2, norm="batch_no_affine")
    layers = column_layers(backbone, all_column_layers(backbone))
    head = HypercolumnHead(
        [layer.name for layer in layers], [layer.channels for layer in layers], OUTPUTS, stride=STRIDE
    )
    he_normal_(backbone, 0)
    he_normal_(head, 0)
    memory_format = torch.channels_last
    return backbone.to(memory_format=memory_format), head.to(memory_format=memory_format).eval()


def photos_of(count: int, side: int) -> Tensor:
    """Return smooth photos as a backbone sees them, (N, 1, side, side)."""
    cells = torch.randn(count, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    return F.interpolate(cells, size=side, mode="bilinear").contiguous(memory_format=torch.channels_last)


def places_in(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows and columns of random places."""
    generator = torch.Generator().manual_seed(1)
    height, width = inputs.shape[-2:]
    rows = torch.randint(height, (len(inputs), PLACES), generator=generator)
    return rows, torch.randint(width, (len(inputs), PLACES), generator=generator)


def sparse(backbone: VGG16, head: HypercolumnHead, inputs: Tensor) -> Tensor:
    """Train on the hypercolumns of the places; return what the places gave."""
    return _trained(backbone, head.at(backbone, inputs, *places_in(inputs)))


def dense(backbone: VGG16, head: HypercolumnHead, inputs: Tensor) -> Tensor:
    """Train on places of all hypercolumns; return what they gave."""
    rows, columns = places_in(inputs)
    height, width = (torch.arange(side) for side in inputs.shape[-2:])
    layers = column_layers(backbone, head.layers)
    maps = [
        sample_grid(features, layer, height, width)
        for layer, features in walk_layers(backbone, inputs, layers)
    ]
    joined = torch.cat(maps, 1)
    photos = torch.arange(len(inputs)).unsqueeze(1)
    taken = joined[photos, :, rows, columns].transpose(1, 2).unsqueeze(-1)
    return _trained(backbone, head(taken))


def _trained(backbone: VGG16, prediction: Tensor) -> Tensor:
    torch.autograd.backward(prediction.square().mean())
    gradient = backbone.get_parameter("conv1_1.conv.weight").grad
    assert gradient is not None
    found = torch.cat([prediction.detach().flatten(), gradient.flatten()])
    for parameter in backbone.parameters():
        parameter.grad = None
    return found


@torch.no_grad()
def ours(backbone: VGG16, head: HypercolumnHead, inputs: Tensor) -> Tensor:
    """Predict as a colorizer does."""
    return head.predict(backbone, inputs, backbone.layer("fc7"))


@torch.no_grad()
def tiles(backbone: VGG16, head: HypercolumnHead, inputs: Tensor) -> Tensor:
    """Predict from the hypercolumns of some places after others, of maps that are computed once."""
    layers = column_layers(backbone, head.layers)
    maps = list(walk_layers(backbone, inputs, layers))
    rows, columns = (torch.arange(0, side, STRIDE) + (STRIDE - 1) / 2 for side in inputs.shape[-2:])
    band = max(1, TILE // len(columns))
    predicted = []
    for some in torch.split(rows, band):
        joined = torch.cat([sample_grid(features, layer, some, columns) for layer, features in maps], 1)
        predicted.append(head(joined.flatten(2).unsqueeze(-1)).view(len(inputs), -1, len(some), len(columns)))
    return torch.cat(predicted, 2)


WAYS: dict[str, Way] = {"sparse": sparse, "dense": dense, "ours": ours, "tiles": tiles}


def step_side(channels: int) -> int:
    """Return the largest side of photos whose dense step fits."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    most = int((FREE_SHARE * free / (DENSE_COPIES * 4 * BATCH * channels)) ** 0.5)
    return max(32, min(LARGEST, most // 32 * 32))


def memory_mb(kind: str) -> float:
    """Return the memory of this process in MB: ``VmRSS`` now, or ``VmHWM`` the most since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{kind}:"))


def forget_peak() -> None:
    """Let the peak of the memory begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


def run_here(name: str, width: float, side: int, rounds: int) -> None:
    """Print the median seconds of the rounds, the memory taken by them in MB, and some of what was computed."""
    backbone, head = made(width)
    backbone.train(name in ("sparse", "dense"))
    inputs = photos_of(BATCH if backbone.training else 1, side)
    forget_peak()
    before = memory_mb("VmRSS")
    seconds = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        found = WAYS[name](backbone, head, inputs)
        seconds.append(time.perf_counter() - began)
    peak = memory_mb("VmHWM")
    some = found.flatten()[:: max(1, found.numel() // 1000)].tolist()
    # The first round is the warm-up.
    print(json.dumps([statistics.median(seconds[1:]), peak - before, some]))


def measure(name: str, width: float, side: int) -> tuple[float, float, list[float]]:
    """Return what `run_here` prints in a process of its own."""
    words = [sys.executable, __file__, "--one", name, str(width), str(side), str(ROUNDS)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    seconds, taken, some = json.loads(done.stdout)
    return seconds, taken, some


def compare(title: str, names: tuple[str, str], width: float, side: int) -> tuple[float, float]:
    """Measure two ways, print both, and return the time and memory of the first as shares of the second's."""
    print(f"{title}: {side} x {side} pixels")
    found = {name: measure(name, width, side) for name in names}
    for name, (seconds, taken, _) in found.items():
        print(f"{name:8s}  {seconds:8.3f} s  {taken:8.0f} MB")
    first, second = (torch.tensor(found[name][2]) for name in names)
    difference = float((first - second).abs().max() / second.abs().max())
    if difference > TOLERANCE:
        raise SystemExit(f"{names[0]} and {names[1]} differ by {difference:.1e} of the greatest number")
    (time_a, memory_a, _), (time_b, memory_b, _) = (found[name] for name in names)
    return time_a / time_b, memory_a / memory_b


def main() -> int:
    """Measure, print, and return the exit code."""
    if sys.argv[1:2] == ["--one"]:
        name, *numbers = sys.argv[2:]
        run_here(name, float(numbers[0]), int(numbers[1]), int(numbers[2]))
        return 0
    width = float(sys.argv[1]) if len(sys.argv) > 1 else WIDTH
    _, head = made(width)
    channels = head.in_channels
    print(
        f"VGG-16 of width {width:g}, {channels} channels, {torch.get_num_threads()} threads, median of {ROUNDS} rounds"
    )
    print(
        f"one place of a hypercolumn: {channels * 4 / 1e3:.1f} kB; {PLACES}: {channels * PLACES * 4 / 1e6:.1f} MB"
    )
    side = step_side(channels)
    step_time, step_memory = compare(f"training step, {BATCH} photo", ("sparse", "dense"), width, side)
    map_time, map_memory = compare("prediction at every fourth pixel", ("ours", "tiles"), width, MAP_SIDE)
    reached = max(step_time, step_memory, map_time, map_memory) <= 1
    print(
        f"target: sparse takes {step_time:.2f} of dense's time and {step_memory:.2f} of its memory, ours {map_time:.2f}"
        f" and {map_memory:.2f} of those of tiles: {'reached' if reached else 'MISSED'}"
    )
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
