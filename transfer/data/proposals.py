"""Region proposals from a file, as Fast R-CNN takes them.

Selective search cannot be repeated: its first boxes came from code that is gone. So they are an input, known by a hash.
"""

import hashlib
import io
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from pretext.errors import InputError
from pretext.files import write_whole

#: Types of numbers that an array in a pickle may have, as NumPy writes them.
_NUMBERS = re.compile(r"[<>|=]?[biuf][1248]")

#: Boxes x1, y1, x2, y2 in pixels, 0-based and continuous, as those of `transfer.data.voc.VocPhoto`.
Boxes = Float32[np.ndarray, "r 4"]


class _Dtype:
    """Stand-in for NumPy's dtype while a pickle is read: numbers only, whatever state the pickle gives it."""

    def __init__(self, name: str, *_: Any):
        self.numbers = name if _NUMBERS.fullmatch(name) else None
        if self.numbers is None and name not in ("O", "O8"):
            raise pickle.UnpicklingError(f"it has an array of the type {name!r}, allowed are plain numbers")

    def __setstate__(self, state: Any) -> None:
        if self.numbers is not None and state[1] in "<>":
            self.numbers = state[1] + self.numbers.lstrip("<>|=")


class _Array:
    """Stand-in for NumPy's array while a pickle is read: its bytes are copied once their number is checked."""

    def __init__(self, *_: Any):
        self.values: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, _, data = state
        if dtype.numbers is None:  # an array of arrays
            self.values = list(data)
            return
        data = data.encode("latin1") if isinstance(data, str) else bytes(data)
        array = np.frombuffer(data, dtype.numbers)
        if state[3]:  # column by column, as Fortran has it
            self.values = array.reshape(tuple(shape)[::-1]).T.copy()
        else:
            self.values = array.reshape(shape).copy()


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes text as {encoding}, allowed is latin1")
    return text.encode("latin1")


#: What a pickle of proposals may name, under NumPy's old and new names, and what stands in for it.
_PICKLED: dict[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): bytes,
    ("builtins", "bytes"): bytes,
}


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler of lists, dicts, numbers, text and stand-ins for arrays of numbers, and of nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _PICKLED:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which is not part of an array of numbers"
            )
        return _PICKLED[module, name]


def read_proposals(path: Path, names: Sequence[str], most: int) -> tuple[list[Boxes], str]:
    """Read the proposals of some photos, best first. They are in the same pixels as the photos' annotated boxes.

    Args:
        path: An ``.npz`` as `write_proposals` makes it, or a pickle of Detectron: a dict with ``boxes``, for each photo
            (R, 4) of whole pixels that belong to the box, 0-based; ``ids`` or ``indexes``, the photos' names as numbers
            (``2008_000002`` is 2008000002); and, if they are not in order, ``scores``.
        names: Names of the photos, in the order wanted.
        most: How many boxes of a photo are taken.

    Returns:
        The boxes of each photo, and the file's SHA-256.

    Raises:
        InputError: The file cannot be read, holds something else, or lacks a photo. Nothing that a pickle names is
            loaded, NumPy arrays apart.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read the proposals {path}: {error.strerror}",
            allowed="give both files, train_proposals=FILE and test_proposals=FILE (docs/data.md), or take"
            " --protocol fasterrcnn",
        ) from error
    read = _read_npz if path.suffix == ".npz" else _read_pickle
    try:
        find = read(content)
    except Exception as error:  # A damaged file can fail in any way.
        readable = path.suffix != ".npz" or content[:2] == b"PK"
        reason = " ".join(str(error).split()) if readable else "not an .npz file"
        raise InputError(
            f"{path} does not hold proposals",
            received=f"{type(error).__name__}: {reason}",
            allowed="an .npz with names, counts and boxes, or a pickle of Detectron with boxes and ids",
        ) from error
    missing = [name for name in names if find(name) is None]
    if missing:
        raise InputError(
            f"{path} lacks the proposals of {len(missing)} of {len(names)} photos",
            received=f"none for {', '.join(missing[:3])}",
            allowed="give the file of this split",
        )
    found = [find(name) for name in names]
    return [boxes[:most] for boxes in found if boxes is not None], hashlib.sha256(content).hexdigest()


def write_proposals(path: Path, proposals: Mapping[str, Boxes]) -> None:
    """Write proposals as ``.npz``, whole or not at all: names (P,), counts (P,) and boxes (sum of counts, 4).

    Raises:
        InputError: The file cannot be written.
    """
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        names=np.array(list(proposals)),
        counts=np.array([len(boxes) for boxes in proposals.values()], dtype=np.int64),
        boxes=np.concatenate([np.zeros((0, 4), np.float32), *proposals.values()]).astype(np.float32),
    )
    write_whole(path, buffer.getvalue())


def check_inside(name: str, boxes: Boxes, width: int, height: int) -> None:
    """Raise InputError unless the boxes are corners x1, y1, x2, y2 within the photo of that name and size."""
    x1, y1, x2, y2 = boxes.T
    # Whole pixels and rounded scales may reach out by one.
    wrong = (x2 <= x1) | (y2 <= y1) | (x1 < -1) | (y1 < -1) | (x2 > width + 1) | (y2 > height + 1)
    if wrong.any():
        raise InputError(
            f"{int(wrong.sum())} of {len(boxes)} proposals of {name} are not boxes in its {width} x {height} pixels",
            received=boxes[wrong][0].tolist(),
            allowed="allowed are corners with x1 < x2 and y1 < y2, in the pixels of the photo's annotation",
        )


def _read_npz(content: bytes) -> Callable[[str], Boxes | None]:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        names, counts, boxes = file["names"], file["counts"], _boxes(file["boxes"])
    if len(names) != len(counts) or counts.sum() != len(boxes):
        raise ValueError(
            f"{len(names)} names, {len(counts)} counts that add up to {counts.sum()}, {len(boxes)} boxes"
        )
    parts = np.split(boxes, counts.cumsum()[:-1])
    return dict(zip(names.tolist(), parts, strict=True)).get


def _read_pickle(content: bytes) -> Callable[[str], Boxes | None]:
    # Detectron's files were written by Python 2.
    loaded = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
    ids = loaded["indexes"] if "indexes" in loaded else loaded["ids"]
    by_id = {}
    for number, (key, boxes) in enumerate(zip(_plain(ids), _plain(loaded["boxes"]), strict=True)):
        ordered = _boxes(boxes)
        if loaded.get("scores") is not None:
            ordered = ordered[np.argsort(-np.ravel(_plain(loaded["scores"])[number]), kind="stable")]
        # Their last pixels belong to the boxes.
        by_id[int(key)] = ordered + np.array([0, 0, 1, 1], dtype=np.float32)
    return lambda name: by_id.get(int(digits) if (digits := name.replace("_", "")).isdecimal() else -1)


def _plain(values: Any) -> Any:
    """Return lists and arrays without the stand-ins."""
    if isinstance(values, _Array):
        return _plain(values.values)
    return [_plain(value) for value in values] if isinstance(values, list) else values


def _boxes(values: Any) -> Boxes:
    boxes = np.asarray(values, dtype=np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
        raise ValueError(f"boxes of the shape {boxes.shape}, or not finite; expected (R, 4)")
    return boxes
