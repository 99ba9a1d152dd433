"""``initialize``: make a backbone whose filters fit photos, without training.

What takes seconds to import is imported in the functions, so that wrong words are told at once.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pretext.backbones.header import parse_name
from pretext.checks import check_at_least, check_choice
from pretext.command_line import seed_number
from pretext.data.places import data_path, ensure_toyworld
from pretext.errors import InputError
from pretext.versions import versions

if TYPE_CHECKING:
    from pretext.backbones.base import Backbone
    from pretext.backbones.checkpoint import Provenance
    from pretext.data.photos import Photos


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the command's options."""
    parser.add_argument("kind", help="gaussian, pca or kmeans")
    parser.add_argument("photos", help="a folder, a list file, or tar shards")
    parser.add_argument("--out", type=Path, required=True, help="the backbone file to write (.safetensors)")
    parser.add_argument(
        "--backbone",
        default="alexnet",
        metavar="NAME[:INPUT_SPACE]",
        help="its architecture, and the colours it sees if not its own, as in alexnet:rgb (default: alexnet)",
    )
    parser.add_argument("--size", type=int, default=128, help="side of the photos' crops (default: 128)")
    parser.add_argument("--count", type=int, default=128, help="how many photos are used (default: 128)")
    parser.add_argument("--seed", type=seed_number, default=0)


def run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Make the backbone, and print the path of its file."""
    data = ensure_toyworld(options.photos)
    path = data_path(data)
    from pretext.backbones.checkpoint import save_backbone
    from pretext.data.sources import open_photos

    photos = open_photos(path)
    backbone, provenance = initialize_backbone(
        options.kind, photos, options.backbone, options.size, options.count, options.seed, source=data
    )
    save_backbone(backbone, options.out, provenance)
    print(options.out)


def initialize_backbone(
    kind: str, photos: "Photos", name: str, size: int, count: int, seed: int, source: str = ""
) -> "tuple[Backbone, Provenance]":
    """Make a backbone by `pretext.backbones.data_dependent.initialize_from_data`, and say where its weights come from.

    Args:
        kind: ``gaussian``, ``pca`` or ``kmeans``.
        photos: Any photos; unreadable ones are skipped.
        name: An architecture; ``:INPUT_SPACE`` chooses another input space (``alexnet:rgb``).
        size: Side of the photos' central crops, in pixels.
        count: How many photos are used, spread over all.
        seed: Seed of the patches, the clusters and the random filters.
        source: What the photos are called.

    Raises:
        InputError: As for `initialize_from_data`; or no photo is readable, or a number is out of range.
    """
    import torch

    from pretext.backbones.checkpoint import Provenance, build
    from pretext.backbones.data_dependent import DATA_KINDS, initialize_from_data
    from pretext.backbones.initializers import he_normal_
    from pretext.data.crops import center_crop
    from pretext.data.samples import some_photos
    from pretext.data.sources import fingerprint

    check_choice("data-dependent initialisation", kind, DATA_KINDS)
    check_at_least("size", size, 1)
    check_at_least("count", count, 2)
    backbone = build(*parse_name(name))
    unreadable: dict[str, str] = {}
    views = [center_crop(image, size, size) for _, image in some_photos(photos, count, unreadable)]
    if not views:
        raise InputError(
            f"none of {len(unreadable)} photos can be read",
            received="; ".join(f"{name} ({why})" for name, why in list(unreadable.items())[:3]),
            allowed="allowed are whole JPEG, PNG and WebP files",
        )
    he_normal_(backbone, seed)
    initialize_from_data(backbone, torch.stack(views), kind, seed)
    provenance = Provenance(
        method=kind,
        seed=seed,
        data=source,
        data_fingerprint=fingerprint(photos),
        config={"size": size, "count": len(views)},
        versions=versions(),
    )
    return backbone.eval(), provenance
