"""``train``: pretrain a backbone."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pretext.backbones.header import read_header
from pretext.colorize.header import COLORIZER_NAME
from pretext.command_line import (
    LAST_BACKBONE,
    LAST_COLORIZER,
    add_run_options,
    split_overrides,
    take_data,
)
from pretext.config import DEFAULT_DATA, config_names, default_data, find_config, load_config, read_config
from pretext.data.places import data_path, ensure_toyworld
from pretext.errors import InputError
from pretext.files import WORK_DIRS, file_name, write_whole
from pretext.launch import spawn_processes
from pretext.training.settings import PretrainingSettings

#: What is trained if nothing is named.
DEFAULT_METHOD = "colorization"


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the command's options."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="METHOD DATA key=value",
        help=f"what is trained ({', '.join(config_names('pretext'))}, or the path of a config; default:"
        f" {DEFAULT_METHOD}), on which data set ({', '.join(config_names('data'))}; default: {DEFAULT_DATA}), and"
        " overrides of the config's keys",
    )
    add_run_options(parser)
    parser.add_argument(
        "--fresh", action="store_true", help="delete what an earlier run left in the work dir"
    )


def run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Pretrain, and print the path of the backbone file."""
    names, overrides = split_overrides(options.words, 2, "METHOD, DATA and key=value overrides")
    data_set = names.pop() if len(names) == 2 else take_data(names, paths=False)
    method = names[0] if names else DEFAULT_METHOD
    config = load_config("pretext", method, data_set, overrides)
    settings = PretrainingSettings.from_config(config)
    data = ensure_toyworld(options.data or settings.data)
    data_path(data)
    start = _start(settings.init)
    exit_code = spawn_processes("pretext", arguments)
    if exit_code is not None:
        sys.exit(exit_code)
    # Imported here: it takes seconds, and everything above is told before.
    from pretext.training.engine import pretrain

    suffix = f"-seed{options.seed}" if options.seed else ""
    name = _run_name(method, data_set, settings, options.data, start)
    work_dir = options.work_dir or WORK_DIRS / f"{name}{suffix}"
    backbone = pretrain(config, work_dir=work_dir, seed=options.seed, data=data, fresh=options.fresh)
    if os.environ.get("RANK", "0") == "0":
        _remember(LAST_BACKBONE, backbone, "name the backbone to the stages")
        colorizer = backbone.parent / COLORIZER_NAME
        if colorizer.is_file():
            _remember(LAST_COLORIZER, colorizer, "name the colorizer to colorize")
    print(backbone)


def _remember(note: Path, made: Path, otherwise: str) -> None:
    """Note what the run made; where that cannot be written, the run is done all the same."""
    try:
        write_whole(note, f"{made.absolute()}\n")
    except InputError as error:
        print(f"{error}; {otherwise}", file=sys.stderr)


def _run_name(
    method: str,
    data_set: str | None,
    settings: PretrainingSettings,
    place: str | None,
    start: tuple[str, ...],
) -> str:
    """Name the folder of a run by method, architecture, data, and start if that is not He's filters.

    That is ``colorization_alexnet_toyworld_kmeans``, or with ``--data my/photos`` ``rotation_alexnet_my-photos``.
    """
    data_set = data_set or default_data(read_config(find_config("pretext", method)))
    parts = [Path(method).stem]
    if data_set is not None:
        architecture = settings.backbone["architecture"]
        parts += [] if architecture in parts[0] else [architecture]
    if place is not None and place != settings.data:
        parts.append(file_name("-".join(Path(place).absolute().parts[-2:])))
    elif data_set is not None:
        parts.append(Path(data_set).stem)
    return "_".join([*parts, *start])


def _start(init: str) -> tuple[str, ...]:
    """What the folder of a run says of its start; raise InputError if a backbone file to start from cannot be read."""
    if init.endswith(".safetensors"):
        return (f"from-{read_header(Path(init))['sha256'][:8]}",)
    return () if init == "he" else (init,)
