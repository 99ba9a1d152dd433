"""What both command lines share: options, overrides, exit codes, toy data, several processes."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pretext.errors import InputError, TrainingDivergedError
from pretext.files import WORK_DIRS

#: Holds the absolute path of the backbone that the last run of ``train`` made, or found made.
LAST_BACKBONE = WORK_DIRS / "last_backbone"


def run_command(command: Callable[[], None]) -> int:
    """Run a command and turn what it raises into an exit code.

    Returns:
        0; 2 for bad input; 1 for a run that diverged; 130 when interrupted. The messages go to stderr; of several
        processes' messages the one that started them prints the first.
    """
    try:
        command()
    except (InputError, TrainingDivergedError) as error:
        if "TORCHELASTIC_ERROR_FILE" in os.environ:
            from torch.distributed.elastic.multiprocessing.errors import get_error_handler

            get_error_handler().record_exception(error)
        else:
            print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Parse options, with words (names and overrides) before, between and behind them."""
    options, rest = parser.parse_known_args(arguments)
    if not hasattr(options, "words") or any(word.startswith("-") for word in rest):
        # Without such words, or with an unknown option, the parser's own message is the right one.
        return parser.parse_args(arguments)
    options.words += rest
    return options


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add --data, --work-dir and --seed."""
    parser.add_argument(
        "--data", help="the data, in place of the config's: a path, or a name below PRETEXT_DATA"
    )
    parser.add_argument("--work-dir", type=Path, help="folder of the run (default: work_dirs/<config name>)")
    parser.add_argument(
        "--seed", type=seed_number, default=0, help="seed of the weights and of every draw (default: 0)"
    )


def seed_number(text: str) -> int:
    """The seed that an option gives: a whole number that every generator takes."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"received {text!r}, allowed are whole numbers from 0 to 2^32 - 1")
    return int(text)


def split_overrides(words: Sequence[str], most: int, expected: str) -> tuple[list[str], list[str]]:
    """Part positional words into names and ``key=value`` overrides; what is a file is a name.

    Raises:
        InputError: More than ``most`` words are no overrides.
    """
    names = [word for word in words if "=" not in word or _is_file(word.removeprefix("random:"))]
    overrides = [word for word in words if word not in names]
    if len(names) > most:
        raise InputError(f"too many arguments: received {' '.join(names)}, expected {expected}")
    return names, overrides


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
    except OSError:  # longer than any file name
        return False


def spawn_processes(module: str, arguments: Sequence[str]) -> int | None:
    """Start this command once on each of GPUS devices (and of NNODES machines), as torchrun does.

    Returns:
        The exit code, or None if this process is to do the work itself: GPUS and NNODES are 1 or not set, or
        torchrun has started it already.

    Raises:
        InputError: GPUS, NNODES, NODE_RANK or MASTER_PORT is no whole number.
    """
    gpus, nodes = _environment_number("GPUS", 1), _environment_number("NNODES", 1)
    if "LOCAL_RANK" in os.environ or gpus * nodes == 1:
        return None
    # Imported here: it takes a second that no other command needs.
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser, run

    # Their own errors say what torch's log would say around them.
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    options = [f"--nproc-per-node={gpus}", f"--nnodes={nodes}"]
    if nodes == 1:
        options.append("--standalone")
    else:
        options += [
            f"--node-rank={_environment_number('NODE_RANK', 0)}",
            f"--master-addr={os.environ.get('MASTER_ADDR', '127.0.0.1')}",
            f"--master-port={_environment_number('MASTER_PORT', 29500)}",
        ]
    try:
        run(  # type: ignore[no-untyped-call]
            get_args_parser().parse_args([*options, "--module", module, *arguments])
        )
    except ChildFailedError as error:
        # An error on one process makes the others fail too, of which only the first has told why.
        failures = list(error.failures.values())
        told = [one for one in failures if isinstance(one.error_file_data["message"], dict)]
        failure = min(told or failures, key=lambda one: one.timestamp)
        reason = f"process {failure.local_rank} ended with exit code {failure.exitcode}"
        if told:
            reason = failure.error_file_data["message"]["message"].partition(": ")[2]
        print(f"error: {reason}", file=sys.stderr)
        return int(failure.exitcode)
    return 0


def _environment_number(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal():
        raise InputError(f"{name} must be a whole number: received {text!r}")
    return int(text)
