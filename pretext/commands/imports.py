"""``import``: make a backbone file of weights from elsewhere."""

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

from pretext.errors import InputError


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the command's options."""
    parser.add_argument("file", type=Path, help="weights: .pth, .safetensors or .caffemodel")
    parser.add_argument("--kind", required=True, help="torchvision-alexnet, zhang2016-alexnet-caffe, ...")
    parser.add_argument("--out", type=Path, required=True, help="the backbone file to write (.safetensors)")
    parser.add_argument("--method", help="what made the weights, for the tables (default: the kind)")


def run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Write the backbone file, and print which tensors it took."""
    if not options.file.is_file():
        raise InputError("no file of weights", received=options.file)
    # Imported here: it takes seconds, and a missing file is told before.
    from pretext.backbones.checkpoint import Provenance, save_backbone
    from pretext.backbones.imports import import_backbone
    from pretext.versions import versions

    imported = import_backbone(options.file, options.kind)
    file_hash = hashlib.sha256(options.file.read_bytes()).hexdigest()
    config = {"file": options.file.name, "file_sha256": file_hash, "kind": options.kind}
    provenance = Provenance(options.method or options.kind, config=config, versions=versions())
    save_backbone(imported.backbone, options.out, provenance)
    print(f"{options.out}: {len(imported.used)} tensors of {options.file}: {', '.join(imported.used)}")
    print(f"left out: {', '.join(imported.left_out) or 'none'}")
