"""`python -m transfer ...`: judge backbones by what they transfer."""

import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from pretext.command_line import Command, run_commands
from transfer.stage import STAGES

ABOUT = "Judge backbones by what they transfer."
#: Every command by its name.
COMMANDS: Mapping[str, Command] = MappingProxyType(
    {
        **{
            name: Command("transfer.commands.stage", f"score a {stage.judges}: {stage.title}")
            for name, stage in STAGES.items()
        },
        "report": Command("transfer.commands.report", "make the tables and the page from all results"),
        "study": Command(
            "transfer.commands.study", "ask people which photos a computer coloured: make, serve, report"
        ),
        "protocols": Command(
            "transfer.commands.protocols", "list the papers' protocols, or say what one fixes"
        ),
        "compare": Command(
            "transfer.commands.compare",
            "run a grid of backbones, colorizers, stages and seeds, and report it",
        ),
    }
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; see :func:`pretext.command_line.run_command` for the exit code."""
    return run_commands("python -m transfer", ABOUT, COMMANDS, arguments)


if __name__ == "__main__":
    sys.exit(main())
