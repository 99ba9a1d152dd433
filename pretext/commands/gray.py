"""``gray``: make a backbone that sees RGB see lightness alone, with the same features of gray photos."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pretext.backbones.header import read_header
from pretext.checks import check_choice


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the command's options."""
    parser.add_argument("backbone", type=Path, help="a backbone file whose backbone sees RGB")
    parser.add_argument("--out", type=Path, required=True, help="the backbone file to write (.safetensors)")


def run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Write the file, and print its path."""
    space = read_header(options.backbone)["arguments"].get("input_space")
    check_choice(f"input_space of {options.backbone}", space, ("rgb",))
    # Imported here: it takes seconds, and a wrong file is told before.
    from dataclasses import asdict

    from pretext.backbones.checkpoint import Provenance, load_backbone, save_backbone
    from pretext.backbones.surgery import make_gray
    from pretext.training.start import MADE_GRAY
    from pretext.versions import versions

    loaded = load_backbone(options.backbone)
    provenance = Provenance(
        MADE_GRAY.format(loaded.provenance.method),
        seed=loaded.provenance.seed,
        init_sha256=loaded.sha256,
        init=asdict(loaded.provenance),
        versions=versions(),
    )
    save_backbone(make_gray(loaded.backbone), options.out, provenance)
    print(options.out)
