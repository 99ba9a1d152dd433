"""`python -m pretext ...`: make backbones from unlabeled photos."""

import argparse
import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pretext.checks import check_choice
from pretext.color.bins import BIN_RULES
from pretext.color.prior import FROM_DATA
from pretext.command_line import (
    LAST_BACKBONE,
    add_run_options,
    parse,
    run_command,
    seed_number,
    spawn_processes,
    split_overrides,
)
from pretext.config import config_name, load_config
from pretext.files import WORK_DIRS, write_whole

DEFAULT_CONFIG = "pretext/colorization_alexnet_toyworld.py"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, or 2 for bad input."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = parse(_parser(), arguments)
    return run_command(lambda: options.run(options, arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pretext", description="Make backbones from unlabeled photos.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="pretrain a backbone")
    train.add_argument(
        "words",
        nargs="*",
        metavar="CONFIG | key=value",
        help=f"a config (default: {DEFAULT_CONFIG}) and overrides of its keys",
    )
    add_run_options(train)
    train.add_argument("--fresh", action="store_true", help="delete what an earlier run left in the work dir")
    train.set_defaults(run=_train)

    prior = commands.add_parser("prior", help="estimate the colour prior of photos")
    prior.add_argument("photos", help="a folder, a list file, or tar shards")
    prior.add_argument("--out", type=Path, required=True, help="the prior file to write (.json)")
    prior.add_argument(
        "--bins", default="official313", help="rule of the ab bins, or from_data (default: official313)"
    )
    prior.add_argument(
        "--sigma", type=float, default=5.0, help="width of the smoothing in CIE units (default: 5)"
    )
    prior.add_argument("--max-photos", type=int, help="use only so many, spread over all (default: all)")
    prior.set_defaults(run=_prior)

    initialize = commands.add_parser("initialize", help="make a backbone whose filters fit photos, untrained")
    initialize.add_argument("kind", help="gaussian, pca or kmeans")
    initialize.add_argument("photos", help="a folder, a list file, or tar shards")
    initialize.add_argument(
        "--out", type=Path, required=True, help="the backbone file to write (.safetensors)"
    )
    initialize.add_argument(
        "--backbone",
        default="alexnet",
        metavar="NAME[:INPUT_SPACE]",
        help="its architecture, and the colours it sees if not its own, as in alexnet:rgb (default: alexnet)",
    )
    initialize.add_argument("--size", type=int, default=128, help="side of the photos' crops (default: 128)")
    initialize.add_argument("--count", type=int, default=128, help="how many photos are used (default: 128)")
    initialize.add_argument("--seed", type=seed_number, default=0)
    initialize.set_defaults(run=_initialize)

    toyworld = commands.add_parser("toyworld", help="render the toy data")
    toyworld.add_argument("out", type=Path, help="folder to make")
    toyworld.add_argument("--seed", type=seed_number, default=0)
    toyworld.set_defaults(run=_toyworld)

    permutations = commands.add_parser("permutations", help="choose permutations for jigsaw puzzles")
    permutations.add_argument("--count", type=int, default=64, help="how many (default: 64)")
    permutations.add_argument("--out", type=Path, required=True, help="the file to write (.json)")
    permutations.add_argument("--seed", type=seed_number, default=0)
    permutations.set_defaults(run=_permutations)

    tracks = commands.add_parser("tracks", help="find tracks of moving objects in videos")
    tracks.add_argument("videos", help="a folder of videos")
    tracks.add_argument("--out", type=Path, required=True, help="folder to make, with list.tracks and frames")
    tracks.add_argument("--length", type=int, default=30, help="frames of a track (default: 30)")
    tracks.add_argument(
        "--size", type=int, default=448, help="longest shorter side of a frame in pixels (default: 448)"
    )
    tracks.add_argument(
        "--patch", type=float, default=0.5, help="side of a patch as a share of it (default: 0.5)"
    )
    tracks.set_defaults(run=_tracks)

    export = commands.add_parser("export", help="write a backbone as other libraries read it")
    export.add_argument("backbone", help="a backbone file, or random:NAME")
    export.add_argument(
        "--out", type=Path, required=True, help="file to write (.safetensors or .pth; of ONNX .onnx)"
    )
    export.add_argument(
        "--format",
        default="torchvision",
        help="torchvision (its names), openmmlab (a checkpoint of mmdetection and mmsegmentation) or onnx",
    )
    export.add_argument("--layers", default="conv5", help="of onnx: its outputs (default: conv5)")
    export.add_argument("--size", type=int, default=227, help="of onnx: side of the photos (default: 227)")
    export.set_defaults(run=_export)

    imports = commands.add_parser("import", help="make a backbone file of weights from elsewhere")
    imports.add_argument("file", type=Path, help="weights: .pth, .safetensors or .caffemodel")
    imports.add_argument("--kind", required=True, help="torchvision-alexnet, zhang2016-alexnet-caffe, ...")
    imports.add_argument("--out", type=Path, required=True, help="the backbone file to write (.safetensors)")
    imports.add_argument("--method", help="what made the weights, for the tables (default: the kind)")
    imports.set_defaults(run=_import)
    return parser


def _train(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    from pretext.data.sources import ensure_toyworld
    from pretext.engine import pretrain

    names, overrides = split_overrides(options.words, 1, "one CONFIG and key=value overrides")
    name = names[0] if names else DEFAULT_CONFIG
    config = load_config(name, overrides)
    data = ensure_toyworld(options.data or config["data"])
    exit_code = spawn_processes("pretext", arguments)
    if exit_code is not None:
        sys.exit(exit_code)
    suffix = f"-seed{options.seed}" if options.seed else ""
    work_dir = options.work_dir or WORK_DIRS / f"{config_name(name)}{suffix}"
    backbone = pretrain(config, work_dir=work_dir, seed=options.seed, data=data, fresh=options.fresh)
    if os.environ.get("RANK", "0") == "0":
        write_whole(LAST_BACKBONE, f"{backbone.absolute()}\n")
    print(backbone)


def _prior(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    from pretext.data.sources import data_path, ensure_toyworld, open_photos
    from pretext.prior import prior_of_photos

    check_choice("rule of ab bins", options.bins, [*BIN_RULES, FROM_DATA])
    photos = open_photos(data_path(ensure_toyworld(options.photos)))
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


def _initialize(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    from pretext.backbones.checkpoint import save_backbone
    from pretext.baselines import initialize_backbone
    from pretext.data.sources import data_path, ensure_toyworld, open_photos

    data = ensure_toyworld(options.photos)
    photos = open_photos(data_path(data))
    backbone, provenance = initialize_backbone(
        options.kind, photos, options.backbone, options.size, options.count, options.seed, source=data
    )
    save_backbone(backbone, options.out, provenance)
    print(options.out)


def _toyworld(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    from pretext.data.toyworld import render_toyworld

    render_toyworld(options.out, seed=options.seed)
    print(options.out)


def _permutations(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    from pretext.permutations import distant_permutations

    chosen = distant_permutations(options.count, seed=options.seed)
    chosen.save(options.out)
    print(
        f"{options.out}: {options.count} permutations, Hamming distance at least {chosen.minimum_distance},"
        f" {chosen.mean_distance:.3f} on average"
    )


def _tracks(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    from pretext.data.pairs.videos import LIST_NAME, track_videos
    from pretext.data.sources import data_path

    count, left_out = track_videos(
        Path(data_path(options.videos)),
        options.out,
        length=options.length,
        size=options.size,
        patch=options.patch,
    )
    print(f"{options.out / LIST_NAME}: {count} tracks")
    print(f"left out: {', '.join(f'{n} with {reason}' for reason, n in left_out.items()) or 'none'}")


def _export(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    from pretext.backbones.checkpoint import load_backbone
    from pretext.backbones.exports import (
        onnx_model,
        openmmlab_checkpoint,
        save_state_dict,
        torchvision_state_dict,
    )

    check_choice("format", options.format, ("torchvision", "openmmlab", "onnx"))
    if options.format == "onnx":
        check_choice("ending of an ONNX file", options.out.suffix, (".onnx",))
        backbone = load_backbone(options.backbone, geometry="evaluation").backbone
        write_whole(options.out, onnx_model(backbone, options.layers.split(","), options.size))
    else:
        convert = {"torchvision": torchvision_state_dict, "openmmlab": openmmlab_checkpoint}[options.format]
        save_state_dict(convert(load_backbone(options.backbone).backbone), options.out)
    print(options.out)


def _import(options: argparse.Namespace, arguments: Sequence[str]) -> None:
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


if __name__ == "__main__":
    sys.exit(main())
