"""``export``: write a backbone or a colorizer as other libraries read it."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pretext.backbones.header import backbone_file, layers_of
from pretext.checks import check_choice
from pretext.colorize.header import is_colorizer, read_colorizer_header
from pretext.errors import InputError
from pretext.files import write_whole


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the command's options."""
    parser.add_argument("backbone", help="a backbone file, or random:NAME; for onnx, a colorizer file, too")
    parser.add_argument(
        "--out", type=Path, required=True, help="file to write (.safetensors or .pth; of ONNX .onnx)"
    )
    parser.add_argument(
        "--format",
        help="torchvision (its names; the default of a backbone), openmmlab (a checkpoint of mmdetection and"
        " mmsegmentation) or onnx (the default of a colorizer)",
    )
    parser.add_argument("--layers", help="of a backbone as onnx: its outputs (default: conv5)")
    parser.add_argument("--size", type=int, help="of a backbone as onnx: side of the photos (default: 227)")


def run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Write the file, and print its path."""
    options.backbone = backbone_file(options.backbone)
    of_colorizer = is_colorizer(Path(options.backbone))
    options.format = options.format or ("onnx" if of_colorizer else "torchvision")
    check_choice("format", options.format, ("torchvision", "openmmlab", "onnx"))
    if options.format == "onnx":
        check_choice("ending of an ONNX file", options.out.suffix, (".onnx",))
    if of_colorizer:
        _export_colorizer(options)
    else:
        _export_backbone(options)
    print(options.out)


def _export_colorizer(options: argparse.Namespace) -> None:
    read_colorizer_header(Path(options.backbone))
    check_choice("format of a colorizer", options.format, ("onnx",))
    given = [name for name in ("layers", "size") if getattr(options, name) is not None]
    if given:
        raise InputError(
            "a colorizer has its layer, and takes photos of any size",
            received=", ".join(f"--{name}" for name in given),
            allowed="leave it out",
        )
    # Imported here: it takes seconds, and everything above is told before.
    from pretext.colorize.colorizer import load_colorizer
    from pretext.colorize.exports import onnx_colorizer

    write_whole(options.out, onnx_colorizer(load_colorizer(options.backbone)))


def _export_backbone(options: argparse.Namespace) -> None:
    known = layers_of(options.backbone)
    layers = (options.layers or "conv5").split(",")
    if options.format == "onnx":
        for layer in layers:
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
        write_whole(options.out, onnx_model(backbone, layers, 227 if options.size is None else options.size))
    else:
        convert = {"torchvision": torchvision_state_dict, "openmmlab": openmmlab_checkpoint}[options.format]
        save_state_dict(convert(load_backbone(options.backbone).backbone), options.out)
