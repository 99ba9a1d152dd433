import pytest
import torch
from refusals import refused

from pretext.training.checkpoints import newest_whole


@pytest.fixture
def checkpoints(tmp_path):
    """Three files, the newest first."""
    paths = [tmp_path / f"{step}.pth" for step in (3, 2, 1)]
    for path in paths:
        torch.save({"weights": torch.arange(1000.0), "step": int(path.stem)}, path)
    return paths


def cut(data):
    return data[: len(data) // 2]


def empty(data):
    return b""


def zeros(data):
    return bytes(len(data))


def flipped(data):
    """One bit of a weight is another: torch.load would not notice."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def without_table(data):
    """The table of the archive's parts says nothing sensible."""
    place = data.rindex(b"PK\x06\x06")
    return data[: place + 24] + b"\xff" * 16 + data[place + 40 :]


def text(data):
    return b"something else"


DAMAGES = (cut, empty, zeros, flipped, without_table, text)


def test_the_newest_is_taken(checkpoints, capsys):
    assert newest_whole(checkpoints, weights_only=True) == checkpoints[0]
    assert newest_whole([], weights_only=True) is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_ones_are_left_out_by_name(checkpoints, damage, capsys):
    for path in checkpoints[:2]:
        path.write_bytes(damage(path.read_bytes()))
    assert newest_whole(checkpoints, weights_only=True) == checkpoints[2]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert all(
        str(path) in line and checkpoints[2].name in line
        for path, line in zip(checkpoints, said, strict=False)
    )


def test_one_that_cannot_be_opened_is_left_out(checkpoints, capsys):
    checkpoints[0].unlink()
    checkpoints[0].mkdir()
    assert newest_whole(checkpoints, weights_only=True) == checkpoints[1]
    assert str(checkpoints[0]) in capsys.readouterr().err


def test_only_damaged_ones_are_an_error_and_are_kept(checkpoints):
    for path in checkpoints:
        path.write_bytes(cut(path.read_bytes()))
    with refused(*checkpoints, allowed="delete them"):
        newest_whole(checkpoints, weights_only=True)
    assert all(path.exists() for path in checkpoints)
