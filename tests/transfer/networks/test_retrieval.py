import shutil
import tarfile
from dataclasses import replace

import pytest
import torch
from PIL import Image
from refusals import refused
from small_alexnet import small_alexnet

from pretext.backbones.checkpoint import Provenance, save_backbone
from pretext.backbones.initializers import he_normal_
from pretext.color import rgb_to_lab
from pretext.colorize.painting import paint
from transfer.color_sources import color_source
from transfer.data.colored import TruePhotos
from transfer.judged import identify
from transfer.networks.retrieval import Gallery, lent_colors
from transfer.protocols.table import load_stage_config
from transfer.stage import STAGES

pytestmark = pytest.mark.usefixtures("one_thread")

STAGE = STAGES["colorization"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def retriever(tmp_path_factory):
    """A small backbone that was not trained."""
    backbone = small_alexnet("rgb")
    he_normal_(backbone, 7)
    path = tmp_path_factory.mktemp("retriever") / "backbone.safetensors"
    save_backbone(backbone, path, Provenance("rotation", seed=4))
    return str(path)


@pytest.fixture
def settings(photo_folder, retriever):
    overrides = ["classifier=None", f"gallery={str(photo_folder)!r}", f"retriever={retriever!r}"]
    return load_stage_config("colorization", overrides=overrides)


def photos_of(folder, **changes):
    given = {"chosen": "all", "count": None, "fit": "own", "size": None} | changes
    return TruePhotos(folder, **given)


def found_in(settings, photos, index=0):
    gallery = Gallery(settings, photos, 0, CPU)
    return gallery.nearest(index, photos[index])


def test_a_photo_finds_one_of_its_kind_and_never_itself(settings, photo_folder):
    photos = photos_of(photo_folder)
    gallery = Gallery(settings, photos, 0, CPU)
    for index in range(4):
        found = gallery.nearest(index, photos[index])
        (number,) = [k for k in range(len(photos)) if torch.equal(photos[k], found)]
        assert number != index
        # Stripes of one direction lie together.
        assert number % 2 == index % 2


def test_the_same_photo_elsewhere_is_the_photo_itself(settings, photo_folder, tmp_path):
    for name in ("copy.jpg", "other.jpg"):
        shutil.copy(photo_folder / f"{'01' if name == 'other.jpg' else '00'}.jpg", tmp_path / name)
    (tmp_path / "link.jpg").symlink_to(photo_folder / "00.jpg")
    photos = photos_of(photo_folder)
    there = replace(settings, gallery=str(tmp_path))
    assert torch.equal(found_in(there, photos), photos[1])
    (tmp_path / "other.jpg").unlink()
    with refused("gallery", received="00.jpg"):
        found_in(there, photos)


def test_colours_are_not_looked_at(settings, photo_folder, tmp_path):
    for name in ("colour", "gray"):
        (tmp_path / name).mkdir()
    photos = photos_of(photo_folder, count=6)
    for index, photo in enumerate(photos[k] for k in range(6)):
        gray = paint(rgb_to_lab(photo[None])[0, :1], torch.zeros(2, 1, 1))
        for name, shown in (("colour", photo), ("gray", gray)):
            Image.fromarray(shown.permute(1, 2, 0).numpy()).save(tmp_path / name / f"{index}.png")
    colour, gray = (
        Gallery(replace(settings, gallery=str(tmp_path / name)), photos, 0, CPU)
        for name in ("colour", "gray")
    )
    # Not quite the same, as levels are whole numbers.
    torch.testing.assert_close(colour._known, gray._known, rtol=0, atol=1e-3)
    assert (colour._known[0] - colour._known[1]).abs().max() > 1e-2


def test_what_cannot_be_read_is_left_out(settings, photo_folder, tmp_path, capsys):
    shutil.copy(photo_folder / "02.jpg", tmp_path)
    (tmp_path / "01.jpg").write_bytes(b"\xff\xd8\xff damaged")
    photos = photos_of(photo_folder)
    assert torch.equal(found_in(replace(settings, gallery=str(tmp_path)), photos), photos[2])
    assert "1 photos of the gallery cannot be read" in capsys.readouterr().err
    (tmp_path / "02.jpg").unlink()
    with refused("gallery", received=str(tmp_path)):
        found_in(replace(settings, gallery=str(tmp_path)), photos)


def test_shards_are_galleries_and_photos_are_fitted(settings, photo_folder, tmp_path):
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        for name in ("00.jpg", "01.jpg"):
            tar.add(photo_folder / name, name)
    photos = photos_of(photo_folder, fit="center", size=32)
    found = found_in(replace(settings, gallery=str(tmp_path / "photos.tar")), photos)
    assert torch.equal(found, photos[1])


def lightness_of(photo):
    return rgb_to_lab(photo[None])[0, 0]


@pytest.mark.parametrize("row", ["retrieval", "welsh2002"])
def test_the_lightness_stays_and_the_colours_are_those_of_the_kind(row, settings, photo_folder):
    photos = photos_of(photo_folder)
    painter = lent_colors(color_source(row), photos, settings, 0, CPU)
    for index in range(2):
        painted = painter(index, photos[index]).rgb
        assert (lightness_of(painted) - lightness_of(photos[index])).abs().max() < 1
        warm = rgb_to_lab(painted[None])[0, 2].mean()
        assert (warm > 10) if index % 2 else (warm < -10)
        assert torch.equal(painter(index, photos[index]).rgb, painted)


def test_one_reference_gives_all_photos_its_colours(settings, photo_folder):
    given = replace(settings, gallery=None, reference=str(photo_folder / "01.jpg"))
    photos = photos_of(photo_folder)
    painter = lent_colors(color_source("welsh2002"), photos, given, 0, CPU)
    assert rgb_to_lab(painter(0, photos[0]).rgb[None])[0, 2].mean() > 10
    other = lent_colors(color_source("welsh2002"), photos, given, 1, CPU)
    assert not torch.equal(other(0, photos[0]).rgb, painter(0, photos[0]).rgb)


class TestIdentity:
    def test_rows_are_told_by_all_that_lends_colours(self, settings, photo_folder, tmp_path):
        shutil.copy(photo_folder / "00.jpg", tmp_path / "reference.jpg")
        shutil.copytree(photo_folder, tmp_path / "theirs")
        reference = replace(settings, gallery=None, reference=str(tmp_path / "reference.jpg"))
        told = {
            name: identify(STAGE, row, seed, given)
            for name, row, seed, given in (
                ("retrieval", "retrieval", 0, settings),
                ("welsh", "welsh2002", 0, settings),
                ("welsh, another seed", "welsh2002", 1, settings),
                ("another layer", "retrieval", 0, replace(settings, retriever_layer="conv4")),
                ("another gallery", "retrieval", 0, replace(settings, gallery=str(tmp_path / "theirs"))),
                ("random", "retrieval", 0, replace(settings, retriever=f"random:{settings.retriever}")),
                (
                    "random, another seed",
                    "retrieval",
                    1,
                    replace(settings, retriever=f"random:{settings.retriever}"),
                ),
                ("a reference", "welsh2002", 0, reference),
            )
        }
        assert len({each.sha256 for each in told.values()}) == len(told)
        # Seeds alone do not make another recipe.
        assert len({each.recipe for each in told.values()}) == len(told) - 2
        found = told["retrieval"]
        assert (found.method, found.backbone) == ("retrieval by features of rotation", "alexnet")
        assert (found.seed, found.pretrained_on) == (4, photo_folder.name)
        assert (told["random"].method, told["random"].seed) == ("retrieval by features of random", 0)
        assert told["a reference"].method == "welsh2002"
        assert (told["a reference"].backbone, told["welsh, another seed"].seed) == ("none", 1)
        # Another photo under the same name is another reference; the last convolution may be named.
        shutil.copy(photo_folder / "01.jpg", tmp_path / "reference.jpg")
        assert identify(STAGE, "welsh2002", 0, reference).recipe != told["a reference"].recipe
        named = identify(STAGE, "retrieval", 0, replace(settings, retriever_layer="conv5"))
        assert named == found

    def test_nobody_who_lends_colours_is_refused(self, settings):
        nobody = replace(settings, gallery=None)
        with refused("retrieval") as info:
            identify(STAGE, "retrieval", 0, nobody)
        assert "reference" not in info.value.allowed
        with refused("welsh2002") as info:
            identify(STAGE, "welsh2002", 0, nobody)
        assert "reference=FILE" in info.value.allowed
        with refused("layer", received="conv9"):
            identify(STAGE, "retrieval", 0, replace(settings, retriever_layer="conv9"))
        with refused(received="gone"):
            identify(STAGE, "retrieval", 0, replace(settings, gallery="gone"))
        with refused("reference", received="gone.jpg"):
            identify(STAGE, "welsh2002", 0, replace(nobody, reference="gone.jpg"))

    def test_pairs_are_no_gallery(self, settings, pair_lists):
        with refused("gallery", received=str(pair_lists["frames"])):
            identify(STAGE, "retrieval", 0, replace(settings, gallery=str(pair_lists["frames"])))


def test_a_reference_that_is_no_photo_is_refused(settings, photo_folder, tmp_path):
    (tmp_path / "reference.jpg").write_text("no photo")
    given = replace(settings, gallery=None, reference=str(tmp_path / "reference.jpg"))
    with refused("reference.jpg"):
        lent_colors(color_source("welsh2002"), photos_of(photo_folder), given, 0, CPU)
