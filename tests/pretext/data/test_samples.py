import shutil

from pretext.data.samples import some_photos, spread
from pretext.data.sources import open_photos


def test_some_photos_are_spread_over_all():
    assert spread(10, 4).tolist() == [0, 3, 6, 9]
    assert spread(3, 64).tolist() == [0, 1, 2]
    assert spread(3, 0).tolist() == []


def test_unreadable_photos_are_passed_over_and_named(photo_folder, tmp_path):
    for photo in sorted(photo_folder.iterdir())[:5]:
        shutil.copy(photo, tmp_path)
    bad = tmp_path / "02.jpg"
    bad.write_bytes(b"no photo")
    photos, unreadable = open_photos(tmp_path), {}
    assert [index for index, _ in some_photos(photos, 3, unreadable)] == [0, 4]
    assert list(unreadable) == [str(bad)]
    assert [image.size for _, image in some_photos(photos, 3)] == [(72, 64)] * 2
