"""What gives colours to judge, told by its name alone. Nothing heavy is imported here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pretext.colorize.header import COLORIZER_NAME, find_colorizer, read_colorizer_header
from pretext.errors import InputError
from pretext.files import is_file

#: Rows that need no training, but photos that lend their colours: the nearest of a gallery, or a reference.
LENT = ("retrieval", "welsh2002")
#: Rows that need no training: the true colours; none; those of another photo, drawn; the mean colour of the prior; and
#: `LENT`.
BASELINES = ("truth", "gray", "random-photo", "mean-color", *LENT)


@dataclass(frozen=True)
class ColorSource:
    """What gives colours.

    Attributes:
        kind: ``baseline``, ``model`` (a colorizer file) or ``folder`` (of files that were coloured before).
        name: One of `BASELINES`, or a path.
    """

    kind: str
    name: str


def color_source(spec: str) -> ColorSource:
    """Find what a name means.

    Args:
        spec: One of `BASELINES`, a colorizer file, the folder of a run that made one, or any other folder.

    Raises:
        InputError: There is nothing of that name, or the file is not a colorizer.
    """
    if spec in BASELINES:
        return ColorSource("baseline", spec)
    path = Path(spec)
    if path.is_dir() and not is_file(path / COLORIZER_NAME):
        return ColorSource("folder", spec)
    if not path.is_dir() and not is_file(path):
        raise InputError(
            "there are no colours of that name",
            received=spec,
            allowed=f"name a {COLORIZER_NAME}, the folder of a run, a folder of coloured photos, or one of"
            f" {', '.join(BASELINES)}",
        )
    path = find_colorizer(spec)
    read_colorizer_header(path)
    return ColorSource("model", str(path))


def check_needs_no_distribution(
    source: ColorSource, temperatures: Sequence[float], true_histogram: str | None
) -> None:
    """Raise InputError where settings are for distributions, and the source is not a colorizer, which predicts them.

    Args:
        source: From `color_source`.
        temperatures: Those of the settings.
        true_histogram: That of the settings.
    """
    if source.kind == "model":
        return
    if temperatures:
        raise InputError(
            "only a colorizer has temperatures",
            received=f"temperatures={tuple(temperatures)} of {source.name}",
            allowed="leave them out; a grid gives them to rows: decoding=['temperatures=0.1,0.38,1']",
        )
    if true_histogram == "energy":
        raise InputError(
            "only a colorizer predicts distributions, whose energy could be lowered",
            received=f"true_histogram=energy of {source.name}",
            allowed="true_histogram=quantile, or leave it out",
        )
