"""Compare pretraining from JPEG files with the same steps on tensors that are already in memory.

usage: python benchmarks/pretraining_from_files.py [FOLDER_OF_PHOTOS]

Prints the images/s of both and their ratio; exits with 1 if it is below 0.85. Without a folder the photos are
synthetic. Both sides run the whole training step of `train colorization imagenette128` (AlexNet, 128 pixels, batch 64,
two loader workers) in alternating rounds, of which the median counts.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pretext.config import load_config
from pretext.data.sources import open_photos
from pretext.training import engine
from pretext.training.settings import PretrainingSettings

ROUNDS, STEPS, LIMIT = 5, 12, 0.85


def synthetic_photos(folder: Path, count: int = 512) -> None:
    """Write smooth coloured noise as JPEGs of 128 pixels."""
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        photo = Image.fromarray(pixels).resize((128, 128), Image.Resampling.BICUBIC)
        photo.save(folder / f"{number:04d}.jpg", quality=92)


def main() -> int:
    """Measure, print, and return the exit code."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else scratch)
        if len(sys.argv) == 1:
            synthetic_photos(folder)
        settings = PretrainingSettings.from_config(load_config("pretext", "colorization", "imagenette128"))
        run = engine._prepare(settings, Path(scratch), 0, str(folder), torch.device("cpu"))
        run.method.setup(open_photos(folder), Path(scratch))
        model = run.method.to(memory_format=torch.channels_last).train()
        batch_size = settings.batch_size
        optimizer = engine._optim_wrapper(model, settings, run.device)

        def images_per_second(batches: Iterator[Tensor]) -> float:
            began = time.perf_counter()
            for _ in range(STEPS):
                image = next(batches)
                model.train_step({"image": image, "index": torch.arange(len(image))}, optimizer)
            return STEPS * batch_size / (time.perf_counter() - began)

        files = (batch["image"] for batch in engine._loader(run))
        memory = cycle([next(files) for _ in range(4)])
        rates: dict[str, list[float]] = {"memory": [], "files": []}
        images_per_second(memory)
        for _ in range(ROUNDS):
            rates["memory"].append(images_per_second(memory))
            images_per_second(files)  # use up what the workers prefetched in the meantime
            rates["files"].append(images_per_second(files))
        medians = {name: statistics.median(values) for name, values in rates.items()}
        ratio = medians["files"] / medians["memory"]
        photos = "given" if len(sys.argv) > 1 else "synthetic"
        print(f"{len(run.photos)} {photos} photos, {torch.get_num_threads()} threads")
        print(f"tensors in memory  {medians['memory']:7.1f} images/s")
        print(f"JPEG files         {medians['files']:7.1f} images/s")
        print(f"ratio              {ratio:7.2f} (at least {LIMIT})")
        return int(ratio < LIMIT)


if __name__ == "__main__":
    sys.exit(main())
