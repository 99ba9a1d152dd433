"""The exceptions that front doors turn into a message: bad input (exit code 2) and training that diverged."""

from collections.abc import Iterable
from typing import Any


class InputError(ValueError):
    """Bad input from the user: a file, a folder, an option or a config that cannot be used.

    The command line prints the message without a traceback and exits with code 2. Its three parts are kept as
    fields, so that callers and tests need not parse the wording.

    Args:
        what: What is wrong; names the option, the file or the value.
        received: The offending value, or a few words that describe it. None where ``what`` says it all.
        allowed: The allowed values; or a sentence that says what is allowed or how to mend it. None where ``what``
            says it all.
    """

    def __init__(self, what: str, *, received: Any = None, allowed: str | Iterable[Any] | None = None):
        # An error of a DataLoader's worker is raised anew with the worker's stack before the message.
        self.what = what.rpartition(f"{__name__}.InputError: ")[2].rstrip()
        self.received = received
        self.allowed = allowed if allowed is None or isinstance(allowed, str) else tuple(allowed)
        super().__init__(self._message())

    def _message(self) -> str:
        message = self.what
        if self.received is not None:
            message += f": received {_shown(self.received)}"
        if isinstance(self.allowed, str):
            message += f"; {self.allowed}"
        elif self.allowed is not None:
            values = ", ".join(map(_shown, self.allowed)) or "none"
            message += f"; allowed {'is' if len(self.allowed) == 1 else 'are'} {values}"
        return message


class TrainingDivergedError(RuntimeError):
    """The loss or the weights are no longer finite."""


def _shown(value: Any) -> str:
    """A value as a message shows it: text as it is, unless it is empty or would not show."""
    if isinstance(value, str):
        return value if value.isprintable() and value.strip() == value != "" else repr(value)
    return repr(value) if isinstance(value, (list, tuple, dict)) else str(value)
