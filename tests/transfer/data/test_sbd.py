import os

import pytest
from refusals import refused

from transfer.data.sbd import sbd_split


@pytest.fixture
def dataset(tmp_path):
    """The dataset's folder with three photos in train."""
    folder = tmp_path / "SBD"
    for part in ("img", "cls"):
        (folder / part).mkdir(parents=True)
    for name in ("s1", "s2", "s3"):
        (folder / "img" / f"{name}.jpg").touch()
        (folder / "cls" / f"{name}.mat").touch()
    (folder / "train.txt").write_text("s1\ns2\ns3\n")
    return folder


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("name", ["a b, c", "a\u2028b", os.fsdecode(b"caf\xe9")])
def test_a_list_may_have_any_names_and_any_line_ends(dataset, name, mark, ending):
    (dataset / "img" / "s2.jpg").rename(dataset / "img" / f"{name}.jpg")
    (dataset / "cls" / "s2.mat").rename(dataset / "cls" / f"{name}.mat")
    (dataset / "train.txt").write_bytes(mark + os.fsencode(ending.join(["s1", name, ""])))
    entries = sbd_split(dataset.parent, "sbd_train", check_counts=False)
    assert [entry.name for entry in entries] == ["s1", name]


def test_a_split_of_another_length_is_an_error(dataset):
    with refused("sbd_train", received=3, allowed=8498):
        sbd_split(dataset.parent, "sbd_train")


def test_what_is_missing_is_named(dataset, tmp_path):
    (dataset / "cls" / "s2.mat").unlink()
    with refused("1 of 6", "s2.mat"):
        sbd_split(dataset.parent, "sbd_train", check_counts=False)
    with refused(tmp_path / "elsewhere", allowed="benchmark_RELEASE/dataset"):
        sbd_split(tmp_path / "elsewhere", "sbd_train")
