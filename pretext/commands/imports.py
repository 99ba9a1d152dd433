"""``import``: make a backbone file, or a colorizer file, of weights from elsewhere."""

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

from pretext.errors import InputError


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the command's options."""
    parser.add_argument("file", type=Path, help="weights: .pth, .safetensors or .caffemodel")
    parser.add_argument("--kind", required=True, help="torchvision-alexnet, zhang2016-alexnet-caffe, ...")
    parser.add_argument("--out", type=Path, required=True, help="the file to write (.safetensors)")
    parser.add_argument(
        "--colorizer", action="store_true", help="write a colorizer file, of zhang2016-colornet or -caffe"
    )
    parser.add_argument("--method", help="what made the weights, for the tables (default: the kind)")


def run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Write the file, and print which tensors it took."""
    if not options.file.is_file():
        raise InputError("no file of weights", received=options.file)
    # Imported here: it takes seconds, and a missing file is told before.
    from pretext.backbones.checkpoint import Provenance, save_backbone
    from pretext.backbones.imports import import_backbone
    from pretext.colorize.colorizer import save_colorizer
    from pretext.colorize.imports import import_colorizer
    from pretext.versions import versions

    file_hash = hashlib.sha256(options.file.read_bytes()).hexdigest()
    config = {"file": options.file.name, "file_sha256": file_hash, "kind": options.kind}
    provenance = Provenance(options.method or options.kind, config=config, versions=versions())
    if options.colorizer:
        colored = import_colorizer(options.file, options.kind)
        save_colorizer(colored.colorizer, options.out, provenance)
        used, left_out = colored.used, colored.left_out
    else:
        imported = import_backbone(options.file, options.kind)
        save_backbone(imported.backbone, options.out, provenance)
        used, left_out = imported.used, imported.left_out
    print(f"{options.out}: {len(used)} tensors of {options.file}: {', '.join(used)}")
    print(f"left out: {', '.join(left_out) or 'none'}")
