"""What docs/add_a_stage.md asks for beside the code."""

import re
from pathlib import Path

import pytest

from transfer.stage import STAGES

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", STAGES)
def test_the_page_of_data_has_a_row(name):
    lines = (ROOT / "docs" / "data.md").read_text().partition("\n## Labelled data\n")[2].splitlines()
    rows = [line.split("|")[1] for line in lines if line.startswith("| `")]
    assert any(name in re.findall(r"`([\w-]+)`", row) for row in rows), f"docs/data.md has no row of {name}"


@pytest.mark.parametrize("name", STAGES)
def test_it_has_a_script(name):
    assert f"run transfer {name} " in (ROOT / "tools" / f"{name.replace('-', '_')}.sh").read_text()
