import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from refusals import refused

from transfer.data.voc import VOC_CLASSES, classification_labels, open_voc, read_image, split_fingerprint


@pytest.fixture
def year(new_voc_tree):
    return new_voc_tree / "VOCdevkit" / "VOC2007"


@pytest.fixture(scope="module")
def real_data():
    root = Path(os.environ.get("PRETEXT_DATA", "")) / "voc256"
    if "PRETEXT_DATA" not in os.environ or not root.is_dir():
        pytest.skip("needs real photos: set PRETEXT_DATA to the folder that holds voc256")
    return root


@pytest.mark.parametrize("below", ["", "VOCdevkit", "VOCdevkit/VOC2007"])
def test_the_root_may_be_named_at_three_levels(voc_tree, below):
    opened = open_voc(voc_tree / below, 2007)
    assert opened.folder == voc_tree / "VOCdevkit" / "VOC2007"
    assert opened.classes == ("bars", "plain")


def test_classes_are_vocs_twenty_where_none_are_listed(year):
    (year / "labels.txt").unlink()
    assert open_voc(year, 2007).classes == VOC_CLASSES
    assert list(VOC_CLASSES) == sorted(VOC_CLASSES)
    assert len(VOC_CLASSES) == 20


def test_boxes_become_zero_based_edges(year):
    # A square of 36 pixels at the left edge 2: pixels 3..38 counted from 1, edges 2..38 counted from 0.
    photo = open_voc(year, 2007).photos("train")[0]
    assert (photo.name, photo.width, photo.height) == ("000001", 80, 64)
    assert photo.labels.tolist() == [1]
    assert photo.boxes[0, [0, 2]].tolist() == [2, 38]
    assert photo.boxes[0, 3] - photo.boxes[0, 1] == 36
    x1, y1, x2, y2 = photo.boxes[0].astype(int)
    pixels = np.asarray(read_image(photo.path)).astype(float).mean(2)
    bright = pixels > 130
    assert bright[y1:y2, x1:x2].mean() == pytest.approx(0.5, abs=0.1)
    assert bright.sum() == bright[y1:y2, x1:x2].sum()


def test_labels_say_present_difficult_absent(year):
    opened = open_voc(year, 2007)
    train = classification_labels(opened.photos("train"), 2)
    assert train.dtype == np.uint8
    assert train.tolist() == [[1, 0], [0, 1], [1, 1], [0, 0]]
    assert classification_labels(opened.photos("val"), 2)[-1].tolist() == [0, 255]


def test_one_object_that_is_not_difficult_is_enough(year):
    path = year / "Annotations" / "000008.xml"
    text = path.read_text()
    entry = text[text.index("<object>") : text.index("</object>") + len("</object>")]
    path.write_text(text.replace(entry, entry + entry.replace("<difficult>1", "<difficult>0")))
    assert classification_labels(open_voc(year, 2007).photos("val"), 2)[-1].tolist() == [0, 1]


def test_masks_are_listed(year):
    (year / "ImageSets" / "Segmentation").mkdir()
    (year / "ImageSets" / "Segmentation" / "val.txt").write_text("000002\n")
    (year / "SegmentationClass").mkdir()
    mask = year / "SegmentationClass" / "000002.png"
    with refused("1 of 1", "SegmentationClass", "000002.png"):
        open_voc(year, 2007).masks("val")
    mask.touch()
    (entry,) = open_voc(year, 2007).masks("val")
    assert (entry.name, entry.path.name, entry.mask) == ("000002", "000002.jpg", mask)


def test_the_fingerprint_knows_names_order_and_splits(year):
    opened = open_voc(year, 2007)
    train, val = opened.photos("train"), opened.photos("val")
    first = split_fingerprint({"train": train, "val": val})
    assert first == split_fingerprint({"train": train, "val": val})
    others = [{"val": train, "train": val}, {"train": val, "val": train}, {"train": train[::-1], "val": val}]
    assert len({first, *(split_fingerprint(splits) for splits in others)}) == 4


def rewrite(year, old, new):
    path = year / "Annotations" / "000001.xml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("damage", "names"),
    [
        (lambda year: (year / "JPEGImages" / "000001.jpg").unlink(), ["1 of 4", "000001.jpg"]),
        (lambda year: (year / "JPEGImages" / "000001.jpg").write_text("no photo"), ["000001.jpg"]),
        (lambda year: (year / "Annotations" / "000001.xml").unlink(), ["1 of 4", "000001.xml"]),
        (lambda year: (year / "Annotations" / "000001.xml").write_text("<annotation>"), ["000001.xml"]),
        (lambda year: rewrite(year, "xmin", "left"), ["000001.xml", "bndbox/xmin"]),
        (lambda year: rewrite(year, "<width>80", "<width>wide"), ["000001.xml", "wide"]),
        (
            lambda year: rewrite(
                year, "<annotation>", "<?xml version='1.0' encoding='klingon'?><annotation>"
            ),
            ["000001.xml", "klingon"],
        ),
        (lambda year: (year / "ImageSets" / "Main" / "train.txt").write_text("\n"), ["train"]),
    ],
)
def test_a_damaged_tree_is_an_error(year, damage, names):
    damage(year)
    with refused(*names):
        open_voc(year, 2007).photos("train")


def test_what_does_not_fit_the_photo_is_an_error_with_what_does(year):
    rewrite(year, "<width>80", "<width>90")
    with refused("000001.xml", "000001.jpg", received="90 x 64", allowed=("80 x 64",)):
        open_voc(year, 2007).photos("train")
    rewrite(year, "<width>90", "<width>80")
    rewrite(year, "<xmin>3", "<xmin>39")
    with refused("000001.xml", "80 x 64"):
        open_voc(year, 2007).photos("train")
    rewrite(year, "<xmin>39", "<xmin>3")
    rewrite(year, "bars", "zebra")
    with refused("000001.xml", received="zebra", allowed=("bars", "plain")):
        open_voc(year, 2007).photos("train")


def test_a_missing_split_is_an_error_with_those_there_are(year):
    (year / "ImageSets" / "Main" / "train.txt").unlink()
    (year / "ImageSets" / "Main" / ".hidden.txt").touch()
    with refused("Main/train.txt", received="train", allowed=("trainval", "val")):
        open_voc(year, 2007).photos("train")


def test_a_photo_of_too_many_pixels_is_an_error(year):
    Image.new("L", (13400, 13400)).save(year / "JPEGImages" / "000001.jpg")
    with refused("000001.jpg"):
        open_voc(year, 2007).photos("train")


def test_a_folder_that_is_no_devkit_is_an_error(year, tmp_path):
    with refused("2012", received=str(year), allowed="VOCdevkit/VOC2012"):
        open_voc(year, 2012)
    (tmp_path / "VOC2007").mkdir()
    with refused("VOC2007", "ImageSets"):
        open_voc(tmp_path, 2007)
    (year / "labels.txt").write_text("bars\nbars\n")
    with refused("labels.txt", received=("bars", "bars")):
        open_voc(year, 2007)


def test_a_photo_cut_short_is_an_error_with_its_path(year):
    path = year / "JPEGImages" / "000001.jpg"
    path.write_bytes(path.read_bytes()[:600])
    with refused("000001.jpg"):
        read_image(path)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("name", ["Paris, 1", "tab\t7", "a\u2028b\x0cc", os.fsdecode(b"caf\xe9")])
def test_lists_may_have_any_names_and_any_line_ends(year, name, mark, ending):
    for folder, suffix in (("JPEGImages", ".jpg"), ("Annotations", ".xml")):
        (year / folder / f"000002{suffix}").rename(year / folder / f"{name}{suffix}")
    lines = ending.join(["000001", name])
    (year / "ImageSets" / "Main" / "train.txt").write_bytes(mark + os.fsencode(lines))
    (year / "labels.txt").write_bytes(mark + ending.join(["bars", "plain", "ba rs, too"]).encode())
    opened = open_voc(year, 2007)
    photos = opened.photos("train")
    assert opened.classes == ("bars", "plain", "ba rs, too")
    assert [photo.name for photo in photos] == ["000001", name]
    assert len(split_fingerprint({"train": photos})) == 64


def test_a_list_of_one_class_gives_its_names(year):
    (year / "ImageSets" / "Main" / "bars_train.txt").write_text("000001  1\n000002 -1\n000003  0\n")
    assert [photo.name for photo in open_voc(year, 2007).photos("bars_train")] == [
        "000001",
        "000002",
        "000003",
    ]


@pytest.mark.parametrize("split", ["train", "val"])
def test_real_labels_agree_with_the_lists(real_data, split):
    opened = open_voc(real_data, 2007)
    photos = opened.photos(split)
    labels = classification_labels(photos, 20)
    for index, name in enumerate(VOC_CLASSES):
        lines = (opened.folder / "ImageSets" / "Main" / f"{name}_{split}.txt").read_text().split()
        assert [photo.name for photo in photos] == lines[::2]
        assert labels[:, index].tolist() == [{"-1": 0, "0": 255, "1": 1}[value] for value in lines[1::2]]
    boxes = np.concatenate([photo.boxes for photo in photos])
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()
