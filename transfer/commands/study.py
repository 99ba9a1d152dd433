"""``study``: make a perceptual study of coloured photos, hold it in the browser, and report it."""

import argparse
import secrets
from collections.abc import Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

from pretext.checks import check_share
from pretext.command_line import folder_path, seed_number
from pretext.errors import InputError
from pretext.files import WORK_DIRS
from transfer.study.study import ANSWERS_NAME, PAPER, StudySettings, load_study
from transfer.study.trials import DESIGNS

#: What the server needs beside the rest.
SERVER_PACKAGES = ("starlette", "uvicorn")


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the options of the three commands below it."""
    below = parser.add_subparsers(required=True, metavar="make|serve|report", dest="step")
    _add_make_options(
        below.add_parser("make", help="make a study from folders of coloured photos and the true ones")
    )
    _add_serve_options(below.add_parser("serve", help="hold a study in the browser"))
    _add_report_options(below.add_parser("report", help="print the fooling rates and write them as scores"))


def _add_make_options(make: argparse.ArgumentParser) -> None:
    make.add_argument(
        "folders",
        nargs="+",
        metavar="[NAME=]FOLDER",
        help="coloured photos; NAME is the system (default: FOLDER's)",
    )
    make.add_argument("--truth", type=folder_path, required=True, help="folder of the true photos")
    make.add_argument("--out", type=folder_path, required=True, help="folder to make")
    make.add_argument(
        "--practice", type=int, default=PAPER.practice, help="pairs with feedback (default: 10)"
    )
    make.add_argument("--tests", type=int, default=PAPER.tests, help="pairs that count (default: 40)")
    make.add_argument(
        "--vigilance", type=float, default=PAPER.vigilance, help="share with an obvious fake (default: 0.1)"
    )
    make.add_argument(
        "--seconds", type=float, default=PAPER.seconds, help="a pair shows so long (default: 1)"
    )
    make.add_argument("--size", type=int, default=PAPER.size, help="longest side in pixels (default: 256)")
    make.add_argument(
        "--design",
        choices=DESIGNS,
        default=PAPER.design,
        help="whether a participant judges one system or all (default: one)",
    )
    make.add_argument("--seed", type=seed_number, help="seed of all that is drawn (default: a random one)")


def _add_serve_options(serve: argparse.ArgumentParser) -> None:
    serve.add_argument("study", type=folder_path, help="folder of the study")
    serve.add_argument("--host", default="127.0.0.1", help="address to bind to (default: this machine alone)")
    serve.add_argument(
        "--port", type=_port, default=8000, help="port to bind to; 0 takes a free one (default: 8000)"
    )
    serve.add_argument(
        "--name",
        action="append",
        default=[],
        help="a further name that people call this server by; may be repeated",
    )


def _add_report_options(report: argparse.ArgumentParser) -> None:
    report.add_argument("study", type=folder_path, help="folder of the study")
    report.add_argument(
        "--work-dir",
        type=folder_path,
        default=WORK_DIRS / "perceptual_study",
        help="folder of results.jsonl (default: work_dirs/perceptual_study)",
    )
    report.add_argument(
        "--pass-share",
        type=float,
        default=0.75,
        help="share of the obvious fakes that a participant must find to count (default: 0.75)",
    )


def run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Run one of the three commands.

    Raises:
        InputError: Words, folders or answers cannot be used.
    """
    {"make": _make, "serve": _serve, "report": _report}[options.step](options)


def _make(options: argparse.Namespace) -> None:
    seed = secrets.randbits(32) if options.seed is None else options.seed
    names = ("practice", "tests", "vigilance", "seconds", "size", "design")
    settings = StudySettings(**{name: getattr(options, name) for name in names}, seed=seed)
    settings.check()
    folders = named_folders(options.folders)
    for folder in (*folders.values(), options.truth):
        if not folder.is_dir():
            raise InputError("no folder of photos", received=folder, allowed="name a folder")
    # Imported here: it takes seconds, and wrong words are told before.
    from transfer.study.make import make_study

    count = make_study(folders, options.truth, options.out, settings)
    print(f"{options.out}: {count} photos of {', '.join(folders)}; seed {seed}")


def _serve(options: argparse.Namespace) -> None:
    study = load_study(options.study)
    missing = [name for name in SERVER_PACKAGES if find_spec(name) is None]
    if missing:
        raise InputError(
            f"the server needs {' and '.join(missing)}",
            allowed="install them: pip install 'pretext-transfer[web]'",
        )
    from transfer.study.server import serve

    try:
        serve(study, options.host, options.port, options.name)
    except OSError as error:
        raise InputError(
            f"cannot bind to {options.host}, port {options.port}: {error.strerror or error}",
            allowed="choose others by --host and --port",
        ) from error


def _report(options: argparse.Namespace) -> None:
    check_share("--pass-share", options.pass_share)
    study = load_study(options.study)
    path = options.study / ANSWERS_NAME
    if not path.is_file():
        raise InputError(
            f"nobody has answered: there is no {path}", allowed="hold the study by `study serve`"
        )
    from transfer.scores.score import RESULTS_NAME
    from transfer.study.fooling import study_scores, summary
    from transfer.study.store import Store

    with closing(Store(path, study.id)) as store:
        answers, pairs = store.answers(), store.participants()
    kept, rates = study_scores(study, answers, pairs, options.work_dir, options.pass_share)
    print(summary(kept, rates, options.pass_share))
    print(f"scores: {options.work_dir / RESULTS_NAME}")


def named_folders(words: Sequence[str]) -> dict[str, Path]:
    """Return the folders by the names of their systems.

    Raises:
        InputError: Two systems have one name, or one has none.
    """
    folders: dict[str, Path] = {}
    for word in words:
        is_named = "=" in word and not Path(word).is_dir()
        name, _, place = word.partition("=") if is_named else (Path(word).resolve().name, "", word)
        if not name.strip() or not place.strip():
            raise InputError("a system has no name or no folder", received=word, allowed="write NAME=FOLDER")
        if name in folders:
            raise InputError(
                "two systems have one name", received=name, allowed="write NAME=FOLDER for one of them"
            )
        folders[name] = Path(place)
    return folders


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"received {text!r}, allowed are whole numbers from 0 to 65535")
    return int(text)
