import json
import math
import shutil
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from refusals import refused
from studies import SMALL, write_folders

from pretext.color.lab import rgb_to_lab
from pretext.data.decoding import read_rgb
from transfer.study.make import make_study, match_photos, with_colors_of
from transfer.study.study import RECORD_NAME, StudySettings, load_study

#: With them 8 photos are enough.
FEW = {**SMALL, "practice": 1, "tests": 5}
SETTINGS = StudySettings(**FEW)


@pytest.fixture
def folders(tmp_path):
    return write_folders(tmp_path, count=8)


@pytest.fixture
def copied(study, tmp_path):
    """A study that a test may damage."""
    return shutil.copytree(study.folder, tmp_path / "study")


@pytest.fixture
def make(tmp_path, folders):
    def made(**changes):
        settings = StudySettings(**(FEW | changes))
        return make_study(folders, tmp_path / "truth", tmp_path / "study", settings)

    return made


def left_behind(folder):
    return sorted(path.name for path in folder.iterdir()) != ["faded", "truth", "turned"]


class TestMakeStudy:
    def test_the_pictures_are_those_of_the_folders(self, study):
        source = study.folder.parent
        assert len(study.photos) == 24
        for photo in study.photos:
            of = {photo.truth: "truth", photo.systems["faded"]: "faded", photo.systems["turned"]: "turned"}
            for name, folder in of.items():
                with (
                    read_rgb(study.picture(name)) as made,
                    read_rgb(source / folder / f"{photo.name}.png") as own,
                ):
                    assert np.array_equal(np.array(made), np.array(own))

    def test_nothing_but_the_pixels_is_kept_and_no_name_tells(self, study):
        names = [name for p in study.photos for name in (p.truth, p.vigilance, *p.systems.values())]
        assert len(set(names)) == len(names) == 96
        for name in names:
            data = study.picture(name).read_bytes()
            place, kinds = 8, []
            while place < len(data):
                kinds.append(data[place + 4 : place + 8])
                place += 12 + int.from_bytes(data[place : place + 4], "big")
            assert set(kinds) == {b"IHDR", b"IDAT", b"IEND"}
        # Sorted by name, kinds of pictures are mixed.
        kinds = [name in {p.truth for p in study.photos} for name in sorted(names)]
        assert sum(a != b for a, b in pairwise(kinds)) > 1

    def test_metadata_alpha_and_orientation_are_resolved_alike(self, tmp_path, folders):
        upright = np.array(read_rgb(tmp_path / "truth/class0/000.png"))
        exif = Image.Exif()
        exif[0x0112] = 6
        turned = Image.fromarray(np.ascontiguousarray(np.rot90(upright)))
        (tmp_path / "truth/class0/000.png").unlink()
        turned.save(tmp_path / "truth/class0/000.jpg", exif=exif, quality=95)
        text = PngInfo()
        text.add_text("Software", "coloured by faded")
        Image.fromarray(upright).save(folders["faded"] / "class0/000.png", pnginfo=text)
        make_study(folders, tmp_path / "truth", tmp_path / "study", SETTINGS)
        photo = load_study(tmp_path / "study").photos[0]
        assert b"faded" not in (tmp_path / "study/pictures" / photo.systems["faded"]).read_bytes()
        made = np.array(read_rgb(tmp_path / "study/pictures" / photo.truth)).astype(int)
        assert made.shape == upright.shape
        assert abs(made - upright).mean() < 12

    def test_large_photos_are_resized_to_the_longest_side(self, make, tmp_path):
        make(size=16)
        study = load_study(tmp_path / "study")
        sizes = {read_rgb(path).size for path in (tmp_path / "study/pictures").iterdir()}
        assert sizes == {(16, 13)}
        assert study.settings.size == 16

    def test_the_obvious_fakes_have_the_lightness_and_other_colours(self, study):
        for photo in study.photos[:5]:
            true, fake = (
                rgb_to_lab(torch.from_numpy(np.array(read_rgb(study.picture(n)))).permute(2, 0, 1)[None])
                for n in (photo.truth, photo.vigilance)
            )
            assert (true[:, 1:] - fake[:, 1:]).norm(dim=1).mean() > 15
            assert (true[:, :1] - fake[:, :1]).abs().median() < 1  # more where the gamut ends

    def test_the_record_has_settings_and_seed(self, study):
        content = json.loads((study.folder / RECORD_NAME).read_text())
        assert content["settings"]["seed"] == 7
        assert study.settings == StudySettings(**SMALL)
        assert [system.name for system in study.systems] == ["faded", "turned"]
        assert study.systems[0].sha256 != study.systems[1].sha256
        assert study.data == "truth" or study.data == study.folder.parent.name

    def test_gray_true_photos_are_named(self, make, tmp_path, capsys):
        path = tmp_path / "truth/class1/004.png"
        read_rgb(path).convert("L").save(path)
        make()
        (line,) = [line for line in capsys.readouterr().err.splitlines() if "without colours" in line]
        assert line.endswith("1 (class1/004)")

    def test_the_truth_may_have_more_photos(self, tmp_path, folders):
        Image.new("RGB", (9, 9)).save(tmp_path / "truth" / "more.png")
        assert make_study(folders, tmp_path / "truth", tmp_path / "study", SETTINGS) == 8


class TestErrors:
    def test_a_true_photo_is_missing(self, make, tmp_path):
        (tmp_path / "truth/class1/001.png").unlink()
        with refused("truth", received="class1/001"):
            make()
        assert not left_behind(tmp_path)

    def test_systems_differ_in_their_photos(self, make, folders, tmp_path):
        for number in (0, 3, 6, 1):
            (folders["turned"] / f"class{number % 3}/{number:03d}.png").unlink()
        with refused("faded", "turned", received="class0/000, class0/003, class0/006 and 1 more"):
            make()

    def test_two_systems_are_one_folder(self, tmp_path, folders):
        again = folders["faded"].parent / "." / folders["faded"].name
        with refused("faded and again are one folder", received=again):
            match_photos(folders | {"again": again}, tmp_path / "truth")

    def test_sizes_differ(self, make, folders, tmp_path):
        path = folders["faded"] / "class2/002.png"
        Image.new("RGB", (20, 16)).save(path)
        with refused(f"{path} (20x16, not 40x32)"):
            make()
        assert not left_behind(tmp_path)

    def test_a_photo_is_damaged(self, make, folders, tmp_path):
        path = folders["faded"] / "class2/005.png"
        path.write_bytes(path.read_bytes()[:-200])
        with refused(path):
            make()
        assert not left_behind(tmp_path)

    def test_too_few_photos(self, make, tmp_path):
        with refused("too few", received="8 photos") as info:
            make(tests=40)
        assert "41" in info.value.allowed

    def test_two_photos_of_one_name(self, tmp_path, folders):
        Image.new("RGB", (40, 32)).save(folders["faded"] / "class0/000.jpg")
        with refused("000.jpg", "000.png"):
            match_photos(folders, tmp_path / "truth")

    def test_there_is_something_already(self, make, copied, tmp_path):
        before = (tmp_path / "study" / RECORD_NAME).read_bytes()
        with refused("already", received=tmp_path / "study"):
            make()
        assert (tmp_path / "study" / RECORD_NAME).read_bytes() == before

    def test_an_empty_folder(self, make, tmp_path):
        (tmp_path / "empty").mkdir()
        with refused("empty"):
            match_photos({"a": tmp_path / "empty"}, tmp_path / "truth")

    def test_an_interruption_leaves_nothing(self, make, tmp_path, monkeypatch):
        def interrupted(*arguments):
            raise KeyboardInterrupt

        monkeypatch.setattr("transfer.study.make.record", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make()
        assert not left_behind(tmp_path)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *(("practice", -1), ("tests", 0), ("vigilance", 1.0), ("seconds", -0.1), ("size", 8)),
            *(("seconds", math.inf), ("seed", 2**32)),
        ],
    )
    def test_settings_out_of_range(self, make, name, value):
        with refused(name, received=value):
            make(**{name: value})


class TestLoadStudy:
    def test_no_study(self, tmp_path):
        with refused(tmp_path):
            load_study(tmp_path)

    @pytest.mark.parametrize("text", ["", "{}", "[]", '{"form": "another"}'])
    def test_not_a_record(self, tmp_path, text):
        (tmp_path / RECORD_NAME).write_text(text)
        with refused(RECORD_NAME):
            load_study(tmp_path)

    def test_a_picture_is_missing(self, copied):
        gone = load_study(copied).photos[3].vigilance
        (copied / "pictures" / gone).unlink()
        with refused("1 of 96", received=f"first {gone}"):
            load_study(copied)

    def test_a_picture_outside_the_study_is_not_taken(self, copied):
        path = copied / RECORD_NAME
        content = json.loads(path.read_text())
        content["photos"][0]["truth"] = "../../truth/class0/000.png"
        path.write_text(json.dumps(content))
        with refused(RECORD_NAME, "../../truth/class0/000.png"):
            load_study(copied)


def test_colours_of_a_photo_of_another_size():
    gray = torch.full((3, 8, 10), 128, dtype=torch.uint8)
    red = torch.zeros((3, 3, 2), dtype=torch.uint8)
    red[0] = 180
    made = with_colors_of(gray, red)
    assert made.shape == gray.shape
    assert made.dtype == torch.uint8
    assert (made[0] > made[1]).all()
