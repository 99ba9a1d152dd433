"""What pretraining starts from."""

import json
import math
import os
import shutil
import subprocess

import pytest
import torch
from made_photos import UnreadPhotos
from PIL import Image
from pretraining_runs import SMALL_WORDS, command, losses
from refusals import refused

from pretext.backbones import AlexNet
from pretext.backbones.checkpoint import Provenance, build, load_backbone, save_backbone
from pretext.backbones.data_dependent import initialize_from_data
from pretext.backbones.header import read_header
from pretext.backbones.initializers import he_normal_
from pretext.backbones.surgery import make_gray
from pretext.colorize.header import read_colorizer_header
from pretext.config import config_names, load_config
from pretext.data.crops import center_crop
from pretext.data.sources import open_photos
from pretext.training import engine
from pretext.training.engine import pretrain
from pretext.training.settings import PretrainingSettings
from pretext.training.start import start_from
from transfer.judged import recipe_id

#: Overrides of runs that leave the weights as they are.
FROZEN = ("optimizer.lr=0.0", "optimizer.weight_decay=0.0", "batch_size=8", "steps=2")


def convolutions(path):
    """The filters of a backbone file by name."""
    state = load_backbone(path).backbone.state_dict()
    return {name: weight for name, weight in state.items() if name.endswith("conv.weight")}


def equal(first, second):
    return all(torch.equal(weight, second[name]) for name, weight in first.items())


@pytest.fixture
def start(tiny_config, photo_folder, tmp_path):
    """Trains a method from a start, at a rate of zero unless told otherwise; gives the backbone file."""

    def train(init, *overrides, method="colorization", seed=0, name=None):
        config = tiny_config(method, *FROZEN, f"init={init}", *overrides)
        folder = tmp_path / (name or f"{method}-{init.replace('/', '')}-{seed}")
        return pretrain(config, work_dir=folder, seed=seed, data=str(photo_folder))

    return train


@pytest.mark.parametrize("kind", ["gaussian", "kmeans"])
def test_filters_are_made_from_the_training_photos(start, kind, photo_folder):
    made = load_backbone(start(kind)).backbone
    photos = open_photos(photo_folder)
    # Of 48 photos, the first and the last are held out.
    crops = torch.stack([center_crop(photos.image(index), 32, 32) for index in range(1, 47)])
    expected = AlexNet("lightness", channels=(8, 16, 16, 16, 16))
    initialize_from_data(expected, crops, kind, seed=0)
    for name in ("conv1", "conv2", "conv3", "conv4", "conv5"):
        weight = f"{name}.conv.weight"
        assert torch.equal(made.state_dict()[weight], expected.state_dict()[weight])


def test_the_seed_decides_the_filters(start):
    first, again = convolutions(start("kmeans")), convolutions(start("kmeans", name="again"))
    other, he = convolutions(start("kmeans", seed=1)), convolutions(start("he"))
    assert equal(first, again)
    assert not any(torch.equal(weight, other[name]) for name, weight in first.items())
    assert not any(torch.equal(weight, he[name]) for name, weight in first.items())


@pytest.mark.parametrize("method", ["rotation", "split_brain", "tracking", "bigan", "autoencoder"])
def test_every_method_starts_from_fitted_filters_in_its_own_colours(method, start):
    loaded = load_backbone(start("kmeans", method=method))
    assert loaded.provenance.method == f"{method}, from k-means"
    assert loaded.backbone.in_channels == loaded.backbone.get_parameter("conv1.conv.weight").shape[1]
    assert not equal(convolutions(start("he", method=method)), loaded.backbone.state_dict())


@pytest.mark.parametrize(("method", "kind"), [("egomotion_frames", "frames"), ("tracking_videos", "tracks")])
def test_pairs_show_their_first_picture(method, kind, tiny_config, pair_lists, tmp_path, monkeypatch):
    seen = []
    original = engine.fit_filters
    monkeypatch.setattr(engine, "fit_filters", lambda *args: seen.append(args[1]) or original(*args))
    config = tiny_config("rotation", *FROZEN, "init=gaussian")
    pairs = load_config("pretext", method)
    config["method"], config["view"] = pairs["method"], pairs["view"] | {"size": 32, "resize": 32}
    pretrain(config, work_dir=tmp_path / "run", data=str(pair_lists[kind]))
    (photos,) = seen
    assert photos.shape == (46, 3, 32, 32)


def test_filters_are_made_once(tiny_config, photo_folder, tmp_path, monkeypatch, interrupt_at):
    config = tiny_config("colorization", "init=kmeans", "batch_size=8", "steps=6", "checkpoint_interval=2")
    whole = pretrain(config, work_dir=tmp_path / "whole", data=str(photo_folder))
    made = []
    original = engine.fit_filters

    def counted(*args):
        made.append(args)
        return original(*args)

    # Killed before the first checkpoint: it begins again, and alike. Killed after it: it goes on.
    for step, count in ((1, 1), (3, 1), (None, 0)):
        go_on = interrupt_at(step) if step else lambda: None
        monkeypatch.setattr(engine, "fit_filters", counted)
        made.clear()
        if step:
            with pytest.raises(KeyboardInterrupt):
                pretrain(config, work_dir=tmp_path / "broken", data=str(photo_folder))
        else:
            broken = pretrain(config, work_dir=tmp_path / "broken", data=str(photo_folder))
        assert len(made) == count
        go_on()
    assert load_backbone(whole).sha256 == load_backbone(broken).sha256
    assert torch.equal(losses(tmp_path / "whole"), losses(tmp_path / "broken"))


def test_what_a_run_started_from_is_recorded(start):
    paths = {init: start(init) for init in ("he", "gaussian", "kmeans")}
    loaded = {init: load_backbone(path) for init, path in paths.items()}
    assert {init: each.provenance.method for init, each in loaded.items()} == {
        "he": "colorization",
        "gaussian": "colorization, from gaussian",
        "kmeans": "colorization, from k-means",
    }
    assert {each.provenance.config["init"] for each in loaded.values()} == {"he", "gaussian", "kmeans"}
    assert len({recipe_id(each) for each in loaded.values()}) == 3
    record = json.loads((paths["kmeans"].parent / "config.json").read_text())
    assert record["config"]["init"] == "kmeans"
    header = read_colorizer_header(paths["kmeans"].parent / "colorizer.safetensors")
    assert header["provenance"]["method"] == "colorization, from k-means"


def test_a_run_may_start_from_a_backbone_file(start, tiny_config, photo_folder, tmp_path, monkeypatch):
    first = start("kmeans")
    second = start(str(first), method="l_to_ab", name="second")
    assert equal(convolutions(first), convolutions(second))
    loaded = load_backbone(second)
    assert loaded.provenance.method == "l_to_ab, from colorization, from k-means"
    assert loaded.provenance.init_sha256 == load_backbone(first).sha256
    # Wherever the file lies, the run is found finished, and another one has the same recipe.
    monkeypatch.chdir(tmp_path)
    shutil.copy(first, "elsewhere.safetensors")
    monkeypatch.setattr(engine, "_fit_filters", lambda run: pytest.fail("it trains"))
    monkeypatch.setattr(engine, "_setup", lambda run: pytest.fail("it trains"))
    assert start("elsewhere.safetensors", method="l_to_ab", name="second") == second
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    third = load_backbone(start("elsewhere.safetensors", method="l_to_ab", name="third"))
    assert recipe_id(third) == recipe_id(loaded)
    # Another file is another start.
    other = start("kmeans", seed=1)
    with refused(tmp_path / "second", "init_sha256"):
        start(str(other), method="l_to_ab", name="second")
    with refused(tmp_path / "second", "init=he"):
        start("he", method="l_to_ab", name="second")


def test_a_backbone_that_saw_rgb_is_made_gray_for_one_that_sees_lightness(start, capsys):
    colorful = start("he", method="rotation")
    capsys.readouterr()
    made = start(str(colorful), method="colorization", name="gray")
    assert str(colorful) in capsys.readouterr().err
    before, after = (load_backbone(path) for path in (colorful, made))
    expected = make_gray(before.backbone)
    assert after.backbone.arguments == expected.arguments
    assert equal(convolutions(made), {k: v for k, v in expected.state_dict().items() if "conv.weight" in k})
    assert after.provenance.method == "colorization, from rotation made gray"
    assert after.provenance.init_sha256 == before.sha256
    assert after.provenance.init["method"] == "rotation"


def test_fully_connected_layers_are_left_out_where_the_run_has_none(start, capsys, monkeypatch):
    monkeypatch.setattr("pretext.backbones.alexnet.FC_CHANNELS", 8)
    whole = start("he", "backbone.fully_connected=True")
    capsys.readouterr()
    made = start(str(whole), name="without")
    assert "fc6 and fc7" in capsys.readouterr().err
    kept = {name: weight for name, weight in convolutions(whole).items() if not name.startswith("fc")}
    assert equal(kept, convolutions(made))
    assert kept.keys() == convolutions(made).keys()
    with refused(made, received="fully_connected=False", allowed="fully_connected=True"):
        start(str(made), "backbone.fully_connected=True", name="with")


@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [
        ("vgg16", {"width": 1 / 64, "pool5_stride": 2}),
        ("alexnet", {"channels": (8,) * 5, "conv1_padding": 2}),
    ],
)
def test_how_photos_are_padded_and_pooled_may_differ(architecture, arguments, tiny_config, tmp_path):
    """As those of a published VGG-16 and of Larsson et al., whose pool5 strides in pretraining."""
    path, weights = (
        tmp_path / "published.safetensors",
        {"norm": "none", "fully_connected": architecture == "vgg16"},
    )
    narrow = {key: value for key, value in arguments.items() if key in ("width", "channels")}
    published = build(architecture, {"input_space": "rgb", "geometry": "evaluation", **weights, **narrow})
    he_normal_(published, 0)
    save_backbone(published, path, Provenance("published"))
    run = build(architecture, {"input_space": "lightness", **weights, **arguments})
    start_from(run, PretrainingSettings.from_config(tiny_config("colorization", f"init={path}")))
    assert equal(make_gray(published).state_dict(), run.state_dict())
    assert run.arguments["geometry"] == "pretrain"


def test_what_else_differs_is_told_of_a_backbone_that_sees_rgb(start):
    colorful = start("he", "backbone.groups=1", method="rotation")
    with refused(colorful, received="groups=1", allowed="groups=2"):
        start(str(colorful), method="colorization", name="gray")


def test_lightness_is_not_enough_for_a_backbone_that_sees_rgb(start):
    gray = start("he")
    with refused(gray, "input_space=lightness"):
        start(str(gray), method="rotation", name="rgb")


def test_a_run_from_random_filters_may_not_say_so(start, monkeypatch):
    backbone = start("he")
    record = backbone.parent / "config.json"
    content = json.loads(record.read_text())
    del content["config"]["init"]
    record.write_text(json.dumps(content))
    monkeypatch.setattr(engine, "_setup", lambda run: pytest.fail("it trains"))
    assert start("he") == backbone
    with refused(backbone.parent, received="init=kmeans (he there)"):
        start("kmeans", name=backbone.parent.name)


@pytest.fixture
def files(start, tmp_path):
    """Backbone files that a run from lightness cannot start from, by what is wrong with them."""
    good = start("he")
    damaged = bytearray(good.read_bytes())
    damaged[-3] ^= 1
    (tmp_path / "damaged.safetensors").write_bytes(damaged)
    (tmp_path / "junk.safetensors").write_bytes(b"junk" * 100)
    diverged = load_backbone(good)
    torch.nn.init.constant_(diverged.backbone.get_parameter("conv2.conv.weight")[0], math.nan)
    save_backbone(diverged.backbone, tmp_path / "diverged.safetensors", diverged.provenance)
    return {
        "colours": start("he", method="split_brain"),
        "channels": start("he", "backbone.groups=1", name="ungrouped"),
        "damaged": tmp_path / "damaged.safetensors",
        "junk": tmp_path / "junk.safetensors",
        "missing": tmp_path / "missing.safetensors",
        "diverged": tmp_path / "diverged.safetensors",
    }


@pytest.mark.parametrize(
    ("wrong", "fields"),
    [
        ("colours", {"received": "input_mean=(50.0, 0.0, 0.0), input_space=lab, input_std=(25.0, 20.0, 20.0)",
                     "allowed": "input_mean=(50.0,), input_space=lightness, input_std=(25.0,)"}),
        ("channels", {"received": "groups=1", "allowed": "groups=2"}),
        ("damaged", {}),
        ("junk", {}),
        ("missing", {}),
        ("diverged", {"received": "conv2.conv.weight"}),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_refused_before_any_photo_is_read(
    wrong, fields, files, tiny_config, tmp_path, monkeypatch
):
    monkeypatch.setattr(engine, "open_photos", lambda path: UnreadPhotos())
    config = tiny_config("colorization", f"init={files[wrong]}")
    with refused(*([files[wrong]] if wrong != "missing" else []), **fields):
        pretrain(config, work_dir=tmp_path / "run", data="photos")
    assert not (tmp_path / "run").exists()


def test_another_architecture_is_refused(start, tiny_config, tmp_path):
    config = tiny_config("colorization", f"init={start('he')}")
    config["backbone"] = {"architecture": "vgg16", "input_space": "lightness"}
    config["method"]["layer"] = "conv5_3"
    with refused(received="architecture=alexnet", allowed="architecture=vgg16"):
        pretrain(config, work_dir=tmp_path / "run", data="photos")


def test_an_unknown_start_is_refused(tiny_config, photo_folder, tmp_path):
    with refused("init", received="pca", allowed="he, gaussian, kmeans"):
        pretrain(tiny_config("colorization", "init=pca"), work_dir=tmp_path / "run", data=str(photo_folder))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["gaussian", "kmeans"])
def test_what_cannot_be_fitted_is_told_with_a_start_that_can(kind, tiny_config, tmp_path):
    Image.new("RGB", (40, 40), (200, 100, 50)).save(tmp_path / "photo.png")
    (tmp_path / "list.txt").write_text("photo.png\n" * 12)
    config = tiny_config("rotation", f"init={kind}")
    with refused("photos", allowed="init=he") as told:
        pretrain(config, work_dir=tmp_path / "run", data=str(tmp_path / "list.txt"))
    assert "128" in told.value.allowed
    assert not (tmp_path / "run" / "config.json").exists()


def test_the_halves_of_a_split_brain_have_filters_of_their_own_channels(start):
    path = start("kmeans", method="split_brain")
    weight = convolutions(path)["conv1.conv.weight"]
    assert not weight[:4, 1:].any()
    assert not weight[4:, :1].any()
    conv3 = convolutions(path)["conv3.conv.weight"]
    assert not conv3[:8, 8:].any()
    assert not conv3[8:, :8].any()
    assert all(bool(part.flatten(1).std(1).gt(0).all()) for part in (conv3[:8, :8], conv3[8:, 8:]))


def test_the_first_half_is_what_a_network_of_its_size_makes_of_lightness():
    photos = torch.randint(0, 256, (24, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    photos = torch.nn.functional.interpolate(photos.float(), size=96, mode="bilinear").to(torch.uint8)
    halves = AlexNet("lab", channels=(32, 32, 32, 32, 32))
    alone = AlexNet("lightness", channels=(16, 32, 32, 32, 32))
    he_normal_(halves, 0)
    initialize_from_data(halves, photos, "kmeans", 0, {"conv1": 1, "conv3": 16})
    initialize_from_data(alone, photos, "kmeans", 0)
    own, lightness = halves.conv1.conv.weight, alone.conv1.conv.weight
    torch.testing.assert_close(own[:16, :1], lightness)
    assert not own[:16, 1:].any()


def test_the_config_of_the_paper_starts_as_the_paper_did():
    inits = {name: load_config("pretext", name)["init"] for name in config_names("pretext")}
    assert {name for name, init in inits.items() if init == "kmeans"} == {
        *("colorization", "colorization_colornet", "colorization_vgg16"),
        *("zhang2016_alexnet", "zhang2016_vgg"),
    }
    assert set(inits.values()) == {"he", "kmeans"}


@pytest.mark.slow
def test_two_processes_start_as_one_does(photo_folder, tmp_path):
    def run(gpus, batch_size):
        words = [word for word in SMALL_WORDS if word != "batch_size=4"]
        words += ["init=kmeans", f"batch_size={batch_size}", "steps=6", "optimizer.type=SGD"]
        work_dir = tmp_path / str(gpus)
        subprocess.run(
            command("colorization", *words, "optimizer.lr=0.001", work_dir=work_dir, data=photo_folder),
            check=True,
            env={**os.environ, "GPUS": str(gpus), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        )
        header = read_header(work_dir / "backbone.safetensors")
        assert header["provenance"]["processes"] == gpus
        assert header["provenance"]["method"] == "colorization, from k-means"
        return losses(work_dir)

    torch.testing.assert_close(run(1, 8), run(2, 4), atol=1e-5, rtol=1e-5)
