import os
import pickle
import struct

import numpy as np
import pytest
from PIL import Image
from refusals import refused

from pretext.data.cifar10 import FOLDER, SIDE
from pretext.data.places import data_path
from pretext.data.sources import open_photos

CLASSES = ("airplane", "bird", "cat")


def text(value):
    data = value.encode()
    return b"U" + bytes([len(data)]) + data


def integer(value):
    return b"J" + struct.pack("<i", value)


def array(values):
    """A uint8 array, as NumPy pickled it under Python 2."""
    raw = values.tobytes()
    dtype = (
        b"cnumpy\ndtype\n" + text("u1") + b"K\0K\1\x87R(K\3" + text("|") + b"NNN" + 2 * integer(-1) + b"K\0tb"
    )
    shape = integer(values.shape[0]) + integer(values.shape[1]) + b"\x86"
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85" + text("b") + b"\x87R"
    return made + b"(K\1" + shape + dtype + b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"


def batch(**entries):
    """A dict, as Python 2 pickled it with protocol 2: keys and texts are its byte strings."""
    return b"\x80\2}(" + b"".join(text(key) + value for key, value in entries.items()) + b"u."


def listed(values):
    return b"](" + b"".join(values) + b"e"


@pytest.fixture
def photos():
    return np.random.default_rng(0).integers(0, 256, (6, 3, SIDE, SIDE), dtype=np.uint8)


@pytest.fixture
def batches(tmp_path, photos, monkeypatch):
    folder = tmp_path / "data" / FOLDER
    folder.mkdir(parents=True)
    (folder / "batches.meta").write_bytes(batch(label_names=listed(map(text, CLASSES))))
    for number, name in enumerate([*(f"data_batch_{one}" for one in range(1, 6)), "test_batch"]):
        content = array(photos[number].reshape(1, -1))
        (folder / name).write_bytes(batch(data=content, labels=listed([integer(number % 3)])))
    monkeypatch.setenv("PRETEXT_DATA", str(folder.parent))
    monkeypatch.chdir(tmp_path)
    return folder


def test_the_made_batches_are_what_pickle_reads(batches, photos):
    with (batches / "data_batch_1").open("rb") as file:
        content = pickle.load(file, encoding="latin1")
    assert content["labels"] == [0]
    np.testing.assert_array_equal(content["data"], photos[:1].reshape(1, -1))


def test_photos_and_classes_are_those_of_the_batches(batches, photos, capsys):
    train = open_photos(data_path(f"{FOLDER}/train"))
    # Folder by folder: class 0 has the batches 1 and 4, class 1 has 2 and 5.
    assert [train.name(index).split("/")[-2:] for index in range(5)] == [
        ["airplane", "00000.png"],
        ["airplane", "00003.png"],
        ["bird", "00001.png"],
        ["bird", "00004.png"],
        ["cat", "00002.png"],
    ]
    for index, number in enumerate((0, 3, 1, 4, 2)):
        np.testing.assert_array_equal(np.asarray(train.image(index)).transpose(2, 0, 1), photos[number])
    assert "unpacking" in capsys.readouterr().err


def test_it_is_unpacked_once_under_any_spelling_of_its_path(batches, capsys):
    first = data_path(FOLDER)
    capsys.readouterr()
    assert data_path(str(batches)) == first
    assert data_path(f"data/{FOLDER}/test") == f"{first}/test"
    assert capsys.readouterr().err == ""
    with Image.open(f"{first}/test/cat/00000.png") as image:
        assert image.size == (SIDE, SIDE)


def test_other_batches_in_the_same_place_are_unpacked_anew(batches):
    first = data_path(FOLDER)
    pixels = np.full((1, 3 * SIDE * SIDE), 9, np.uint8)
    path = batches / "test_batch"
    time = path.stat().st_mtime_ns
    path.write_bytes(batch(data=array(pixels), labels=listed([integer(0)])))
    os.utime(path, ns=(time, time + 1_000_000_000))
    second = data_path(FOLDER)
    assert second != first
    with Image.open(f"{second}/test/airplane/00000.png") as image:
        assert image.getextrema() == ((9, 9),) * 3


@pytest.mark.parametrize(
    ("content", "received"),
    [
        (b"", "Ran out of input"),
        (b"\x80\2cos\nsystem\nU\4exit\x85R.", "it names os.system"),
        (batch(labels=listed([])), "other content"),
        (batch(data=array(np.zeros((2, 5), np.uint8)), labels=listed([integer(0)])), "an array (2, 5)"),
        (batch(data=array(np.zeros((1, 3072), np.uint8)), labels=listed([integer(3)])), "an array (1, 3072)"),
    ],
)
def test_a_damaged_batch_is_refused_and_nothing_left(batches, content, received):
    (batches / "test_batch").write_bytes(content)
    with refused("test_batch", received):
        data_path(FOLDER)
    assert list(batches.parent.parent.glob("work_dirs/unpacked/*")) == []


def test_a_missing_batch_is_named(batches):
    (batches / "data_batch_3").unlink()
    with refused("data_batch_3"):
        data_path(FOLDER)
