"""``prior``: estimate the colour prior of photos."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pretext.checks import check_choice
from pretext.data.places import data_path, ensure_toyworld


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the command's options."""
    parser.add_argument("photos", help="a folder, a list file, or tar shards")
    parser.add_argument("--out", type=Path, required=True, help="the prior file to write (.json)")
    parser.add_argument(
        "--bins", default="official313", help="rule of the ab bins, or from_data (default: official313)"
    )
    parser.add_argument(
        "--sigma", type=float, default=5.0, help="width of the smoothing in CIE units (default: 5)"
    )
    parser.add_argument("--max-photos", type=int, help="use only so many, spread over all (default: all)")


def run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Estimate the prior, and print what is commonest."""
    path = data_path(ensure_toyworld(options.photos))
    # Imported here: it takes seconds, and missing photos are told before.
    from pretext.color.bins import BIN_RULES
    from pretext.color.prior import FROM_DATA
    from pretext.data.sources import open_photos
    from pretext.methods.parts.photo_prior import prior_of_photos

    check_choice("rule of ab bins", options.bins, [*BIN_RULES, FROM_DATA])
    photos = open_photos(path)
    prior = prior_of_photos(
        photos,
        bins=options.bins,
        sigma=options.sigma,
        max_photos=options.max_photos,
        source=options.photos,
    )
    prior.save(options.out)
    commonest = prior.probabilities.argmax()
    a, b = prior.bins[commonest].int().tolist()
    share = 100 * prior.probabilities[commonest].item()
    print(f"{options.out}: {prior.num_photos} photos, {len(prior.bins)} bins, {share:.1f} % at ({a}, {b})")
