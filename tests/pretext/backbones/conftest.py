import pytest
from narrow import narrow_backbones


@pytest.fixture
def narrow(monkeypatch):
    """The architectures by name, narrow for the length of a test: few channels, all else as in the real ones."""
    return narrow_backbones(monkeypatch)
