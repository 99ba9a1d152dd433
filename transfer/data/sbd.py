"""Segmentation splits that papers made of VOC and of the Semantic Boundaries Dataset (Hariharan et al., ICCV 2011).

The dataset's folder (``benchmark_RELEASE/dataset``, or ``SBD``) holds ``img/<name>.jpg``, ``cls/<name>.mat`` and the
lists ``train.txt`` and ``val.txt``.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from pretext.errors import InputError
from transfer.data.voc import VocMask, open_voc

#: Photos of each split in the full data sets.
COUNTS = {"sbd_train": 8498, "seg11valid": 736, "train_aug": 10582}


def sbd_split(data: Path, split: str, check_counts: bool = True) -> list[VocMask]:
    """Photos and masks of one of `COUNTS`, its list computed from the user's trees.

    ``sbd_train`` is the dataset's own train; ``seg11valid`` what of VOC2011's val is not in it (both as in "Fully
    Convolutional Networks", Long et al., CVPR 2015, for whom Zhang et al. 2016 score); ``train_aug`` VOC2012's train
    and all of the dataset, without VOC2012's val (Chen et al., "DeepLab", and mmsegmentation).

    Args:
        data: Folder with the VOC devkit and the dataset.
        split: Name of the split.
        check_counts: Whether a split must have as many photos as in the full data sets.

    Raises:
        InputError: A tree, a list or a file is missing, or a count is another.
    """
    folder = _find(data)
    entries = _SPLITS[split](data, folder)
    if check_counts and len(entries) != COUNTS[split]:
        raise InputError(
            f"the split {split} has another number of photos than the papers': received {len(entries)} from {data},"
            f" expected {COUNTS[split]}; the trees must be whole, or set check_counts=False"
        )
    return entries


def _find(data: Path) -> Path:
    places = [data / "benchmark_RELEASE" / "dataset", data / "SBD", data / "sbd"]
    for place in places:
        if (place / "train.txt").is_file() and (place / "cls").is_dir():
            return place
    raise InputError(
        f"no Semantic Boundaries Dataset in {data}: looked for train.txt, img and cls in"
        f" {', '.join(str(place.relative_to(data)) for place in places)}"
    )


def _names(folder: Path, split: str) -> list[str]:
    path = folder / f"{split}.txt"
    if not path.is_file():
        raise InputError(f"no list of the Semantic Boundaries Dataset: {path} is missing")
    return path.read_text().split()


def _entries(folder: Path, names: list[str]) -> list[VocMask]:
    entries = [
        VocMask(name, folder / "img" / f"{name}.jpg", folder / "cls" / f"{name}.mat") for name in names
    ]
    missing = [str(p) for entry in entries for p in (entry.path, entry.mask) if not p.is_file()]
    if missing:
        raise InputError(
            f"{len(missing)} files of the Semantic Boundaries Dataset are missing, first {', '.join(missing[:3])};"
            " unpack it again"
        )
    return entries


def _sbd_train(data: Path, folder: Path) -> list[VocMask]:
    return _entries(folder, _names(folder, "train"))


def _seg11valid(data: Path, folder: Path) -> list[VocMask]:
    trained_on = set(_names(folder, "train"))
    return [entry for entry in open_voc(data, 2011).masks("val") if entry.name not in trained_on]


def _train_aug(data: Path, folder: Path) -> list[VocMask]:
    devkit = open_voc(data, 2012)
    train = devkit.masks("train")
    # VOC's own masks are finer than the dataset's.
    known = {entry.name for entry in train} | {entry.name for entry in devkit.masks("val")}
    added = sorted({*_names(folder, "train"), *_names(folder, "val")} - known)
    return [*train, *_entries(folder, added)]


_SPLITS: Mapping[str, Callable[[Path, Path], list[VocMask]]] = {
    "sbd_train": _sbd_train,
    "seg11valid": _seg11valid,
    "train_aug": _train_aug,
}
