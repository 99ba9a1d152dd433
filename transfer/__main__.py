"""`python -m transfer ...`: judge backbones by what they transfer."""

import argparse
import json
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from pathlib import Path

from pretext.backbones.checkpoint import LoadedBackbone, load_backbone
from pretext.command_line import (
    LAST_BACKBONE,
    add_run_options,
    parse,
    run_command,
    seed_number,
    spawn_processes,
    split_overrides,
)
from pretext.config import config_name, plain
from pretext.data.places import data_path, ensure_toyworld
from pretext.distributed import process_group, rank_and_world_size
from pretext.errors import InputError
from pretext.files import WORK_DIRS
from pretext.progress import LOG
from pretext.versions import versions
from transfer.data.identity import data_name
from transfer.job import Job, Measurement
from transfer.protocols import PROTOCOLS, get_protocol, load_stage_config, protocol_label
from transfer.run import recipe_id, recorded
from transfer.scores.outcomes import OUTCOMES_NAME, save_outcomes
from transfer.scores.score import RESULTS_NAME, Score, append_scores, utc_now
from transfer.stage import STAGES


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, or 2 for bad input."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = parse(_parser(), arguments)
    return run_command(lambda: options.run(options, arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="transfer", description="Judge backbones by what they transfer.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (config, _, _) in STAGES.items():
        stage = commands.add_parser(name, help=f"score a backbone by {name}")
        layers = "LAYERS | " if name == "linear-probe" else ""
        stage.add_argument(
            "words",
            nargs="*",
            metavar=f"{layers}BACKBONE | key=value",
            help=("layers (conv5, conv1,conv3 or all), then " if layers else "")
            + "a backbone file, random:NAME or random:FILE (default: the last one pretrained), and overrides"
            " of the config's keys",
        )
        stage.add_argument("--config", default=config, help=f"the stage's config (default: {config})")
        add_run_options(stage)
        stage.set_defaults(run=_score, stage=name)
    about = "make the tables and the page from all results"
    report = commands.add_parser("report", help=about, description=f"{about.capitalize()}.")
    report.add_argument(
        "--work-dir",
        type=Path,
        default=WORK_DIRS,
        help=f"every results.jsonl below this folder counts (default: {WORK_DIRS})",
    )
    report.add_argument("--out", type=Path, help="folder for the report (default: WORK_DIR/report)")
    report.add_argument("--data", help="only the scores of this data set (as data=NAME does)")
    report.add_argument("--seed", type=seed_number, help="only the scores of this seed (as seed=N does)")
    report.add_argument(
        "words",
        nargs="*",
        metavar="field=value",
        help="only the scores with this value in a field: method=random, stage=linear-probe, ...",
    )
    report.set_defaults(run=_report)
    protocols = commands.add_parser("protocols", help="list the papers' protocols, or say what one fixes")
    protocols.add_argument("protocol", nargs="?", help="the protocol to describe (default: list them all)")
    protocols.set_defaults(run=_protocols)
    compare = commands.add_parser("compare", help="run a grid of backbones, stages and seeds, and report it")
    compare.add_argument("grid", help="a config with backbones, stages and seeds (configs/compare)")
    compare.add_argument(
        "--work-dir", type=Path, help="folder of the grid (default: work_dirs/compare/<grid's name>)"
    )
    compare.add_argument(
        "--jobs", type=_jobs, help="how many cells run side by side (default: one a GPU, or one)"
    )
    compare.set_defaults(run=_compare)
    return parser


def _score(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    probing = options.stage == "linear-probe"
    names, overrides = split_overrides(
        options.words, 2 if probing else 1, "LAYERS and BACKBONE" if probing else "one BACKBONE"
    )
    config = load_stage_config(options.stage, options.config, overrides)
    if probing and names:
        if any(override.startswith("layers=") for override in overrides):
            raise InputError(
                f"the layers are given twice: received {names[0]} and {' '.join(overrides)}; give them once"
            )
        config["layers"] = names.pop(0)
    backbone = names[0] if names else _last_backbone()
    data = options.data or config["data"]
    root = Path(data_path(ensure_toyworld(data)))
    exit_code = spawn_processes("transfer", arguments)
    if exit_code is not None:
        sys.exit(exit_code)
    work_dir = options.work_dir or WORK_DIRS / config_name(options.config)
    with process_group() as device:
        job = Job(config, backbone, root, options.seed, work_dir, device)
        loaded = load_backbone(backbone, seed=options.seed)
        first = rank_and_world_size()[0] == 0
        if (work_dir / RESULTS_NAME).exists():
            # Now, and not after hours of training: can scores be added?
            append_scores(work_dir / RESULTS_NAME, [])
        with _recorded(job, options.stage, loaded) if first else nullcontext() as folder:
            began = time.monotonic()
            measurements = _stage_function(options.stage)(job)
            seconds = time.monotonic() - began
            # Of several processes, one has the measurements of all.
            scores = []
            if folder is not None:
                run = folder.name
                scores = _scores(job, data_name(data), loaded, options.stage, run, measurements, seconds)
            for score in scores:
                line = f"{score.method:>14}  {score.setting:>8}  {score.metric:<12} {score.value:6.2f}"
                LOG.info(line)
                print(line)
        if folder is not None:
            # After the run, so that a full disk loses no number: they stand in the log and on the screen. The scores
            # come last: where they are, the run was whole.
            kept = {(m.setting, m.metric): m.outcomes for m in measurements if m.outcomes is not None}
            try:
                save_outcomes(folder / OUTCOMES_NAME, kept)
            finally:
                append_scores(work_dir / RESULTS_NAME, scores)


def _recorded(job: Job, stage: str, loaded: LoadedBackbone) -> AbstractContextManager[Path]:
    record = {
        "stage": stage,
        "config": plain(job.config),
        "backbone": job.backbone,
        "backbone_sha256": loaded.sha256,
        "data": str(job.data),
        "seed": job.seed,
        "processes": rank_and_world_size()[1],
        "versions": versions(),
    }
    method = re.sub(r"[^\w.+-]+", "-", loaded.provenance.method)
    name = f"{stage}-{method}-{loaded.sha256[:8]}-seed{job.seed}"
    return recorded(job.work_dir / "runs", name, record)


def _stage_function(stage: str) -> Callable[[Job], list[Measurement]]:
    # Imported here: each stage's libraries take seconds that the others need not wait.
    _, module, function = STAGES[stage]
    found: Callable[[Job], list[Measurement]] = getattr(import_module(module), function)
    return found


def _scores(
    job: Job,
    data: str,
    loaded: LoadedBackbone,
    stage: str,
    run: str,
    measurements: Sequence[Measurement],
    seconds: float,
) -> list[Score]:
    now = utc_now()
    return [
        Score(
            method=loaded.provenance.method,
            backbone=loaded.backbone.architecture,
            input_space=loaded.backbone.input_space,
            backbone_sha256=loaded.sha256,
            backbone_seed=loaded.provenance.seed,
            recipe=recipe_id(loaded),
            pretrained_on=data_name(loaded.provenance.data) if loaded.provenance.data else None,
            stage=stage,
            protocol=protocol_label(job.config, rank_and_world_size()[1]),
            setting=measured.setting,
            metric=measured.metric,
            value=measured.value,
            unit="percent",
            seed=job.seed,
            processes=rank_and_world_size()[1],
            run=run,
            data=data,
            split=measured.split,
            split_fingerprint=measured.split_fingerprint,
            config=plain(job.config),
            versions=versions(),
            seconds=round(seconds, 1),
            time=now,
        )
        for measured in measurements
    ]


def _last_backbone() -> str:
    if not LAST_BACKBONE.is_file():
        raise InputError(
            f"no backbone is given and none was pretrained from this folder: there is no {LAST_BACKBONE};"
            " name a backbone file or random:alexnet, or run tools/pretrain.sh first"
        )
    backbone = Path(LAST_BACKBONE.read_text().strip())
    if not backbone.is_file():
        raise InputError(
            f"no backbone is given and the last one pretrained is gone: {LAST_BACKBONE} names {backbone};"
            " name a backbone file or random:alexnet, or run tools/pretrain.sh again"
        )
    print(f"backbone: {backbone} (the last one pretrained)", file=sys.stderr)
    return str(backbone)


def _report(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    from transfer.report.files import build_report, console_table
    from transfer.scores.score import collect_scores, latest_scores, select_scores

    _, words = split_overrides(options.words, 0, "field=value")
    where = dict(word.split("=", 1) for word in words)
    where |= {name: str(value) for name in ("data", "seed") if (value := getattr(options, name)) is not None}
    paths = build_report([options.work_dir], options.out or options.work_dir / "report", where)
    print(console_table(latest_scores(select_scores(collect_scores(options.work_dir), where))))
    print(paths.html)


def _protocols(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    if options.protocol is None:
        for protocol in PROTOCOLS.values():
            print(f"{protocol.stage:<18}  {protocol.id:<24}  {protocol.source.partition(';')[0]}")
        return
    protocol = get_protocol(options.protocol)
    print(f"{protocol.id}: {protocol.stage}, scored by {protocol.metric}\n{protocol.source}\n")
    print(json.dumps(plain(protocol.settings), indent=2))


def _jobs(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"received {text!r}, allowed are whole numbers from 1")
    return int(text)


def _compare(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    from transfer.compare.grid import plan
    from transfer.compare.run import devices, last_line, run_grid
    from transfer.report.files import build_report, console_table
    from transfer.scores.score import collect_scores, latest_scores

    work_dir = options.work_dir or WORK_DIRS / "compare" / config_name(options.grid)
    tasks = plan(options.grid, work_dir)
    # Cells end with the comparison, as with Ctrl-C.
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        failed = run_grid(tasks, work_dir, options.jobs or max(1, len(devices())))
    finally:
        signal.signal(signal.SIGTERM, before)
    # What an earlier version of the grid left is not this grid's.
    folders = sorted({task.folder for task in tasks})
    scores = [score for folder in folders for score in collect_scores(folder)]
    if scores:
        print(console_table(latest_scores(scores)))
        print(build_report(folders, work_dir / "report").html)
    if failed:
        raise InputError(
            f"{len(failed)} of {len(tasks)} cells failed, first {failed[0].name}: {last_line(failed[0])}; the same"
            " command goes on with what is not done"
        )


if __name__ == "__main__":
    sys.exit(main())
