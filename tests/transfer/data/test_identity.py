import hashlib

import pytest

from transfer.data.identity import data_name, names_fingerprint


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("imagenette128", "imagenette128"),
        ("toyworld/labeled", "toyworld"),
        ("imagenette128/val", "imagenette128"),
        ("cifar-10-batches-py/test", "cifar-10-batches-py"),
        ("fruits-360/Training", "fruits-360"),
        ("fruits-360/Test", "fruits-360"),
        ("work_dirs/toyworld/VOCdevkit", "toyworld"),
        ("voc256/VOCdevkit/VOC2007", "voc256"),
        ("VOCdevkit", "VOCdevkit"),
        ("VOCdevkit/VOC2007", "VOCdevkit"),
        ("../photos/", "photos"),
        ("/data/VOCdevkit", "VOCdevkit"),
        ("/data/voc256/VOCdevkit", "voc256"),
        ("/elsewhere/voc256", "voc256"),
    ],
)
def test_data_are_filed_under_the_name_they_were_given_by(given, name, monkeypatch):
    monkeypatch.setenv("PRETEXT_DATA", "/data")
    assert data_name(given) == name


def test_the_current_folder_has_its_own_name(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path / "photos")
    assert data_name(".") == "photos"


def test_the_fingerprint_is_that_of_the_names_one_per_line():
    assert (
        names_fingerprint(["a/1.jpg", "b/é.jpg"]) == hashlib.sha256("a/1.jpg\nb/é.jpg".encode()).hexdigest()
    )


def test_a_name_with_a_line_break_is_one_name():
    assert names_fingerprint(["a\nb", "c"]) != names_fingerprint(["a", "b", "c"])


def test_names_that_are_not_utf8_have_a_fingerprint_of_their_own():
    latin = b"caf\xe9".decode(errors="surrogateescape")
    assert names_fingerprint([latin]) == hashlib.sha256(b"caf\xe9").hexdigest()
    assert names_fingerprint([latin]) != names_fingerprint(["café"])
