"""Compare the probe of all five layers of AlexNet in one pass with the probe of conv5 alone.

usage: python benchmarks/probe_all_layers.py

Prints the seconds of both and their ratio; exits with 1 if it is above 1.3. The photos are synthetic (noise, 128
pixels, 10 classes). Both sides train and score with the settings of `linear-probe ... imagenette128` for one epoch, in
alternating rounds, of which the median counts.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from transfer.job import Job
from transfer.protocols.settings import ProbeSettings
from transfer.protocols.table import load_stage_config
from transfer.stages.linear_probe import linear_probe

ROUNDS, LIMIT = 3, 1.3


def synthetic_folder(root: Path) -> None:
    """Write an ImageFolder of 1,280 training and 320 test photos."""
    for split, count in (("train", 1280), ("val", 320)):
        for number in range(count):
            pixels = np.random.default_rng((number, count)).integers(0, 256, (32, 32, 3), dtype=np.uint8)
            path = root / split / f"class{number % 10}" / f"{number:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).resize((128, 128)).save(path, quality=92)


def main() -> int:
    """Measure, print, and return the exit code."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        synthetic_folder(root)
        seconds: dict[str, list[float]] = {"conv5": [], "all": []}
        for _ in range(ROUNDS):
            for layers in seconds:
                words = ["epochs=1", f"layers={layers}"]
                settings = load_stage_config("linear-probe", "imagenette128", words)
                assert isinstance(settings, ProbeSettings)
                job = Job(settings, "random:alexnet", root, 0, root, torch.device("cpu"))
                began = time.perf_counter()
                linear_probe(job)
                seconds[layers].append(time.perf_counter() - began)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratio = medians["all"] / medians["conv5"]
    print(f"{torch.get_num_threads()} threads")
    print(f"conv5 alone      {medians['conv5']:6.2f} s")
    print(f"all five layers  {medians['all']:6.2f} s")
    print(f"ratio            {ratio:6.2f} (at most {LIMIT})")
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
