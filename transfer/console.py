"""``pretext-transfer``: the commands of both packages behind one name."""

import sys

from pretext.__main__ import COMMANDS as MAKING
from pretext.command_line import run_commands
from transfer.__main__ import COMMANDS as JUDGING


def main() -> None:
    """Run one command, and exit with its code."""
    about = "Make backbones from unlabeled photos, and judge them by what they transfer."
    sys.exit(run_commands("pretext-transfer", about, {**MAKING, **JUDGING}))
