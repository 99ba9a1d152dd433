"""Published numbers: those of ``published.csv``, each with its source and how certain it is."""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from pretext.errors import InputError

#: Mark behind a number, by certainty: read in the source, restated by a third party, or recalled from memory.
MARKS = {"verified": "", "secondary": "§", "unverified": "?"}


@dataclass(frozen=True)
class Published:
    """One published number.

    Attributes:
        method: Name of the table's row; two measurements of one method have two rows.
        backbone: Architecture, for instance ``AlexNet``.
        task: Test, for instance ``ImageNet-1k linear probe``.
        setting: Column of the table, for instance ``conv5`` or ``fc6-8``.
        metric: For instance ``top1`` or ``PSNR dB``; in percent unless the name holds another unit.
        text: The number as printed.
        value: The number.
        source: Paper and table, or the address of the file.
        certainty: ``verified`` (read in the source), ``secondary`` (restated by a third party) or ``unverified``.
    """

    method: str
    backbone: str
    task: str
    setting: str
    metric: str
    text: str
    value: float
    source: str
    certainty: str

    def __str__(self) -> str:
        """The number as tables print it, with a mark if nobody read it in its source."""
        return f"{self.text}{MARKS[self.certainty]}"


#: Published tests by layer: for each stage its tasks, with the names that their data sets go by.
TASKS_BY_LAYER = {
    "linear-probe": {
        "ImageNet-1k linear probe": ("imagenet", "imagenet-1k", "imagenet1k", "ilsvrc2012"),
        "Places205 linear probe": ("places205", "places"),
    }
}
#: Methods of figure 7 of Zhang et al. 2016, with the numbers as corrected in Split-Brain Autoencoders.
FIGURE_7 = (
    "ImageNet-labels (supervised)",
    "Gaussian (random)",
    "Krahenbuhl stacked k-means",
    "Context (Doersch)",
    "Inpainting (Pathak)",
    "BiGAN (Donahue)",
    "Colorization (Zhang 2016) CORRECTED",
)


def task_by_layer(stage: str, data: str) -> str | None:
    """Return the task of a stage's published numbers by layer on a data set of this name; None if there are none."""
    tasks = TASKS_BY_LAYER.get(stage, {})
    return next((task for task, names in tasks.items() if data.lower() in names), None)


@cache
def published() -> tuple[Published, ...]:
    """Return all numbers, in the file's order."""
    rows = csv.DictReader(
        (files("transfer.scores") / "published.csv").read_text(encoding="utf-8").splitlines()
    )
    return tuple(Published(value=float(row["value"]), text=row.pop("value"), **row) for row in rows)


def published_table(task: str, backbone: str = "AlexNet") -> dict[str, dict[str, Published]]:
    """Return the numbers of one task, by method in the file's order and by setting.

    If a method has several numbers for one setting, the most certain one counts, then the first.

    Raises:
        InputError: Nothing is published on this task.
    """
    rows: dict[str, dict[str, Published]] = {}
    certainties = list(MARKS)
    for entry in published():
        if (entry.task, entry.backbone) == (task, backbone):
            settings = rows.setdefault(entry.method, {})
            known = settings.get(entry.setting)
            if known is None or certainties.index(entry.certainty) < certainties.index(known.certainty):
                settings[entry.setting] = entry
    if not rows:
        tasks = sorted({entry.task for entry in published() if entry.backbone == backbone})
        raise InputError(f"nothing is published on this task for {backbone}", received=task, allowed=tasks)
    return rows


def published_metrics(task: str) -> dict[str, dict[str, Published]]:
    """Return the numbers of one task, by method in the file's order and by metric: of tables with a column for each."""
    rows: dict[str, dict[str, Published]] = {}
    for entry in published():
        if entry.task == task:
            rows.setdefault(entry.method, {}).setdefault(entry.metric, entry)
    return rows
