import shutil

import pytest
from made_photos import gray_folder
from PIL import Image
from refusals import refused

from pretext.data.samples import some_photos
from pretext.data.sources import open_photos
from pretext.methods.parts import colorful
from pretext.methods.parts.colorful import check_colorful


@pytest.fixture
def looked_at(monkeypatch):
    """Numbers of the photos that were looked at."""
    numbers = []

    def watching(*arguments):
        for number, photo in some_photos(*arguments):
            numbers.append(number)
            yield number, photo

    monkeypatch.setattr(colorful, "some_photos", watching)
    return numbers


def test_the_first_photo_in_colour_is_enough(photo_folder, looked_at):
    check_colorful("a_method", open_photos(photo_folder))
    assert looked_at == [0]


def test_some_photos_spread_over_all_are_looked_at(tmp_path, looked_at, monkeypatch):
    monkeypatch.setattr(colorful, "MAX_PHOTOS", 3)
    photos = open_photos(gray_folder(tmp_path / "gray", 9))
    with refused("a_method", received="3 gray photos of 9"):
        check_colorful("a_method", photos)
    assert looked_at == [0, 4, 8]


def test_unreadable_photos_are_passed_over(photo_folder, tmp_path):
    folder = gray_folder(tmp_path / "photos", 2)
    (folder / "a.jpg").write_bytes(b"not a photo")
    with refused(received="2 gray photos of 3"):
        check_colorful("a_method", open_photos(folder))
    shutil.copy(photo_folder / "00.jpg", folder / "z.jpg")
    check_colorful("a_method", open_photos(folder))


def test_faint_colour_counts_above_the_threshold(tmp_path):
    # |b| is about 8.
    Image.new("RGB", (40, 30), (128, 125, 112)).save(tmp_path / "faint.png")
    photos = open_photos(tmp_path)
    check_colorful("a_method", photos)
    with refused(received="1 gray photos of 1"):
        check_colorful("a_method", photos, gray_threshold=10.0)
