import numpy as np
import pytest
from PIL import Image

from pretext.errors import InputError
from transfer.data.folders import read_splits


def photo(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def places(tmp_path):
    """Places205's layout: folders by letter, a list of each split with commas or spaces."""
    for name in ("a/abbey/1.jpg", "a/abbey/2.jpg", "a/alley/outdoor/3.jpg", "b/bar room/4.jpg"):
        photo(tmp_path / name)
    (tmp_path / "train_places205.csv").write_text(
        "a/abbey/1.jpg 0\na/alley/outdoor/3.jpg 1\nb/bar room/4.jpg 2\n\n"
    )
    (tmp_path / "val_places205.csv").write_text("b/bar room/4.jpg,2\na/abbey/2.jpg,0\n")
    return tmp_path


def test_lists_of_places205_are_read_as_they_are(places):
    train, test, _ = read_splits(places, "train_places205.csv", "val_places205.csv")
    assert train.paths[2] == str(places / "b/bar room/4.jpg")
    assert (train.labels, test.labels) == ((0, 1, 2), (2, 0))
    assert train.classes == ("0", "1", "2")
    assert train.names() == ["0/1.jpg", "1/3.jpg", "2/4.jpg"]


def test_a_list_beside_its_flat_folder_is_that_of_imagenets_val(tmp_path):
    for name in ("train/n01440764/x_1.JPEG", "train/n01443537/x_2.JPEG", "val/ILSVRC2012_val_00000001.JPEG"):
        photo(tmp_path / name)
    (tmp_path / "train.txt").write_text("n01440764/x_1.JPEG 0\nn01443537/x_2.JPEG 1\n")
    (tmp_path / "val.txt").write_text(
        "ILSVRC2012_val_00000001.JPEG 1\n" * 2 + "ILSVRC2012_val_00000001.JPEG 0\n"
    )
    train, test, fingerprint = read_splits(tmp_path, "train.txt", "val.txt")
    assert train.paths[0] == str(tmp_path / "train/n01440764/x_1.JPEG")
    assert test.labels == (1, 1, 0)
    # The fingerprint tells another labelling.
    (tmp_path / "val.txt").write_text("ILSVRC2012_val_00000001.JPEG 1\nILSVRC2012_val_00000001.JPEG 0\n")
    assert read_splits(tmp_path, "train.txt", "val.txt")[2] != fingerprint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a/abbey/1.jpg\n", r"line 1 of .*bad.csv is no photo with a label: received 'a/abbey/1.jpg'"),
        ("a/abbey/1.jpg 0\na/abbey/2.jpg -1\n", "line 2 of .*received 'a/abbey/2.jpg -1'"),
        (
            "a/abbey/9.jpg 0\na/abbey/1.jpg 1\n",
            "1 of 2 photos of .*bad.csv are not there, first .*a/abbey/9.jpg",
        ),
        ("a/abbey/1.jpg 0\na/abbey/2.jpg 0\n", "has photos of 1 classes; a probe needs two or more"),
        ("", "has photos of 0 classes"),
    ],
)
def test_a_list_that_is_none_is_an_error(places, content, message):
    (places / "bad.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        read_splits(places, "bad.csv", "val_places205.csv")


def test_a_missing_list_and_differing_classes_are_errors(places):
    with pytest.raises(InputError, match="the list .*nothing.txt cannot be read"):
        read_splits(places, "nothing.txt", "val_places205.csv")
    (places / "val_places205.csv").write_text("a/abbey/1.jpg 0\na/abbey/2.jpg 1\n")
    with pytest.raises(InputError, match="the classes of .* differ: 2"):
        read_splits(places, "train_places205.csv", "val_places205.csv")


def test_other_files_and_a_list_with_a_folder_are_errors(places):
    (places / "train.lst").write_text("a/abbey/1.jpg 0\n")
    with pytest.raises(
        InputError, match="train.lst is neither a folder of classes nor a list: .* end in .txt, .csv"
    ):
        read_splits(places, "train.lst", "train.lst")
    with pytest.raises(
        InputError, match="both splits must be lists, or both folders .* received a and val_places205"
    ):
        read_splits(places, "a", "val_places205.csv")


def test_folders_of_classes(tmp_path):
    for split in ("train", "val"):
        for name in ("cat/1.jpg", "dog/sub/2.jpg"):
            photo(tmp_path / split / name)
    train, _, _ = read_splits(tmp_path, "train", "val")
    assert train.classes == ("cat", "dog")
    assert train.names() == ["cat/1.jpg", "dog/2.jpg"]
