"""``initialize``: make a backbone whose filters fit photos, without training."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pretext.command_line import seed_number
from pretext.data.places import data_path, ensure_toyworld


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
    from pretext.backbones.checkpoint import save_backbone
    from pretext.baselines import initialize_backbone
    from pretext.data.sources import open_photos

    data = ensure_toyworld(options.photos)
    photos = open_photos(data_path(data))
    backbone, provenance = initialize_backbone(
        options.kind, photos, options.backbone, options.size, options.count, options.seed, source=data
    )
    save_backbone(backbone, options.out, provenance)
    print(options.out)
