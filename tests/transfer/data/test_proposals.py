import os
import pickle

import numpy as np
import pytest
from refusals import refused

from transfer.data.proposals import check_inside, read_proposals, write_proposals

#: What a file of proposals must be, as its errors say it.
FORMS = "an .npz with names, counts and boxes, or a pickle of Detectron with boxes and ids"
BOXES = {
    "000005": np.array([[0, 0, 9, 19], [3, 4, 30, 40]], dtype=np.float32),
    "2008_000002": np.array([[1, 2, 3, 4]], dtype=np.float32),
    "000012": np.zeros((0, 4), dtype=np.float32),
}


@pytest.fixture
def detectron(tmp_path):
    """Writes a pickle as Detectron's files are."""

    def write(**changes):
        content = {
            "boxes": [boxes.astype(np.uint16) for boxes in BOXES.values()],
            "ids": [5, 2008000002, 12],
        }
        path = tmp_path / "proposals.pkl"
        # Protocol 2, as Python 2 wrote them.
        path.write_bytes(pickle.dumps(content | changes, protocol=2))
        return path

    return write


def test_what_is_written_is_read(tmp_path):
    write_proposals(tmp_path / "p.npz", BOXES)
    read, digest = read_proposals(tmp_path / "p.npz", list(BOXES)[::-1], 1)
    for boxes, expected in zip(read, list(BOXES.values())[::-1], strict=True):
        np.testing.assert_array_equal(boxes, expected[:1])
    assert len(digest) == 64
    write_proposals(tmp_path / "other.npz", {"000005": BOXES["000005"] + 1})
    assert read_proposals(tmp_path / "other.npz", ["000005"], 1)[1] != digest


@pytest.mark.parametrize("ids", ["ids", "indexes"])
def test_the_last_pixels_of_detectrons_boxes_belong_to_them(detectron, ids):
    path = detectron(**{"ids": None, ids: [5, 2008000002, 12]})
    (first, second, third), _ = read_proposals(path, ["000005", "2008_000002", "000012"], 2000)
    assert first.tolist() == [[0, 0, 10, 20], [3, 4, 31, 41]]
    assert second.tolist() == [[1, 2, 4, 5]]
    assert third.shape == (0, 4)


def test_the_best_come_first(detectron):
    path = detectron(scores=[np.array([0.1, 0.9]), np.array([0.5]), np.array([])])
    (boxes,), _ = read_proposals(path, ["000005"], 1)
    assert boxes.tolist() == [[3, 4, 31, 41]]


class Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_every_pickle_are_read(tmp_path, protocol, order):
    boxes = np.asarray(np.arange(8).reshape(2, 4) + 1, dtype=">u2", order=order)
    content = {"boxes": [boxes, boxes[:0]], "ids": np.array([5, 7]), "scores": [[0.1, 0.9], []]}
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    (first, second), _ = read_proposals(tmp_path / "p.pkl", ["000005", "000007"], 10)
    assert first.tolist() == [[5, 6, 8, 9], [1, 2, 4, 5]]
    assert second.shape == (0, 4)


def test_only_numbers_are_made_of_a_pickles_bytes(tmp_path):
    # A state could make pointers of such bytes.
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(np.zeros(3, dtype="V8"), protocol=2))
    with refused("p.pkl", "UnpicklingError", "'V8'"):
        read_proposals(tmp_path / "p.pkl", ["000005"], 10)


@pytest.mark.parametrize("evil", [Evil(), [np.zeros(2), Evil()], np.array([Evil()], dtype=object)])
def test_a_pickle_that_would_run_something_is_refused(detectron, tmp_path, monkeypatch, evil):
    monkeypatch.chdir(tmp_path)
    with refused("proposals.pkl", "UnpicklingError", ".system"):
        read_proposals(detectron(extra=evil), ["000005"], 10)
    assert not (tmp_path / "executed").exists()


def test_photos_without_proposals_are_named(detectron):
    with refused("proposals.pkl", "2 of 3", "000007, img_a"):
        read_proposals(detectron(), ["000005", "000007", "img_a"], 10)


@pytest.mark.parametrize(
    "changes",
    [
        {"boxes": [np.zeros((2, 5))] * 3},
        {"boxes": [np.full((1, 4), np.nan)] * 3},
        {"ids": [5]},
        {"ids": ["a", "b", "c"]},
    ],
)
def test_boxes_of_another_form_are_refused(detectron, changes):
    with refused("proposals.pkl", "Error: "):
        read_proposals(detectron(**changes), ["000005"], 10)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.npz", b"nothing"),
        ("p.npz", b"PK\x03\x04 damaged"),
        ("p.npz", b""),
        ("p.pkl", b""),
        ("p.pkl", b"junk"),
        ("p.pkl", b"N."),
    ],
)
def test_other_files_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with refused(name, allowed=FORMS):
        read_proposals(tmp_path / name, ["000005"], 10)


def test_an_npz_that_does_not_add_up_is_refused(tmp_path):
    np.savez(tmp_path / "p.npz", names=["a", "b"], counts=[1, 2], boxes=np.zeros((2, 4)))
    with refused("p.npz", "2 names", "2 counts", "3, 2 boxes"):
        read_proposals(tmp_path / "p.npz", ["a"], 10)


@pytest.mark.parametrize(
    "box", [[20, 10, 10, 30], [10, 30, 20, 10], [-9, 0, 5, 5], [0, 0, 90, 5], [0, 0, 5, 90], [70, 70, 80, 80]]
)
def test_boxes_that_are_none_in_their_photo_are_refused(box):
    good = np.array([[0, 0, 64, 48], [5, 5, 6, 6]], dtype=np.float32)
    check_inside("000005", good, 64, 48)
    with refused("1 of 3", "000005", "64 x 48", received=[float(side) for side in box]):
        check_inside("000005", np.concatenate([good, np.array([box], dtype=np.float32)]), 64, 48)


def test_a_missing_file_is_named(tmp_path):
    with refused("nothing.npz", "No such file", allowed="train_proposals=FILE"):
        read_proposals(tmp_path / "nothing.npz", ["a"], 10)
