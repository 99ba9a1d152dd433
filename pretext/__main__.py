"""`python -m pretext ...`: make backbones from unlabeled photos."""

import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from pretext.command_line import Command, run_commands

ABOUT = "Make backbones from unlabeled photos."
#: Every command by its name.
COMMANDS: Mapping[str, Command] = MappingProxyType(
    {
        "train": Command("pretext.commands.train", "pretrain a backbone"),
        "colorize": Command("pretext.commands.colorize", "colour photos by a trained colorizer"),
        "prior": Command("pretext.commands.prior", "estimate the colour prior of photos"),
        "initialize": Command(
            "pretext.commands.initialize", "make a backbone whose filters fit photos, without training"
        ),
        "toyworld": Command("pretext.commands.toyworld", "render the toy data"),
        "permutations": Command("pretext.commands.permutations", "choose permutations for jigsaw puzzles"),
        "tracks": Command("pretext.commands.tracks", "find tracks of moving objects in videos"),
        "export": Command("pretext.commands.exports", "write a backbone as other libraries read it"),
        "import": Command("pretext.commands.imports", "make a backbone file of weights from elsewhere"),
        "gray": Command("pretext.commands.gray", "make a backbone that sees RGB see lightness alone"),
        "serve": Command("pretext.commands.serve", "colour photos on a page in the browser"),
    }
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; see :func:`pretext.command_line.run_command` for the exit code."""
    return run_commands("python -m pretext", ABOUT, COMMANDS, arguments)


if __name__ == "__main__":
    sys.exit(main())
