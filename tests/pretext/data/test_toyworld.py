"""The toy world: same bytes from the same seed, annotations that agree with each other, whole or not at all."""

import errno
import hashlib
import json
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torchvision
from PIL import Image
from refusals import refused
from skimage.color import rgb2lab, rgb2xyz

from pretext.__main__ import main
from pretext.data.toyworld import TOY_CLASSES, ToyworldSizes, render, render_toyworld
from pretext.data.toyworld.classes import CLASSES
from pretext.data.toyworld.layouts import voc_color_map
from pretext.data.toyworld.noise import NoiseBank
from pretext.data.toyworld.pigments import LUMINANCE, colorize, pigment
from pretext.data.toyworld.scenes import Scene, render_scene

SIZES = ToyworldSizes(
    unlabeled=20,
    labeled_train=23,
    labeled_val=10,
    voc2007_train=20,
    voc2007_val=10,
    voc2007_test=10,
    voc2012_train=20,
    voc2012_val=10,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("toyworld") / "world"
    render_toyworld(out, seed=3, sizes=SIZES, workers=1)
    return out


@pytest.fixture(scope="module")
def portraits() -> dict[str, list[Scene]]:
    """Twelve photos of each class, one object each."""
    bank = NoiseBank.from_seed(0)
    return {
        name: [render_scene(bank, np.random.default_rng([label, i]), (96, 96), [label]) for i in range(12)]
        for label, name in enumerate(TOY_CLASSES)
    }


def tree_hash(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes() if path.is_file() else b"folder")
    return digest.hexdigest()


def annotations(devkit: Path) -> dict[str, list[dict[str, Any]]]:
    """Objects of every photo: class, difficult, 1-based inclusive box."""
    found = {}
    for path in sorted((devkit / "Annotations").iterdir()):
        objects = []
        for node in ElementTree.parse(path).getroot().iter("object"):
            box = [int(node.findtext(f"bndbox/{edge}", "")) for edge in ("xmin", "ymin", "xmax", "ymax")]
            objects.append(
                {"name": node.findtext("name"), "difficult": node.findtext("difficult"), "box": box}
            )
        found[path.stem] = objects
    return found


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


# --- same bytes -------------------------------------------------------------------------------------------------


def test_bytes_do_not_depend_on_workers_or_run(world: Path, tmp_path: Path) -> None:
    render_toyworld(tmp_path / "again", seed=3, sizes=SIZES, workers=2)
    assert tree_hash(tmp_path / "again") == tree_hash(world)


def test_bytes_depend_on_seed(world: Path, tmp_path: Path) -> None:
    render_toyworld(tmp_path / "other", seed=4, sizes=ToyworldSizes.scaled(1e-6), workers=1)
    photo = "unlabeled/000001.jpg"
    assert (tmp_path / "other" / photo).read_bytes() != (world / photo).read_bytes()


def test_photo_does_not_depend_on_sizes(world: Path, tmp_path: Path) -> None:
    render_toyworld(tmp_path / "smaller", seed=3, sizes=ToyworldSizes.scaled(1e-6), workers=1)
    for photo in ("unlabeled/000010.jpg", "VOCdevkit/VOC2012/SegmentationClass/2012_000010.png"):
        assert (tmp_path / "smaller" / photo).read_bytes() == (world / photo).read_bytes()


# --- layouts, read by torchvision -------------------------------------------------------------------------------


def test_counts_of_photos(world: Path) -> None:
    assert len(list((world / "unlabeled").glob("*.jpg"))) == 20
    for split, count in (("train", 23), ("val", 10)):
        folder = torchvision.datasets.ImageFolder(str(world / "labeled" / split))
        assert tuple(folder.classes) == TOY_CLASSES
        assert len(folder) == count
        assert set(np.bincount(folder.targets)) <= {count // 10, count // 10 + 1}


@pytest.mark.parametrize(("split", "count"), [("train", 20), ("val", 10), ("trainval", 30), ("test", 10)])
def test_torchvision_reads_voc2007(world: Path, split: str, count: int) -> None:
    photos = torchvision.datasets.VOCDetection(str(world), year="2007", image_set=split)
    assert len(photos) == count
    for image, target in photos:
        size = target["annotation"]["size"]
        assert (int(size["width"]), int(size["height"]), size["depth"]) == (*image.size, "3")
        for item in target["annotation"].get("object", []):
            box = {edge: int(value) for edge, value in item["bndbox"].items()}
            assert 1 <= box["xmin"] <= box["xmax"] <= image.width
            assert 1 <= box["ymin"] <= box["ymax"] <= image.height
            touches = box["xmin"] == 1 or box["ymin"] == 1
            touches = touches or box["xmax"] == image.width or box["ymax"] == image.height
            assert item["truncated"] == str(int(touches))


@pytest.mark.parametrize(("split", "count"), [("train", 20), ("val", 10), ("trainval", 30)])
def test_torchvision_reads_voc2012(world: Path, split: str, count: int) -> None:
    photos = torchvision.datasets.VOCSegmentation(str(world), year="2012", image_set=split)
    assert len(photos) == count
    for image, mask in photos:
        assert mask.mode == "P"
        assert mask.size == image.size
        assert set(np.unique(mask)) <= {*range(len(TOY_CLASSES) + 1), 255}


def test_class_lists_agree_with_annotations(world: Path) -> None:
    devkit = world / "VOCdevkit" / "VOC2007"
    found = annotations(devkit)
    for split in ("train", "val", "trainval", "test"):
        names = lines(devkit / "ImageSets" / "Main" / f"{split}.txt")
        for label in TOY_CLASSES:
            expected = []
            for name in names:
                difficult = [item["difficult"] for item in found[name] if item["name"] == label]
                presence = -1 if not difficult else int("0" in difficult)
                expected.append([name, str(presence)])
            listed = lines(devkit / "ImageSets" / "Main" / f"{label}_{split}.txt")
            assert [line.split() for line in listed] == expected


@pytest.mark.parametrize("year", ["VOC2007", "VOC2012"])
def test_labels_file_is_in_index_order(world: Path, year: str) -> None:
    assert tuple(lines(world / "VOCdevkit" / year / "labels.txt")) == TOY_CLASSES


def test_boxes_are_tight_around_masks(world: Path) -> None:
    devkit = world / "VOCdevkit" / "VOC2012"
    for name, objects in annotations(devkit).items():
        owners = np.asarray(Image.open(devkit / "SegmentationObject" / f"{name}.png"))
        classes = np.asarray(Image.open(devkit / "SegmentationClass" / f"{name}.png"))
        assert set(np.unique(owners)) <= {*range(len(objects) + 1), 255}
        np.testing.assert_array_equal(owners == 0, classes == 0)
        np.testing.assert_array_equal(owners == 255, classes == 255)
        for number, item in enumerate(objects, start=1):
            rows, columns = np.nonzero(owners == number)
            box = [columns.min() + 1, rows.min() + 1, columns.max() + 1, rows.max() + 1]
            assert item["box"] == box
            assert set(classes[rows, columns]) == {TOY_CLASSES.index(item["name"]) + 1}


def test_palette_is_that_of_voc() -> None:
    # From the VOC development kit: background, aeroplane, person, tvmonitor, void.
    known = {0: (0, 0, 0), 1: (128, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    assert {index: tuple(voc_color_map()[index].tolist()) for index in known} == known


def test_manifest_tells_seed_sizes_classes_and_colours(world: Path) -> None:
    manifest = json.loads((world / "toyworld.json").read_text(encoding="utf-8"))
    assert manifest["seed"] == 3
    assert manifest["sizes"]["labeled_train"] == 23
    assert tuple(manifest["classes"]) == TOY_CLASSES
    assert [mode["name"] for mode in manifest["color_modes"]["apple"]] == ["red", "green"]


# --- colours ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hue", [10.0, 60.0, 97.0, 140.0, 215.0, 312.0])
def test_pigment_has_its_hue_and_luminance_one(hue: float) -> None:
    color = pigment(hue, 30.0)
    lab = rgb2lab(colorize(np.full((1, 1), 0.5, np.float32), color[None, None]))[0, 0]
    assert color @ LUMINANCE == pytest.approx(1, abs=1e-5)
    assert np.rad2deg(np.arctan2(lab[2], lab[1])) % 360 == pytest.approx(hue, abs=2)


def test_colorize_keeps_luminance() -> None:
    gray = np.linspace(0.02, 0.98, 50, dtype=np.float32)[None]
    vivid = np.broadcast_to(pigment(32.0, 60.0), (1, 50, 3))
    luminance = rgb2xyz(colorize(gray, vivid))[..., 1]
    np.testing.assert_allclose(luminance, rgb2xyz(np.repeat(gray[..., None], 3, 2))[..., 1], atol=3e-3)


def test_hues_are_those_of_the_declared_modes(portraits: dict[str, list[Scene]]) -> None:
    for kind in CLASSES:
        declared = np.array([mode.hue for mode in kind.modes])
        seen = set()
        for scene in portraits[kind.name]:
            ab = rgb2lab(scene.image)[scene.owners == 1].mean(axis=0)[1:]
            hue = np.rad2deg(np.arctan2(ab[1], ab[0]))
            away = np.abs((hue - declared + 180) % 360 - 180)
            assert away.min() < 30, kind.name
            seen.add(int(away.argmin()))
        assert seen == set(range(len(declared))), kind.name


def test_mean_lightness_does_not_tell_the_class(portraits: dict[str, list[Scene]]) -> None:
    means = np.array(
        [
            [rgb2lab(scene.image)[scene.owners == 1][:, 0].mean() for scene in portraits[name]]
            for name in TOY_CLASSES
        ]
    )
    # Between-class deviation of the mean of 12, against what chance alone gives.
    assert means.mean(axis=1).std() < 2 * means.std(axis=1).mean() / np.sqrt(means.shape[1])


def test_some_objects_are_difficult_but_few() -> None:
    bank = NoiseBank.from_seed(0)
    scenes = [render_scene(bank, np.random.default_rng(i), (128, 128), [0, 1, 2, 3]) for i in range(40)]
    difficult = [item.difficult for scene in scenes for item in scene.objects]
    assert 0.01 < np.mean(difficult) < 0.25


# --- whole or not at all ----------------------------------------------------------------------------------------


def test_rendering_again_is_a_no_op(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "_render", lambda *_: pytest.fail("rendered again"))
    render_toyworld(world, seed=3, sizes=SIZES)


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    render_toyworld(tmp_path / "out", sizes=ToyworldSizes.scaled(1e-6), workers=1)
    assert (tmp_path / "out" / "toyworld.json").is_file()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (KeyboardInterrupt(), pytest.raises(KeyboardInterrupt)),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
            refused("out", received=os.strerror(errno.ENOSPC), allowed="new or empty folder"),
        ),
    ],
)
def test_interrupted_rendering_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    expected: AbstractContextManager[Any],
) -> None:
    written = []

    def write_some(*photo: Any) -> Any:
        written.append(photo)
        if len(written) == 30:
            raise error
        return write_photo(*photo)

    write_photo = render.write_photo
    monkeypatch.setattr(render, "write_photo", write_some)
    with expected:
        render_toyworld(tmp_path / "out", sizes=SIZES, workers=1)
    assert list(tmp_path.iterdir()) == []


# --- errors -----------------------------------------------------------------------------------------------------


def test_another_toy_world_is_refused(world: Path) -> None:
    with refused(world, received="seed=3 instead of 5", allowed="new or empty folder"):
        render_toyworld(world, seed=5, sizes=SIZES)


@pytest.mark.parametrize("content", [None, "not json", "[]"])
def test_a_foreign_folder_is_refused(tmp_path: Path, content: str | None) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    if content is not None:
        (tmp_path / "toyworld.json").write_text(content, encoding="utf-8")
    with refused(received=str(tmp_path), allowed="the same toy world"):
        render_toyworld(tmp_path, sizes=SIZES)
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with refused(received=str(tmp_path / "file"), allowed="new or empty folder"):
        render_toyworld(tmp_path / "file", sizes=SIZES)


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with refused(tmp_path / "file" / "out", allowed="new or empty folder"):
        render_toyworld(tmp_path / "file" / "out", sizes=SIZES, workers=1)


@pytest.mark.parametrize(("option", "value"), [("seed", -1), ("workers", 0)])
def test_options_out_of_range_are_refused(tmp_path: Path, option: str, value: int) -> None:
    with refused(option, received=value):
        render_toyworld(tmp_path / "out", sizes=SIZES, **{option: value})  # type: ignore[arg-type]


def test_too_small_splits_are_refused() -> None:
    with refused("labeled_val", received=9, allowed="10 or more"):
        ToyworldSizes(labeled_val=9)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_scales_are_refused(scale: float) -> None:
    with refused("scale"):
        ToyworldSizes.scaled(scale)


def test_the_command_takes_a_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["toyworld", str(tmp_path / "small"), "--scale", "0.002"]) == 0
    assert len(list((tmp_path / "small" / "unlabeled").glob("*.jpg"))) == 10
    assert main(["toyworld", str(tmp_path / "none"), "--scale", "0"]) == 2
    assert "scale" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
