"""``export``: write a backbone as other libraries read it."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pretext.backbones.header import layers_of
from pretext.checks import check_choice
from pretext.files import write_whole


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the command's options."""
    parser.add_argument("backbone", help="a backbone file, or random:NAME")
    parser.add_argument(
        "--out", type=Path, required=True, help="file to write (.safetensors or .pth; of ONNX .onnx)"
    )
    parser.add_argument(
        "--format",
        default="torchvision",
        help="torchvision (its names), openmmlab (a checkpoint of mmdetection and mmsegmentation) or onnx",
    )
    parser.add_argument("--layers", default="conv5", help="of onnx: its outputs (default: conv5)")
    parser.add_argument("--size", type=int, default=227, help="of onnx: side of the photos (default: 227)")


def run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Write the file, and print its path."""
    check_choice("format", options.format, ("torchvision", "openmmlab", "onnx"))
    known = layers_of(options.backbone)
    if options.format == "onnx":
        check_choice("ending of an ONNX file", options.out.suffix, (".onnx",))
        for layer in options.layers.split(","):
            check_choice(f"layer of {options.backbone}", layer, known)
    # Imported here: it takes seconds, and everything above is told before.
    from pretext.backbones.checkpoint import load_backbone
    from pretext.backbones.exports import (
        onnx_model,
        openmmlab_checkpoint,
        save_state_dict,
        torchvision_state_dict,
    )

    if options.format == "onnx":
        backbone = load_backbone(options.backbone, geometry="evaluation").backbone
        write_whole(options.out, onnx_model(backbone, options.layers.split(","), options.size))
    else:
        convert = {"torchvision": torchvision_state_dict, "openmmlab": openmmlab_checkpoint}[options.format]
        save_state_dict(convert(load_backbone(options.backbone).backbone), options.out)
    print(options.out)
