"""Who paints in a run of the stage `colorization`."""

from pretext.color.prior import ColorPrior
from pretext.colorize.colorizer import load_colorizer
from transfer.color_sources import LENT, ColorSource, check_needs_no_distribution, color_source
from transfer.data.colored import TruePhotos
from transfer.job import Job
from transfer.networks.painters import Matched, Model, Painter, baseline, folder
from transfer.networks.retrieval import lent_colors
from transfer.protocols.settings import ColorizationSettings


def painter_of(job: Job[ColorizationSettings], photos: TruePhotos, prior: ColorPrior) -> Painter:
    """Return the painter that a run of the stage judges.

    Args:
        job: The run; its ``backbone`` is what `transfer.color_sources.color_source` takes.
        photos: The true photos.
        prior: Has the mean colour.

    Raises:
        InputError: There are no such colours, or temperatures or an energy are given to what has none.
    """
    source = color_source(job.backbone)
    if source.kind == "model":
        return Model(load_colorizer(source.name).to(job.device), job.settings, job.seed)
    check_needs_no_distribution(source, job.settings.temperatures, job.settings.true_histogram)
    painter = _untrained(job, source, photos, prior)
    return Matched(painter) if job.settings.true_histogram == "quantile" else painter


def _untrained(
    job: Job[ColorizationSettings], source: ColorSource, photos: TruePhotos, prior: ColorPrior
) -> Painter:
    """Return the painter of a source of colours that is not a colorizer."""
    if source.name in LENT:
        return lent_colors(source, photos, job.settings, job.seed, job.device)
    if source.kind == "baseline":
        return baseline(source, photos, prior, job.seed)
    return folder(source, photos)
