"""``colorize``: colour photos by a trained colorizer."""

import argparse
import sys
from collections.abc import Sequence

from pretext.colorize.header import find_colorizer, read_colorizer_header
from pretext.colorize.outputs import plan
from pretext.colorize.reference import open_reference
from pretext.colorize.settings import (
    DECODE_AT,
    FORMATS,
    RULES,
    TRANSFERS,
    UPSAMPLINGS,
    Decoding,
    PaintingSettings,
    Steering,
)
from pretext.command_line import folder_path, seed_number
from pretext.data.places import data_path
from pretext.errors import InputError
from pretext.files import WORK_DIRS


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the command's options."""
    parser.add_argument(
        "photos", nargs="+", metavar="PHOTOS", help="photos, folders of photos, or lists (.txt)"
    )
    parser.add_argument(
        "--model", help="a colorizer file or the folder of a run (default: the last colorizer trained)"
    )
    parser.add_argument(
        "--out",
        type=folder_path,
        default=WORK_DIRS / "colorized",
        metavar="DIR",
        help="folder of the results (default: work_dirs/colorized)",
    )
    parser.add_argument(
        "--size", type=int, help="shorter side for the network (default: that of its training)"
    )
    parser.add_argument(
        "--decode", default=RULES[0], help=f"how a colour is chosen: {', '.join(RULES)} (default: {RULES[0]})"
    )
    parser.add_argument(
        "--temperature",
        type=float,
        help="T of annealed (default: the colorizer's own), sample and coherent (default: 1); lower is more certain",
    )
    parser.add_argument(
        "--samples", type=int, default=1, help="results for each photo, of sample and coherent"
    )
    parser.add_argument(
        "--upsampling",
        default=UPSAMPLINGS[0],
        help=f"how the colours are enlarged: {', '.join(UPSAMPLINGS)} (default: {UPSAMPLINGS[0]})",
    )
    parser.add_argument(
        "--decode-at",
        default=DECODE_AT[0],
        help="whether a colour is chosen at each position of the network's small map, and the colours enlarged, or at "
        f"each pixel of the photo, from the enlarged distribution: {', '.join(DECODE_AT)} (default: {DECODE_AT[0]})",
    )
    parser.add_argument("--reference", metavar="PHOTO", help="a photo in colour whose colours are taken")
    parser.add_argument(
        "--transfer",
        help=f"how the reference's colours are taken: {' or '.join(TRANSFERS)} (default: {TRANSFERS[0]})",
    )
    parser.add_argument(
        "--bias",
        type=float,
        default=0.0,
        metavar="DEGREES",
        help="turn the hues, from -180 to 180: 60 leads from red to yellow (default: 0)",
    )
    parser.add_argument(
        "--uncertainty", action="store_true", help="also write the entropy of the colours (.png and .npy)"
    )
    parser.add_argument(
        "--format", help=f"{' or '.join(FORMATS)} (default: jpeg for photos named .jpg or .jpeg, else png)"
    )
    parser.add_argument("--seed", type=seed_number, default=0, help="seed of the samples (default: 0)")


def run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Colour the photos, print the folder of the results, and name the photos that were not coloured."""
    reference = None if options.reference is None else open_reference(data_path(options.reference))
    transfer = options.transfer or (None if reference is None else TRANSFERS[0])
    settings = PaintingSettings(
        Decoding(options.decode, options.temperature, options.seed),
        size=options.size,
        upsampling=options.upsampling,
        samples=options.samples,
        uncertainty=options.uncertainty,
        format=options.format,
        decode_at=options.decode_at,
        steering=Steering(reference, transfer, options.bias),
    )
    places = [data_path(place) for place in options.photos]
    model = find_colorizer(options.model)
    read_colorizer_header(model)
    planned = plan(places, options.out, settings)
    # Imported here: it takes seconds, and everything above is told before.
    import torch

    from pretext.colorize.batch import colorize_photos
    from pretext.colorize.colorizer import load_colorizer

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    outcome = colorize_photos(load_colorizer(model).to(device), planned.jobs, options.out, settings)
    failed = planned.failed | outcome.failed
    print(_sentence(outcome.painted, outcome.finished, len(failed)), file=sys.stderr)
    for photo, reason in failed.items():
        print(_printable(f"not coloured: {photo}: {reason}"), file=sys.stderr)
    print(_printable(str(options.out)))
    if failed:
        raise InputError(
            "photos were not coloured",
            received=f"{len(failed)} of {len(planned.jobs) + len(planned.failed)}",
            allowed="they are named above; all others are done",
        )


def _sentence(painted: int, finished: int, failed: int) -> str:
    parts = [f"{painted} photos coloured"]
    parts += [f"{finished} finished before"] if finished else []
    parts += [f"{failed} not coloured"] if failed else []
    return ", ".join(parts)


def _printable(text: str) -> str:
    """A text whose names of files may not be UTF-8."""
    return text.encode(errors="backslashreplace").decode()
