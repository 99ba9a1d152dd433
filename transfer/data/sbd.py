"""Segmentation splits that papers made from VOC and the Semantic Boundaries Dataset (Hariharan et al., ICCV 2011).

The dataset's folder (``benchmark_RELEASE/dataset``, or ``SBD``) holds ``img/<name>.jpg``, ``cls/<name>.mat`` and the
lists ``train.txt`` and ``val.txt``.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from pretext.errors import InputError
from pretext.files import read_lines
from transfer.data.listed import check_files
from transfer.data.voc import VocMask, open_voc

#: Photos of each split in the full data sets.
COUNTS = {"sbd_train": 8498, "seg11valid": 736, "train_aug": 10582}


def sbd_split(data: Path, split: str, check_counts: bool = True) -> list[VocMask]:
    """List the photos and masks of one of the splits in `COUNTS`, computed from the user's trees.

    ``sbd_train`` is the dataset's own train split. ``seg11valid`` is VOC2011's val without the photos of ``sbd_train``
    (both as in "Fully Convolutional Networks", Long et al., CVPR 2015, which Zhang et al. 2016 follow). ``train_aug``
    is VOC2012's train and all of the dataset, without VOC2012's val (Chen et al., "DeepLab", and mmsegmentation).

    Args:
        data: Folder with the VOC devkit and the dataset.
        split: Name of the split.
        check_counts: Whether a split must have as many photos as in the full data sets.

    Raises:
        InputError: A tree, a list or a file is missing, or the number of photos differs.
    """
    folder = _find(data)
    entries = _SPLITS[split](data, folder)
    if check_counts and len(entries) != COUNTS[split]:
        raise InputError(
            f"the split {split} of {data} does not have the papers' number of photos",
            received=len(entries),
            allowed=[COUNTS[split], "any with check_counts=False"],
        )
    return entries


def _find(data: Path) -> Path:
    places = ("benchmark_RELEASE/dataset", "SBD", "sbd")
    for place in places:
        if (data / place / "train.txt").is_file() and (data / place / "cls").is_dir():
            return data / place
    raise InputError(
        f"no Semantic Boundaries Dataset in {data}",
        allowed=f"it needs train.txt, img and cls in one of {', '.join(places)}",
    )


def _names(folder: Path, split: str) -> list[str]:
    return [line.strip() for line in read_lines(folder / f"{split}.txt") if line.strip()]


def _entries(folder: Path, names: list[str]) -> list[VocMask]:
    entries = [
        VocMask(name, folder / "img" / f"{name}.jpg", folder / "cls" / f"{name}.mat") for name in names
    ]
    files = [path for entry in entries for path in (entry.path, entry.mask)]
    check_files(f"the Semantic Boundaries Dataset in {folder}", files, "unpack it again")
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
