"""The one exception that front doors turn into a message and exit code 2."""


class InputError(ValueError):
    """Bad input from the user: a file, a folder, an option or a config that cannot be used.

    The message has three parts: what is wrong, what was received, and what is allowed or how to mend it.
    The command line prints it without a traceback and exits with code 2.
    """

    def __init__(self, message: str):
        # An error of a DataLoader's worker is raised anew with the worker's stack before the message.
        super().__init__(message.rpartition(f"{__name__}.InputError: ")[2].rstrip())
