"""What docs/add_a_method.md asks for under "Tell of it"; tests/transfer/compare has the grids."""

import re
from pathlib import Path

import pytest

from pretext.config import config_names
from pretext.methods import METHODS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "methods.md"


@pytest.mark.parametrize("name", METHODS)
def test_the_page_of_methods_has_a_row(name):
    rows = [line.split("|")[1] for line in PAGE.read_text().splitlines() if line.startswith("|")]
    assert any(name in re.findall(r"`(\w+)`", row) for row in rows), f"docs/methods.md has no row of {name}"


@pytest.mark.parametrize("name", METHODS)
def test_it_has_a_config(name):
    assert name in config_names("pretext"), f"there is no configs/pretext/{name}.py"
