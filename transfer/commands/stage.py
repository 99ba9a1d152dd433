"""The stages: score a backbone, or the colours of photos."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pretext.backbones.header import backbone_file, layers_of
from pretext.checks import check_choice
from pretext.colorize.header import find_colorizer
from pretext.command_line import LAST_BACKBONE, add_run_options, split_overrides, take_data
from pretext.config import data_sets_for, find_config
from pretext.data.places import data_path, ensure_toyworld
from pretext.errors import InputError
from pretext.files import WORK_DIRS, is_file
from pretext.launch import spawn_processes
from transfer.color_sources import BASELINES, color_source
from transfer.protocols.table import PROTOCOLS, load_stage_config
from transfer.stage import STAGES, Stage

#: What help and errors call what a stage judges.
_WORD = {"backbone": "BACKBONE", "colorizer": "MODEL|FOLDER"}


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the command's options."""
    stage = STAGES[name]
    layers = "LAYERS " if stage.layers == "argument" else ""
    judged = (
        "a backbone file or the folder of its run, random:NAME or random:FILE (default: the last one pretrained)"
        if stage.judges == "backbone"
        else "a colorizer file, the folder of a run that made one, a folder of photos that were coloured before, or one"
        f" of {', '.join(BASELINES)} (default: the last colorizer trained)"
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar=f"{layers}{_WORD[stage.judges]} DATA key=value",
        help=("layers (conv5, conv1,conv3 or all), then " if layers else "")
        + f"{judged}; the data set whose settings"
        f" are taken ({', '.join(data_sets_for(stage.config))}; default: those of the toy world); and overrides of the"
        " settings' keys",
    )
    ids = ", ".join(protocol.id for protocol in PROTOCOLS.values() if protocol.stage == name)
    parser.add_argument(
        "--protocol", metavar="ID", help=f"the settings of a paper: {ids or 'there is none yet'}"
    )
    parser.add_argument("--config", metavar="FILE", help="settings of your own")
    add_run_options(parser)


def run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Score what is judged; print one line per score.

    Raises:
        InputError: Words, settings, what is judged, layers or data cannot be used.
    """
    stage = STAGES[options.command]
    by_layers = stage.layers == "argument"
    expected = f"{'LAYERS, ' if by_layers else ''}one {_WORD[stage.judges]} and a data set"
    names, overrides = split_overrides(options.words, 3 if by_layers else 2, expected)
    data_set = take_data(names, paths=True)
    if len(names) > (2 if by_layers else 1):
        if data_set is None and not is_file(names[-1]):
            find_config("data", names[-1])  # tells of a misspelt data set
        raise InputError("too many words", received=" ".join(names), allowed=f"allowed are {expected}")
    if by_layers and len(names) == 1 and (names[0].startswith("random:") or is_file(backbone_file(names[0]))):
        raise InputError(
            "LAYERS come first",
            received=names[0],
            allowed="write conv5, conv1,conv3 or all, and then the backbone",
        )
    if by_layers and names:
        if any(override.startswith("layers=") for override in overrides):
            received = f"{names[0]} and {' '.join(overrides)}"
            raise InputError("the layers are given twice", received=received, allowed="give them once")
        overrides = [*overrides, f"layers={names.pop(0)}"]
    settings = load_stage_config(
        stage.name, data_set, overrides, protocol=options.protocol, file=options.config
    )
    judged = _judged(stage, names)
    if stage.judges == "backbone":
        _check_layers(stage, getattr(settings, "layers", None), judged)
    data = options.data or settings.data
    data_path(ensure_toyworld(data))
    exit_code = spawn_processes("transfer", arguments)
    if exit_code is not None:
        sys.exit(exit_code)
    # Imported here: it takes seconds, and everything above is told before.
    from transfer.run import score
    from transfer.scores.score import RESULTS_NAME

    # At most one of them is given.
    chosen = options.protocol or Path(data_set or options.config or "").stem
    work_dir = options.work_dir or WORK_DIRS / (f"{stage.config}_{chosen}" if chosen else stage.config)
    score(stage.name, judged, settings=settings, data=data, seed=options.seed, work_dir=work_dir, show=print)
    if os.environ.get("RANK", "0") == "0":
        print(f"scores: {work_dir / RESULTS_NAME}; tools/report.sh shows all", file=sys.stderr)


def _judged(stage: Stage, names: Sequence[str]) -> str:
    """Return what is judged: the word, or what was trained last."""
    if stage.judges == "backbone":
        return backbone_file(names[0]) if names else _last_backbone()
    return color_source(names[0] if names else str(find_colorizer(None))).name


def _check_layers(stage: Stage, layers: str | None, backbone: str) -> None:
    """Raise InputError unless the backbone is there and has the layers."""
    known = layers_of(backbone)
    if stage.layers is None or layers is None or layers == "all":
        return
    for layer in layers.split(","):
        check_choice(f"layer of {backbone}", layer.strip(), known)


def _last_backbone() -> str:
    if not LAST_BACKBONE.is_file():
        raise InputError(
            f"no backbone is given, and none was pretrained from this folder: there is no {LAST_BACKBONE}",
            allowed="name a backbone file or random:alexnet, or run tools/pretrain.sh first",
        )
    backbone = Path(os.fsdecode(LAST_BACKBONE.read_bytes().strip()))
    if not backbone.is_file():
        raise InputError(
            f"no backbone is given, and the last one pretrained is gone: {LAST_BACKBONE} names it",
            received=str(backbone),
            allowed="name a backbone file or random:alexnet, or run tools/pretrain.sh again",
        )
    print(f"backbone: {backbone} (the last one pretrained)", file=sys.stderr)
    return str(backbone)
