import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin
from refusals import refused

from transfer.data.masks import ScaledCrop, read_masks


@pytest.fixture
def year(tmp_path):
    """A devkit's year with one photo of 72 x 56 pixels, and its mask of two classes with void."""
    folder = tmp_path / "VOCdevkit" / "VOC2012"
    for part in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (folder / part).mkdir(parents=True)
    (folder / "labels.txt").write_text("stripes\nplain\n")
    (folder / "ImageSets" / "Segmentation" / "train.txt").write_text("one\n")
    Image.new("RGB", (72, 56)).save(folder / "JPEGImages" / "one.jpg")
    mask = np.zeros((56, 72), dtype=np.uint8)
    mask[10:20, 10:20], mask[20:30, 10:20], mask[30:40, 10:20] = 1, 2, 255
    Image.fromarray(mask).save(folder / "SegmentationClass" / "one.png")
    return folder


def read(year):
    return read_masks(year, 2012, ["train"], None, 0)[0]


def test_photo_and_mask_come_at_their_own_size(year):
    sample = read(year)[0]
    assert sample["inputs"].shape == (3, 56, 72)
    assert sample["data_samples"].gt_sem_seg.data.unique().tolist() == [0, 1, 2, 255]


@pytest.mark.parametrize(
    ("image", "names", "received", "allowed"),
    [
        (Image.new("L", (72, 56), 7), ["one.png"], [7], "0 to 2 (background, stripes, plain) and 255"),
        (Image.new("RGB", (72, 56)), ["one.png"], "an image of mode RGB", "palette"),
        (Image.new("I;16", (72, 56)), ["one.png"], "an image of mode I;16", "8-bit gray"),
        (Image.new("L", (70, 56)), ["one.png", "one.jpg"], "70 x 56", "72 x 56"),
    ],
)
def test_a_mask_of_something_else_is_an_error(year, image, names, received, allowed):
    image.save(year / "SegmentationClass" / "one.png")
    with refused(*names, received=received, allowed=allowed):
        read(year)


def test_a_photo_or_a_mask_that_cannot_be_read_is_an_error(year):
    mask = year / "SegmentationClass" / "one.png"
    whole = mask.read_bytes()
    for content in (b"", b"no mask", whole[:60], whole[: len(whole) // 2]):
        mask.write_bytes(content)
        with refused("one.png"):
            read(year)
    mask.write_bytes(whole)
    photo = year / "JPEGImages" / "one.jpg"
    for content in (b"no photo", photo.read_bytes()[:-200]):
        photo.write_bytes(content)
        with refused("one.jpg"):
            read(year)


def test_a_mask_is_a_png(year):
    Image.new("L", (72, 56)).save(year / "SegmentationClass" / "one.png", format="JPEG")
    with refused("one.png"):
        read(year)


def test_a_long_text_beside_a_mask_is_passed_over(year):
    texts = PngImagePlugin.PngInfo()
    texts.add_text("XML:com.adobe.xmp", "\0" * 3_000_000, zip=True)
    mask = year / "SegmentationClass" / "one.png"
    expected = read(year)[0]["data_samples"].gt_sem_seg.data
    Image.open(mask).save(mask, pnginfo=texts)
    assert torch.equal(read(year)[0]["data_samples"].gt_sem_seg.data, expected)


@pytest.mark.parametrize(
    ("size", "scale"), [(0, (1.0, 1.0)), (32, (2.0, 1.0)), (32, (0.0, 1.0)), (32, (-1.0, 1.0))]
)
def test_a_crop_that_cannot_be_made_is_an_error(size, scale):
    with refused(received=f"crop={size}, scales={scale}"):
        ScaledCrop(size, scale, False)
