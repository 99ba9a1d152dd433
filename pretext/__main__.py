"""`python -m pretext ...`: make backbones from unlabeled photos."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pretext.backbones.base import check_choice
from pretext.color.bins import BIN_RULES
from pretext.color.prior import FROM_DATA
from pretext.command_line import (
    LAST_BACKBONE,
    WORK_DIRS,
    add_run_options,
    ensure_toyworld,
    parse,
    run_command,
    seed_number,
    spawn_processes,
    split_overrides,
)
from pretext.config import config_name, data_path, load_config
from pretext.files import write_whole

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

    toyworld = commands.add_parser("toyworld", help="render the toy data")
    toyworld.add_argument("out", type=Path, help="folder to make")
    toyworld.add_argument("--seed", type=seed_number, default=0)
    toyworld.set_defaults(run=_toyworld)

    export = commands.add_parser("export", help="write a backbone's weights under torchvision's names")
    export.add_argument("backbone", help="a backbone file, or random:NAME")
    export.add_argument("--out", type=Path, required=True, help="file to write (.safetensors or .pth)")
    export.set_defaults(run=_export)
    return parser


def _train(options: argparse.Namespace, arguments: Sequence[str]) -> None:
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
    from pretext.data.photos import open_photos
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


def _toyworld(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    from pretext.data.toyworld import render_toyworld

    render_toyworld(options.out, seed=options.seed)
    print(options.out)


def _export(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    from pretext.backbones.checkpoint import load_backbone, save_state_dict, torchvision_state_dict

    weights = torchvision_state_dict(load_backbone(options.backbone).backbone)
    save_state_dict(weights, options.out)
    print(options.out)


if __name__ == "__main__":
    sys.exit(main())
