"""The colour prior of a user's own photos."""

import torch

from pretext.checks import check_at_least
from pretext.color.bins import AB_LIMIT, bins_from_counts
from pretext.color.lab import rgb_to_lab
from pretext.color.prior import FROM_DATA, ColorPrior, count_ab, estimate_prior
from pretext.color.rebalance import gray_mask
from pretext.data.crops import to_tensor
from pretext.data.photos import Photos
from pretext.data.samples import some_photos
from pretext.errors import InputError

#: Most pixels taken from a photo, on a regular grid.
PIXELS_PER_PHOTO = 64 * 64


def prior_of_photos(
    photos: Photos,
    *,
    bins: str = "official313",
    sigma: float = 5.0,
    max_photos: int | None = None,
    gray_threshold: float = 5.0,
    source: str = "",
) -> ColorPrior:
    """Count the colours of photos and estimate their prior.

    Gray photos are left out, as the loss leaves them out, and so are unreadable ones.

    Args:
        photos: Any photos.
        bins: Rule of the ab bins; ``from_data`` chooses them by :func:`pretext.color.bins.bins_from_counts`.
        sigma: Width of the smoothing in CIE units.
        max_photos: Count only this many photos, spread over all; None counts all.
        gray_threshold: A photo is gray if no |a| or |b| is above this.
        source: Where the photos come from, kept in the file.

    Raises:
        InputError: Every photo is gray or unreadable, or an option is out of its range.
    """
    if max_photos is not None:
        check_at_least("max_photos", max_photos, 1)
    count = len(photos) if max_photos is None else min(max_photos, len(photos))
    counts = torch.zeros(2 * AB_LIMIT, 2 * AB_LIMIT, dtype=torch.int64)
    counted = 0
    for _, image in some_photos(photos, count):
        pixels = to_tensor(image)
        step = max(1, round((pixels[0].numel() / PIXELS_PER_PHOTO) ** 0.5))
        ab = rgb_to_lab(pixels[None, :, ::step, ::step].contiguous())[:, 1:]
        if gray_mask(ab, gray_threshold).item():
            counts += count_ab(ab)
            counted += 1
    if counted == 0:
        raise InputError(
            "no colour prior",
            received=f"{count} photos, all gray or unreadable",
            allowed="name photos in colour",
        )
    centers = bins_from_counts(counts) if bins == FROM_DATA else bins
    return estimate_prior(counts, centers, sigma, num_photos=counted, source=source)
