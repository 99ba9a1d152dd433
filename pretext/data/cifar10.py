"""CIFAR-10 (Krizhevsky, 2009) as its authors and torchvision distribute it, unpacked once into folders of classes."""

import hashlib
import os
import pickle
import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pretext.errors import InputError

#: The folder that torchvision leaves, and what it must hold: five batches to train on, one to test, the classes' names.
FOLDER = "cifar-10-batches-py"
SPLITS = {"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)}
META = "batches.meta"
SIDE = 32

#: All that a batch is made of: arrays, and texts that Python 2 wrote. NumPy names the first function elsewhere by now.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _Batch(pickle.Unpickler):
    """Reads a batch and nothing else: a pickle may name any function to call, and only those of arrays are called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return _ALLOWED[module, name]


def unpack_cifar10(folder: Path, into: Path) -> Path:
    """Write the photos of CIFAR-10 as ``SPLIT/CLASS/NUMBER.png``, once; again if the batches are other files by now.

    Args:
        folder: Holds the batches (`FOLDER`).
        into: The copy is a folder in it, named after the batches' own.

    Returns:
        The copy: a folder with ``train`` (50,000 photos of 32x32) and ``test`` (10,000), each with ten classes.

    Raises:
        InputError: A batch is missing or damaged, or holds something else; or the disk is full. Nothing is left behind.
    """
    copy = into / f"cifar10-{_identity(folder)[:8]}"
    if copy.is_dir():
        return copy
    print(f"unpacking {folder} into {copy} (once)", file=sys.stderr)
    classes = [str(name) for name in _read(folder / META, "label_names")["label_names"]]
    partial = None
    try:
        into.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{copy.name}.", dir=into))
        for split, names in SPLITS.items():
            _write_split(partial / split, [folder / name for name in names], classes)
        partial.chmod(0o755)
        try:
            partial.rename(copy)
        except OSError:
            if not copy.is_dir():  # another process was faster
                raise
    except OSError as error:
        raise InputError(
            f"cannot unpack {folder} into {copy}: {error.strerror or error}",
            allowed="it needs 250 MB, and 60,000 files, on a writable disk",
        ) from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
    return copy


def _identity(folder: Path) -> str:
    """Return a hash of where the batches are, and of their sizes and times; of the place alone if one is missing."""
    told = [os.path.realpath(folder)]
    with suppress(OSError):
        for name in (META, *(batch for split in SPLITS.values() for batch in split)):
            found = (folder / name).stat()
            told.append(f"{name} {found.st_size} {found.st_mtime_ns}")
    return hashlib.sha256(os.fsencode("\n".join(told))).hexdigest()


def _write_split(folder: Path, batches: list[Path], classes: list[str]) -> None:
    for name in classes:
        (folder / name).mkdir(parents=True)
    number = 0
    for batch in batches:
        content = _read(batch, "data", "labels")
        photos, labels = content["data"], content["labels"]
        if photos.shape != (len(labels), 3 * SIDE * SIDE) or not all(
            0 <= one < len(classes) for one in labels
        ):
            raise InputError(f"{batch} does not hold photos of CIFAR-10", received=f"an array {photos.shape}")
        for pixels, label in zip(photos, labels, strict=True):
            image = Image.fromarray(pixels.reshape(3, SIDE, SIDE).transpose(1, 2, 0))
            image.save(folder / classes[label] / f"{number:05d}.png")
            number += 1


def _read(path: Path, *keys: str) -> dict[str, Any]:
    """Read a batch; its keys and texts are Python 2's."""
    expected = f"give the folder {FOLDER} as its authors distribute it: {META}, data_batch_1..5, test_batch"
    try:
        with path.open("rb") as file:
            content = _Batch(file, encoding="latin1").load()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}", allowed=expected) from error
    # A damaged pickle raises nearly anything.
    except Exception as error:
        raise InputError(
            f"{path} is not a batch of CIFAR-10",
            received=str(error) or type(error).__name__,
            allowed=expected,
        ) from error
    if not isinstance(content, dict) or not content.keys() >= set(keys):
        raise InputError(f"{path} is not a batch of CIFAR-10", received="other content", allowed=expected)
    return content
