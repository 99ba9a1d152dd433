"""How many photos, and which photo is which: the plan that rendering carries out."""

from dataclasses import asdict, dataclass, fields

import numpy as np

from pretext.data.toyworld.classes import TOY_CLASSES
from pretext.errors import InputError


@dataclass(frozen=True)
class ToyworldSizes:
    """Numbers of photos in each split; at least one per class, so ten.

    Attributes:
        unlabeled: photos without labels, for pretraining.
        labeled_train: ImageFolder photos, `train`; classes are as even as can be.
        labeled_val: ImageFolder photos, `val`.
        voc2007_train: VOC2007 photos with boxes, `train`.
        voc2007_val: VOC2007 photos, `val`.
        voc2007_test: VOC2007 photos, `test`.
        voc2012_train: VOC2012 photos with boxes and masks, `train`.
        voc2012_val: VOC2012 photos, `val`.

    Raises:
        InputError: A number is below ten.
    """

    unlabeled: int = 5000
    labeled_train: int = 1500
    labeled_val: int = 1000
    voc2007_train: int = 500
    voc2007_val: int = 300
    voc2007_test: int = 200
    voc2012_train: int = 300
    voc2012_val: int = 200

    def __post_init__(self) -> None:
        for field in fields(self):
            count = getattr(self, field.name)
            if count < len(TOY_CLASSES):
                raise InputError(
                    f"{field.name} of the toy world has too few photos",
                    received=count,
                    allowed=f"{len(TOY_CLASSES)} or more, one for each class",
                )

    @classmethod
    def scaled(cls, scale: float) -> "ToyworldSizes":
        """Return the default sizes times `scale`, rounded, but never below one photo per class.

        Raises:
            InputError: `scale` is not a positive finite number.
        """
        if not 0 < scale < float("inf"):
            raise InputError(
                "scale of the toy world is not a positive number", received=scale, allowed="numbers above 0"
            )
        return cls(**{k: max(round(n * scale), len(TOY_CLASSES)) for k, n in asdict(cls()).items()})


@dataclass(frozen=True)
class Split:
    """A run of photos in one place.

    Attributes:
        number: identity of the split in the random numbers; must never change.
        place: folder of the data set: `unlabeled`, `labeled`, `VOC2007` or `VOC2012`.
        name: name of the split in its data set.
        count: number of photos.
        first: number of the first photo in file names.
    """

    number: int
    place: str
    name: str
    count: int
    first: int = 1

    def rng(self, seed: int, index: int) -> np.random.Generator:
        """Return the generator of photo `index`: what it looks like depends on nothing else."""
        return np.random.default_rng([seed, self.number, index])


def splits(sizes: ToyworldSizes) -> tuple[Split, ...]:
    """All splits, in the order in which they are rendered."""
    val_2007 = 1 + sizes.voc2007_train
    return (
        Split(0, "unlabeled", "unlabeled", sizes.unlabeled),
        Split(1, "labeled", "train", sizes.labeled_train),
        Split(2, "labeled", "val", sizes.labeled_val),
        Split(3, "VOC2007", "train", sizes.voc2007_train),
        Split(4, "VOC2007", "val", sizes.voc2007_val, val_2007),
        Split(5, "VOC2007", "test", sizes.voc2007_test, val_2007 + sizes.voc2007_val),
        Split(6, "VOC2012", "train", sizes.voc2012_train),
        Split(7, "VOC2012", "val", sizes.voc2012_val, 1 + sizes.voc2012_train),
    )
