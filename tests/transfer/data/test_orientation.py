"""Boxes, masks, proposals and tracks lie on what they belong to, whatever the EXIF orientation of the photo."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from refusals import refused
from scipy.io import savemat

from pretext.data.crops import RandomCrop, center_crop
from pretext.data.decoding import decode_rgb, read_header
from pretext.data.pairs.tracks import Tracks
from pretext.data.sampling import Draw
from transfer.data.folders import LabeledPhotos, LabeledViews
from transfer.data.masks import ScaledCrop, read_masks
from transfer.data.voc import open_voc, read_image
from transfer.stages.classification import ClassificationViews
from transfer.stages.detection import DetectionPhotos

ORIENTATIONS = range(1, 9)
#: Orientations by which width and height change places.
LYING = range(5, 9)
#: Where the object is in the stored pixels, and their size.
BOX, SIZE = (70, 10, 95, 30), (100, 80)


def stored(path, orientation, size=SIZE):
    """Write a black photo with one red object at `BOX`; return it as it is shown upright."""
    picture = Image.new("RGB", size)
    picture.paste((255, 0, 0), BOX)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=95, subsampling=0, exif=exif)
    with Image.open(path) as opened:
        return ImageOps.exif_transpose(opened).convert("RGB")


def where_red(image):
    """Return x1, y1, x2, y2 of what is red in a photo: PIL or a tensor (3, H, W)."""
    pixels = np.asarray(image)
    y, x = np.nonzero((pixels[..., 0] if pixels.shape[-1] == 3 else pixels[0]) > 128)
    return int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1


def near(first, second):
    """Whether boxes differ by a pixel at most, as JPEG's blur may move an edge."""
    return np.abs(np.asarray(first, dtype=float) - np.asarray(second, dtype=float)).max() <= 1


def annotate(year, size, box):
    """Write the annotation of the only photo, with one cat; `box` is 0-based and continuous."""
    width, height = size
    corners = zip(("xmin", "ymin", "xmax", "ymax"), np.add(box, (1, 1, 0, 0)).tolist(), strict=True)
    bndbox = "".join(f"<{corner}>{value}</{corner}>" for corner, value in corners)
    (year / "Annotations").mkdir(exist_ok=True)
    (year / "Annotations" / "photo.xml").write_text(
        f"<annotation><size><width>{width}</width><height>{height}</height></size>"
        f"<object><name>cat</name><bndbox>{bndbox}</bndbox></object></annotation>"
    )


@pytest.fixture
def year(tmp_path):
    """A devkit's year whose lists hold one photo, which the tests write with what belongs to it."""
    folder = tmp_path / "VOCdevkit" / "VOC2012"
    for task in ("Main", "Segmentation"):
        (folder / "ImageSets" / task).mkdir(parents=True)
        (folder / "ImageSets" / task / "train.txt").write_text("photo\n")
    (folder / "labels.txt").write_text("cat\n")
    return folder


def detected(year, proposals=None):
    """Give the photo, its box, its proposal and its size as detection takes them."""
    given = None if proposals is None else [np.array([proposals], dtype=np.float32)]
    samples = DetectionPhotos(open_voc(year, 2012).photos("train"), False, 0, given)
    image, target = samples[0]
    assert samples[Draw(0, 0)][0].equal(image)
    return image, target


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_boxes_and_proposals_of_the_stored_pixels(year, orientation):
    stored(year / "JPEGImages" / "photo.jpg", orientation)
    annotate(year, SIZE, BOX)
    image, target = detected(year, BOX)
    assert near(where_red(image), target["boxes"][0])
    assert near(where_red(image), target["proposals"][0])
    assert image.shape[1:] == tuple(target["size"]) == SIZE[::-1]


@pytest.mark.parametrize("orientation", LYING)
def test_boxes_and_proposals_of_the_upright_photo(year, orientation):
    upright = stored(year / "JPEGImages" / "photo.jpg", orientation)
    box = where_red(upright)
    annotate(year, upright.size, box)
    image, target = detected(year, box)
    assert near(where_red(image), target["boxes"][0])
    assert near(where_red(image), target["proposals"][0])
    assert image.shape[1:] == tuple(target["size"]) == SIZE


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_mirrored_photo_has_its_boxes_and_proposals(year, orientation):
    for of_upright in (False, True) if orientation in LYING else (False,):
        upright = stored(year / "JPEGImages" / "photo.jpg", orientation)
        box, size = (where_red(upright), upright.size) if of_upright else (BOX, SIZE)
        annotate(year, size, box)
        given = [np.array([box], dtype=np.float32)]
        samples = DetectionPhotos(open_voc(year, 2012).photos("train"), True, 0, given)
        seen = set()
        for epoch in range(8):
            image, target = samples[Draw(epoch, 0)]
            assert near(where_red(image), target["boxes"][0])
            assert near(where_red(image), target["proposals"][0])
            seen.add(tuple(target["boxes"][0].tolist()))
        assert len(seen) == 2


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_boxes_of_a_square_photo_belong_to_the_stored_pixels(year, orientation):
    stored(year / "JPEGImages" / "photo.jpg", orientation, (100, 100))
    annotate(year, (100, 100), BOX)
    image, target = detected(year)
    assert near(where_red(image), target["boxes"][0])


def write_mask(path, size, box):
    mask = Image.new("L", size)
    mask.paste(1, tuple(int(side) for side in box))
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mat":
        segmentation = np.empty((1, 1), dtype=[("Segmentation", object)])
        segmentation[0, 0]["Segmentation"] = np.array(mask)
        savemat(path, {"GTcls": segmentation})
    else:
        mask.save(path)


@pytest.fixture(params=["voc", "sbd"])
def masked(request, year, tmp_path):
    """Where a photo and its mask go, in VOC's tree or in that of the Semantic Boundaries Dataset, and the split."""
    if request.param == "voc":
        return year / "JPEGImages" / "photo.jpg", year / "SegmentationClass" / "photo.png", "train"
    folder = tmp_path / "SBD"
    folder.mkdir()
    (folder / "train.txt").write_text("photo\n")
    return folder / "img" / "photo.jpg", folder / "cls" / "photo.mat", "sbd_train"


def masks_lie_on_objects(root, split):
    (photos,) = read_masks(root, 2012, [split], ScaledCrop(64, (1.0, 1.0), True), 0, check_counts=False)
    photo, mask = photos.read(0)
    assert photo.size == mask.size
    assert near(where_red(photo), where_red(np.array(mask)[None] * 255))
    for epoch in range(8):
        sample = photos[Draw(epoch, 0)]
        red = sample["inputs"][0].numpy() > 128
        labels = sample["data_samples"].gt_sem_seg.data[0].numpy()
        assert (red != (labels == 1)).mean() < 0.03
    return photo.size


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_masks_of_the_stored_pixels(tmp_path, masked, orientation):
    path, mask, split = masked
    stored(path, orientation)
    write_mask(mask, SIZE, BOX)
    assert masks_lie_on_objects(tmp_path, split) == SIZE


@pytest.mark.parametrize("orientation", LYING)
def test_masks_of_the_upright_photo(tmp_path, masked, orientation):
    path, mask, split = masked
    upright = stored(path, orientation)
    write_mask(mask, upright.size, where_red(upright))
    assert masks_lie_on_objects(tmp_path, split) == SIZE[::-1]


@pytest.mark.parametrize("orientation", [1, 3])
def test_sizes_of_another_photo_are_refused(tmp_path, year, orientation):
    path = year / "JPEGImages" / "photo.jpg"
    stored(path, orientation)
    annotate(year, SIZE[::-1], (0, 0, 10, 10))
    with refused("photo.xml", "photo.jpg", received="80 x 100", allowed=("100 x 80",)):
        open_voc(year, 2012).photos("train")
    write_mask(year / "SegmentationClass" / "photo.png", SIZE[::-1], (0, 0, 10, 10))
    with refused("photo.png", "photo.jpg", received="80 x 100", allowed=("100 x 80",)):
        read_masks(tmp_path, 2012, ["train"], None, 0)


def test_sizes_of_another_photo_are_refused_with_both_that_fit(year):
    stored(year / "JPEGImages" / "photo.jpg", 6)
    annotate(year, (90, 80), (0, 0, 10, 10))
    with refused(received="90 x 80", allowed=("100 x 80", "80 x 100")):
        open_voc(year, 2012).photos("train")


@pytest.mark.parametrize(("orientation", "told"), [(1, True), (3, False), (6, True)])
def test_what_no_size_tells_is_said(tmp_path, year, orientation, told, capsys):
    stored(year / "JPEGImages" / "photo.jpg", orientation)
    write_mask(year / "SegmentationClass" / "photo.png", SIZE, BOX)
    read_masks(tmp_path, 2012, ["train"], None, 0)
    assert ("1 photos have an EXIF orientation" in capsys.readouterr().err) is not told


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_boxes_of_tracks_belong_to_the_stored_pixels(tmp_path, orientation):
    stored(tmp_path / "first.jpg", orientation)
    stored(tmp_path / "last.jpg", 1)
    box = " ".join(map(str, BOX))
    (tmp_path / "list.tracks").write_text(f"first.jpg {box} last.jpg {box}\n")
    both = Tracks(tmp_path / "list.tracks").image(0)
    assert np.asarray(both)[..., 0].mean() > 240


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_photos_without_coordinates_are_upright(year, orientation):
    path = year / "JPEGImages" / "photo.jpg"
    upright = stored(path, orientation)
    annotate(year, SIZE, BOX)
    assert read_image(path).tobytes() == upright.tobytes()
    assert decode_rgb(path.read_bytes()).tobytes() == upright.tobytes()
    photos = open_voc(year, 2012).photos("train")
    views = ClassificationViews(photos, np.ones((1, 1), dtype=np.uint8), RandomCrop(64, 80), 1, 0)
    assert torch.equal(views[0][0][0], center_crop(upright, 64, 80))
    probed = LabeledViews(LabeledPhotos((str(path),), (0,), ("cat",)), RandomCrop(64, 80), 0)
    assert torch.equal(probed[0][0][0], center_crop(upright, 64, 80))


def test_a_photo_is_read_as_stored_on_demand():
    picture, buffer, exif = Image.new("RGB", SIZE), io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    picture.save(buffer, "JPEG", exif=exif)
    assert decode_rgb(buffer.getvalue(), upright=False).size == SIZE
    assert decode_rgb(buffer.getvalue()).size == SIZE[::-1]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_header_says_what_decoding_gives(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", SIZE).save(tmp_path / "photo", format=kind, exif=exif)
    header = read_header(tmp_path / "photo")
    data = (tmp_path / "photo").read_bytes()
    assert header.orientation == orientation
    assert header.size == decode_rgb(data, upright=False).size
    assert header.upright_size == decode_rgb(data).size
