"""What all command lines share: commands by name, options, overrides, exit codes.

Nothing heavy is imported here or at the top of a command's file: ``--help`` and a wrong word are answered at once.
"""

import argparse
import errno
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from pretext import __version__
from pretext.config import config_names
from pretext.errors import InputError, TrainingDivergedError
from pretext.files import WORK_DIRS, is_file

#: Said of a command that a signal ended.
INTERRUPTED = "interrupted; the same command goes on from what was saved"
#: Holds the absolute path of the backbone that the last run of ``train`` made, or found made.
LAST_BACKBONE = WORK_DIRS / "last_backbone"
#: The same of the colorizer, of the last run of a method that learns to colour.
LAST_COLORIZER = WORK_DIRS / "last_colorizer"

#: What the system says of a path that is too long, or that this user may not read or write, or of a full disk.
REFUSALS = (errno.EACCES, errno.EDQUOT, errno.ENAMETOOLONG, errno.ENOSPC, errno.EPERM, errno.EROFS)


@dataclass(frozen=True)
class Command:
    """One command of a command line.

    Attributes:
        module: Has ``add_options(parser, name)`` and ``run(options, arguments)``; imported when the command is called.
        help: One line on what the command does.
    """

    module: str
    help: str


def run_commands(
    program: str, about: str, commands: Mapping[str, Command], arguments: Sequence[str] | None = None
) -> int:
    """Run the command that the arguments name.

    Args:
        program: What the user calls the program.
        about: What it does, for ``--help``.
        commands: By their names.
        arguments: The words after the program's name; None takes those of this process.

    Returns:
        The exit code, see :func:`run_command`.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = _Parser(prog=program, description=about)
    parser.add_argument("--version", action="version", version=f"pretext-transfer {__version__}")
    choices = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for name, command in commands.items():
        below = choices.add_parser(
            name, help=command.help, description=f"{command.help[0].upper()}{command.help[1:]}."
        )
        if arguments[:1] == [name]:
            import_module(command.module).add_options(below, name)
    options = _parse(parser, choices.choices, arguments)
    module = import_module(commands[options.command].module)
    return run_command(lambda: module.run(options, arguments))


def run_command(command: Callable[[], None]) -> int:
    """Run a command and turn what it raises into an exit code.

    Returns:
        0; 2 for bad input; 1 for a run that diverged; 130 when interrupted. The messages go to stderr; of several
        processes (`pretext.launch`), the one that started them prints the first message, once.

    Raises:
        SystemExit: With code 143, for SIGTERM: what the command opened is closed, and what it started ends.
    """
    try:
        with _exit_on_sigterm(), _refusals_told():
            command()
    except (InputError, TrainingDivergedError) as error:
        if _is_one_of_several():
            from torch.distributed.elastic.multiprocessing.errors import get_error_handler

            get_error_handler().record_exception(error)
        else:
            print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except BrokenPipeError:
        # Whoever read the output has seen enough. Python would fail once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        if not _is_one_of_several():
            print(INTERRUPTED, file=sys.stderr)
        return 130
    return 0


def _is_one_of_several() -> bool:
    """Return True if torchrun started this process."""
    return "TORCHELASTIC_ERROR_FILE" in os.environ


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(number: int, frame: object) -> NoReturn:
    # What ends a process group ends DataLoader workers, too, and torch would raise an error for each. Not SIG_DFL: of
    # a signal that is under way, Python would say that it ignores it.
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    if not _is_one_of_several():
        os.write(2, f"{INTERRUPTED}\n".encode())  # print may be what was interrupted
    sys.exit(128 + number)


@contextmanager
def _refusals_told() -> Iterator[None]:
    """Raise InputError for what the system refuses to do with a path."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS or not isinstance(error.filename, (str, bytes)):
            raise
        path = os.fsdecode(error.filename)
        raise InputError(f"cannot use {path}: {error.strerror}", allowed="name another path") from error


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as `run_command` does."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}{'' if message.endswith('?') else ';'} --help lists what is allowed\n")


def _parse(parser: _Parser, below: Mapping[str, _Parser], arguments: Sequence[str]) -> argparse.Namespace:
    """Parse options, with words (names and overrides) before, between and behind them.

    Args:
        parser: Parses all.
        below: The parsers of the commands, by their names.
        arguments: The words of the command line.
    """
    options, rest = parser.parse_known_args(arguments)
    unknown = [word for word in rest if word.startswith("-")]
    if unknown:
        usage = below[options.command].format_help()
        name = unknown[0].partition("=")[0]
        meant = get_close_matches(name, re.findall(r"--[\w-]+", usage), 1)
        if "key=value" in usage:
            meant.append(f"the setting {name.lstrip('-')}=...")
        hint = f"; did you mean {' or '.join(meant)}?" if meant else ""
        parser.error(f"unknown options: received {' '.join(unknown)}{hint}")
    if not hasattr(options, "words"):
        return parser.parse_args(arguments)  # which refuses other words
    options.words += rest
    return options


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add --data, --work-dir and --seed."""
    parser.add_argument(
        "--data", help="where the data are, in place of the config's: a path, or a name below PRETEXT_DATA"
    )
    parser.add_argument(
        "--work-dir",
        type=folder_path,
        help="folder of the run (default: one below work_dirs, named after the config)",
    )
    parser.add_argument(
        "--seed", type=seed_number, default=0, help="seed of the weights and of every draw (default: 0)"
    )


def folder_path(text: str) -> Path:
    """The folder that an option gives; an empty text, as of a variable that is not set, is not the current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"received {text!r}, allowed are paths; . is the current folder")
    return Path(text)


def seed_number(text: str) -> int:
    """The seed that an option gives: a whole number that every generator takes."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"received {text!r}, allowed are whole numbers from 0 to 2^32 - 1")
    return int(text)


def split_overrides(words: Sequence[str], most: int, expected: str) -> tuple[list[str], list[str]]:
    """Part positional words into names and ``key=value`` overrides; the path of a file or of a folder is a name.

    A folder in the current one whose name has an equals sign is written with ``./``.

    Raises:
        InputError: More than ``most`` words are names.
    """
    names = [word for word in words if "=" not in word or _is_path(word)]
    overrides = [word for word in words if word not in names]
    if len(names) > most:
        raise InputError("too many words", received=" ".join(names), allowed=f"allowed are {expected}")
    return names, overrides


def _is_path(word: str) -> bool:
    # No key has a slash.
    return is_file(word.removeprefix("random:")) or ("/" in word.partition("=")[0] and Path(word).is_dir())


def take_data(names: list[str], paths: bool) -> str | None:
    """Take the config of a data set out of positional words, if the last of them is one.

    Args:
        names: The words; the last may be taken out.
        paths: Whether the path of a file counts, too.
    """
    if names and (names[-1] in config_names("data") or (paths and names[-1].endswith(".py"))):
        return names.pop()
    return None
