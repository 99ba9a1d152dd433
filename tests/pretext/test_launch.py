import pytest
from refusals import refused

from pretext.launch import spawn_processes


@pytest.mark.parametrize("name", ["GPUS", "NNODES"])
@pytest.mark.parametrize("text", ["0", "-1", "two"])
def test_fewer_than_one_process_is_refused(name, text, monkeypatch):
    monkeypatch.setenv(name, text)
    with refused(name, received=text):
        spawn_processes("pretext", ["train"])
