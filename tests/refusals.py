"""How tests assert an InputError: by its fields, so that wording can be mended."""

from contextlib import contextmanager

import pytest

from pretext.errors import InputError

_ANY = object()


@contextmanager
def refused(*names, received=_ANY, allowed=_ANY):
    """Expect an InputError; give it as pytest's ExceptionInfo.

    Args:
        names: What the error must name: options, files, layers. No prose. Each must stand in ``what`` or ``received``.
        received: What the field must be; left out, anything.
        allowed: What the field must be: all allowed values, or a value or name that must stand among them or in the
            sentence; left out, anything.
    """
    with pytest.raises(InputError) as info:
        yield info
    error = info.value
    for name in names:
        assert str(name) in f"{error.what} {error.received}", f"{name} is not named by: {error}"
    if received is not _ANY:
        assert error.received == received
    if allowed is not _ANY:
        assert error.allowed == allowed or allowed in (error.allowed or ()), (
            f"{allowed} is not allowed by: {error}"
        )
