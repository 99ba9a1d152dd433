import os

import numpy as np
import pytest
from PIL import Image
from refusals import refused
from torchvision.datasets import ImageFolder

from pretext.data.walking import HIDDEN, LINKS
from transfer.data.folders import read_image_folder, read_image_list, read_splits

BOM = b"\xef\xbb\xbf"
#: A name in Latin-1, which is not UTF-8, as Python holds it.
LATIN = os.fsdecode(b"caf\xe9")


def photo(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(path, format="JPEG")


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


@pytest.fixture
def pets(tmp_path):
    """Folders of two classes, two photos each."""
    for name in ("cat/1.jpg", "cat/2.jpg", "dog/3.jpg", "dog/sub/4.jpg"):
        photo(tmp_path / "train" / name)
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


@pytest.mark.parametrize("separator", [" ", "  ", "\t", ",", ", ", " , "])
@pytest.mark.parametrize(
    "name",
    ["p.jpg", "Paris, 0.jpg", "Paris,0", "a b 1.jpg", "tab\t2.jpg", "a\u2028b\x0c.jpg", f"{LATIN}.jpg"],
)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", BOM])
def test_a_label_stands_behind_any_name(tmp_path, separator, name, ending, mark):
    names = [name, f"2{name}"]
    for each in names:
        photo(tmp_path / each)
    lines = "".join(f"{each}{separator}{label}{ending}" for label, each in enumerate(names))
    (tmp_path / "train.csv").write_bytes(mark + os.fsencode(lines))
    listed = read_image_list(tmp_path, "train.csv")
    assert listed.paths == tuple(str(tmp_path / each) for each in names)
    assert listed.labels == (0, 1)


def test_a_csv_may_quote_paths(tmp_path):
    for name in ("Paris, 0.jpg", '6" gun.jpg'):
        photo(tmp_path / name)
    (tmp_path / "train.csv").write_text('"Paris, 0.jpg",0\n"6"" gun.jpg",1\n')
    listed = read_image_list(tmp_path, "train.csv")
    assert listed.paths == (str(tmp_path / "Paris, 0.jpg"), str(tmp_path / '6" gun.jpg'))


@pytest.mark.parametrize(
    ("content", "names", "received"),
    [
        ("a/abbey/1.jpg\n", ["line 1", "bad.csv"], "a/abbey/1.jpg"),
        ("7\n", ["line 1", "bad.csv"], "7"),
        ("a/abbey/1.jpg 0\na/abbey/2.jpg -1\n", ["line 2", "bad.csv"], "a/abbey/2.jpg -1"),
        ("a/abbey/1.jpg 0\na/abbey/2.jpg 1.5\n", ["line 2", "bad.csv"], "a/abbey/2.jpg 1.5"),
        ("a/abbey/1.jpg 0\na/abbey/2.jpg 1700000000\n", ["line 2", "bad.csv"], "a/abbey/2.jpg 1700000000"),
        ("a/abbey/1.jpg 0\na/abbey/2.jpg 0\n", ["bad.csv"], 1),
        ("", ["bad.csv"], 0),
    ],
)
def test_a_list_of_another_form_is_an_error(places, content, names, received):
    (places / "bad.csv").write_text(content)
    with refused(*names, received=received):
        read_splits(places, "bad.csv", "val_places205.csv")


@pytest.mark.parametrize("name", ["a/abbey/9.jpg", "n" * 300])
def test_a_listed_photo_that_is_missing_is_an_error(places, name):
    (places / "bad.txt").write_text(f"{name} 0\na/abbey/1.jpg 1\n")
    with refused("1 of 2", "bad.txt", name):
        read_splits(places, "bad.txt", "bad.txt")


def test_a_missing_list_and_differing_classes_are_errors(places):
    with refused("nothing.txt"):
        read_splits(places, "nothing.txt", "val_places205.csv")
    (places / "val_places205.csv").write_text("a/abbey/1.jpg 0\na/abbey/2.jpg 1\n")
    with refused("train_places205.csv", "val_places205.csv", received="2 in one of them only"):
        read_splits(places, "train_places205.csv", "val_places205.csv")


def test_other_files_and_a_list_with_a_folder_are_errors(places):
    (places / "train.lst").write_text("a/abbey/1.jpg 0\n")
    with refused("train.lst", received=".lst", allowed="lists end in .txt or .csv"):
        read_splits(places, "train.lst", "train.lst")
    with refused(received="a and val_places205.csv"):
        read_splits(places, "a", "val_places205.csv")


def test_folders_of_classes(pets):
    photo(pets / "val/cat/5.jpg")
    photo(pets / "val/dog/6.JPEG")
    train, test, _ = read_splits(pets, "train", "val")
    assert train.classes == ("cat", "dog")
    assert train.names() == ["cat/1.jpg", "cat/2.jpg", "dog/3.jpg", "dog/4.jpg"]
    assert train.labels == (0, 0, 1, 1)
    assert test.names() == ["cat/5.jpg", "dog/6.JPEG"]


def test_photos_are_listed_as_by_torchvision(tmp_path):
    for name in ("a/z.jpg", "a/b/1.jpg", "a/b-c/2.jpg", "a/b/c/3.jpg", "b/1.png", "B/1.webp", "b/Z.JPEG"):
        photo(tmp_path / "train" / name)
    expected = ImageFolder(str(tmp_path / "train"))
    listed = read_image_folder(tmp_path, "train")
    assert list(zip(listed.paths, listed.labels, strict=True)) == expected.samples
    assert list(listed.classes) == expected.classes


@pytest.mark.parametrize("name", [LATIN, "two\nlines", "comma, tab\t"])
def test_a_class_may_have_any_name(pets, name):
    (pets / "train/dog").rename(pets / "train" / name)
    photo(pets / f"val/{name}/5.jpg")
    photo(pets / "val/cat/6.jpg")
    train, test, fingerprint = read_splits(pets, "train", "val")
    assert set(train.classes) == {"cat", name}
    assert f"{name}/5.jpg" in test.names()
    assert len(fingerprint) == 64


def test_hidden_folders_are_not_classes(pets, capsys):
    photo(pets / "train/.ipynb_checkpoints/1-checkpoint.jpg")
    photo(pets / "train/@eaDir/1.jpg")
    photo(pets / "train/cat/.ipynb_checkpoints/1-checkpoint.jpg")
    photo(pets / "train/cat/._1.jpg")
    listed = read_image_folder(pets, "train")
    assert listed.classes == ("cat", "dog")
    assert len(listed.paths) == 4
    assert f"{pets}/train" in (said := capsys.readouterr().err)
    assert f"{HIDDEN} (4)" in said


def test_photos_beside_the_classes_are_left_out_and_said(pets, capsys):
    photo(pets / "train/lonely.jpg")
    assert len(read_image_folder(pets, "train").paths) == 4
    assert "photos outside of the folders of classes (1)" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["again", "cat/again"])
@pytest.mark.parametrize("target", [".", "..", "dog"])
def test_links_do_not_multiply_photos(pets, place, target, capsys):
    link = pets / "train" / place
    link.symlink_to(pets / "train" / target if target == "dog" else target)
    listed = read_image_folder(pets, "train")
    assert listed.classes == ("cat", "dog")
    assert listed.labels == (0, 0, 1, 1)
    assert f"{LINKS} (1)" in capsys.readouterr().err


def test_a_class_may_be_a_link(pets):
    for name in ("5.jpg", "6.jpg"):
        photo(pets / "elsewhere" / name)
    (pets / "train/eel").symlink_to(pets / "elsewhere")
    assert read_image_folder(pets, "train").names()[4:] == ["eel/5.jpg", "eel/6.jpg"]


def test_a_link_in_a_circle_is_left_alone(pets):
    (pets / "train/one").symlink_to(pets / "train/two")
    (pets / "train/two").symlink_to(pets / "train/one")
    assert read_image_folder(pets, "train").classes == ("cat", "dog")


def test_a_class_that_cannot_be_read_is_an_error(pets, monkeypatch):
    scandir = os.scandir

    def forbidden(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    with refused("train/dog", "Permission denied"):
        read_image_folder(pets, "train")


def test_an_empty_class_is_an_error(pets):
    (pets / "train/eel").mkdir()
    (pets / "nothing").mkdir()
    with refused("train", received="eel", allowed=f"put photos at {pets}/train/CLASS/PHOTO.jpg"):
        read_image_folder(pets, "train")
    (pets / "train/eel").rmdir()
    # A link to a folder elsewhere without photos is a class too, and empty.
    (pets / "train/eel").symlink_to(pets / "nothing")
    with refused("train", received="eel"):
        read_image_folder(pets, "train")


def test_a_missing_folder_and_a_single_class_are_errors(pets):
    with refused("nowhere"):
        read_image_folder(pets, "nowhere")
    photo(pets / "single/cat/1.jpg")
    with refused("single", received=["cat"]):
        read_image_folder(pets, "single")
