import json
import pickle
import subprocess
import sys

import pytest
import torch
from made_photos import smooth_photos
from refusals import refused
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_alexnet import small_alexnet
from torch import nn

from pretext.backbones.checkpoint import Provenance, load_backbone, save_backbone
from pretext.backbones.initializers import he_normal_
from pretext.color.bins import ab_bins
from pretext.color.decode import annealed_mean
from pretext.color.lab import rgb_to_lab, rgb_to_lightness
from pretext.color.spaces import AbBins, LightnessBins, RebalancedAbBins, ab_regression
from pretext.colorize.colorizer import (
    ColorHead,
    Colorizer,
    colorizer_sha256,
    lightness_at,
    load_colorizer,
    save_colorizer,
)
from pretext.colorize.header import read_colorizer_header
from pretext.colorize.heads import Grid
from pretext.colorize.painting import lightness_of, paint, predict
from pretext.data.sources import open_photos
from pretext.methods import Autoencoder, Colorization, SplitBrain
from pretext.training.engine import pretrain

PROVENANCE = Provenance("colorization", seed=7, step=10, data="photos", config={"a": [1]})
METHODS = {
    "rebalanced": lambda: Colorization(small_alexnet("lightness"), prior="imagenet"),
    "classification": lambda: Colorization(small_alexnet("lightness"), loss="classification", neighbors=1),
    "gamut": lambda: Colorization(small_alexnet("lightness"), loss="classification", bins="gamut_center"),
    "l2": lambda: Colorization(small_alexnet("lightness"), loss="l2"),
    "lab_marginals": lambda: Colorization(small_alexnet("lightness"), loss="lab_marginals"),
    "lab_joint": lambda: Colorization(small_alexnet("lightness"), loss="lab_joint"),
    "hue_chroma": lambda: Colorization(small_alexnet("lightness"), loss="hue_chroma"),
    "hidden": lambda: Colorization(small_alexnet("lightness"), loss="l2", layer="conv4", head_channels=8),
    "split-brain": lambda: SplitBrain(small_alexnet("lab", groups=1)),
    "split-brain regression": lambda: SplitBrain(small_alexnet("lab"), loss="regression"),
}


@pytest.fixture(scope="module")
def image():
    return smooth_photos(2)


@pytest.fixture
def lightness(image):
    return rgb_to_lightness(image)


@pytest.fixture(params=METHODS)
def method(request, photo_folder, tmp_path):
    made = METHODS[request.param]()
    he_normal_(made, 0)
    made.setup(open_photos(photo_folder), tmp_path)
    return made.eval()


@pytest.fixture
def saved(tmp_path):
    """A colorizer, its file and its hash."""
    space = RebalancedAbBins(ab_bins(), temperature=0.5)
    space.balance(torch.arange(1.0, 314), mix=0.5)
    made = Colorizer(small_alexnet("lightness"), ColorHead(32, 313, 8), space, "conv5").eval()
    he_normal_(made, 0)
    path = tmp_path / "colorizer.safetensors"
    return made, path, save_colorizer(made, path, PROVENANCE)


@torch.no_grad()
def test_what_is_saved_predicts_the_same_once_it_is_loaded(method, lightness, tmp_path):
    colorizer = method.colorizer()
    path = tmp_path / "colorizer.safetensors"
    sha256 = save_colorizer(colorizer, path, PROVENANCE)
    loaded = load_colorizer(path)
    assert sha256 == colorizer_sha256(loaded) == read_colorizer_header(path)["sha256"]
    assert loaded.provenance == PROVENANCE
    assert not any(module.training for module in loaded.modules())
    assert loaded.layer == method.layer
    assert type(loaded.space) is type(colorizer.space)
    assert loaded.space.arguments() == colorizer.space.arguments()
    assert torch.equal(loaded.predict(lightness), colorizer.predict(lightness))
    colors, expected = loaded(lightness), colorizer(lightness)
    assert torch.equal(colors.ab, expected.ab)
    assert (colors.distribution is None) == (expected.distribution is None)
    if colors.distribution is not None:
        assert torch.equal(colors.distribution, expected.distribution)


@torch.no_grad()
@pytest.mark.parametrize("method", ["rebalanced", "classification", "gamut", "l2"], indirect=True)
def test_a_loaded_colorizer_paints_what_previews_show(method, image, lightness, tmp_path):
    save_colorizer(method.colorizer(), tmp_path / "colorizer.safetensors", PROVENANCE)
    loaded = load_colorizer(tmp_path / "colorizer.safetensors")
    assert torch.equal(loaded.predict(lightness), method.predict(lightness))
    for photo, preview in zip(image, method.preview(image), strict=True):
        painted = paint(lightness_of(photo), predict(loaded, photo, 64).ab[0])
        assert torch.equal(torch.cat([photo, painted], 2), preview[..., 64:])


@torch.no_grad()
@pytest.mark.parametrize("method", ["split-brain", "split-brain regression"], indirect=True)
def test_half_a_brain_colours_gray_photos_as_it_did_colour_photos(method, image, lightness):
    # It never saw their colours, so that it does not miss them.
    ab, _ = method.predict(rgb_to_lab(image))
    assert torch.equal(method.colorizer().predict(lightness), ab)


def test_a_colorizer_shares_the_weights_of_its_method(method):
    colorizer = method.colorizer()
    ours = {parameter.data_ptr() for parameter in colorizer.parameters()}
    assert ours <= {parameter.data_ptr() for parameter in method.parameters()}
    assert {parameter.data_ptr() for parameter in method.backbone.parameters()} < ours


@torch.no_grad()
def test_the_result_is_the_distribution_and_its_annealed_mean(saved, lightness):
    colorizer = saved[0]
    ab, distribution, _ = colorizer(lightness)
    assert (ab.shape, distribution.shape) == ((2, 2, 5, 5), (2, 313, 5, 5))
    torch.testing.assert_close(distribution.sum(1), torch.ones(2, 5, 5))
    torch.testing.assert_close(ab, annealed_mean(colorizer.predict(lightness), ab_bins(), 0.5))
    # From a distribution that was kept, with the same temperature or another.
    torch.testing.assert_close(colorizer.decode(distribution, 0.5), ab, rtol=1e-4, atol=1e-4)
    expected = torch.einsum("nqhw,qc->nchw", distribution, ab_bins())
    torch.testing.assert_close(colorizer.decode(distribution, 1.0), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("stride", "offset", "size"), [(4, 1.5, (3, 5)), (4, 0.0, (3, 6)), (8, -2.5, (2, 3)), (1, 0.0, (12, 20))]
)
def test_lightness_is_the_mean_around_each_position(stride, offset, size):
    lightness = torch.rand(2, 1, 12, 20, generator=torch.Generator().manual_seed(0)) * 100
    seen = lightness_at(lightness, Grid(stride, offset, stride), torch.zeros(2, 3, *size))
    first = round(offset - (stride - 1) / 2)
    for y in range(size[0]):
        for x in range(size[1]):
            rows, columns = (
                [min(max(first + at * stride + step, 0), length - 1) for step in range(stride)]
                for at, length in ((y, 12), (x, 20))
            )
            expected = lightness[:, :, rows][..., columns].mean((2, 3))
            torch.testing.assert_close(seen[:, :, y, x], expected)


def test_probabilities_that_are_zero_can_be_decoded(saved):
    distribution = torch.zeros(1, 313, 1, 1)
    distribution[0, 5] = 1
    assert torch.equal(saved[0].decode(distribution, 0.38).flatten(), ab_bins()[5])


def test_values_have_no_temperature(lightness):
    colorizer = Colorizer(small_alexnet("lightness"), ColorHead(32, 2), ab_regression(), "conv5").eval()
    colors = colorizer(lightness)
    assert colors.distribution is None
    assert torch.equal(colors.ab, colorizer.predict(lightness) * 20)
    with refused(received="regression"):
        colorizer.decode(colors.distribution, 1.0)


def test_colours_are_in_single_precision_under_autocast(saved, lightness):
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert {value.dtype for value in saved[0](lightness)} == {torch.float32}


@pytest.mark.parametrize(
    ("change", "names", "received"),
    [
        ({"backbone": small_alexnet("rgb")}, ["input_space"], "rgb"),
        ({"layer": "conv9"}, ["layer"], "conv9"),
        ({"head": ColorHead(32, 50), "space": LightnessBins()}, ["ab"], "lightness_bins"),
        ({"head": ColorHead(32, 3)}, ["conv5", "regression"], (32, 3)),
        ({"head": ColorHead(33, 2)}, ["conv5"], (33, 2)),
    ],
)
def test_parts_that_do_not_fit_are_refused(change, names, received):
    parts = {
        "backbone": small_alexnet("lightness"),
        "head": ColorHead(32, 2),
        "space": ab_regression(),
        "layer": "conv5",
    }
    Colorizer(**parts)
    with refused(*names, received=received):
        Colorizer(**(parts | change))


def test_the_header_says_how_to_build_it_and_needs_no_torch(saved):
    path = saved[1]
    code = (
        "import json, pathlib, sys; from pretext.colorize.header import read_colorizer_header;"
        f"header = read_colorizer_header(pathlib.Path({str(path)!r}));"
        "assert not {'torch', 'numpy', 'safetensors'} & sys.modules.keys(); print(json.dumps(header))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    header = json.loads(done.stdout)
    assert header["architecture"] == "alexnet"
    assert header["arguments"]["input_space"] == "lightness"
    assert (header["layer"], header["head"]) == ("conv5", {"in_channels": 32, "hidden_channels": 8})
    assert header["space"] == "rebalanced_ab_bins"
    assert header["space_arguments"]["bins"] == ab_bins().tolist()
    assert header["space_arguments"]["temperature"] == 0.5
    assert header["provenance"]["config"] == {"a": [1]}


def rewritten(path, weights=None, change=lambda header: None):
    """Write a colorizer file anew, with other weights or a changed header."""
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["pretext_colorizer"])
    change(header)
    save_file(weights or load_file(path), path, {"pretext_colorizer": json.dumps(header)})


def test_missing_unexpected_and_misshapen_weights_are_listed(saved):
    path, weights = saved[1], load_file(saved[1])
    weights["head.9.weight"] = weights.pop("head.3.weight")
    weights["backbone.conv1.conv.weight"] = torch.zeros(16, 3, 11, 11)
    rewritten(path, weights)
    with refused(
        path,
        "missing head.3.weight",
        "unexpected head.9.weight",
        "backbone.conv1.conv.weight (16, 3, 11, 11)",
    ):
        load_colorizer(path)


@pytest.mark.parametrize("key", ["backbone.conv1.conv.weight", "head.3.bias", "space.bin_weights"])
def test_changed_weights_are_noticed(saved, key):
    path, weights = saved[1], load_file(saved[1])
    weights[key].view(-1)[0] += 1
    rewritten(path, weights)
    with refused(path, "SHA-256", allowed=saved[2][:12]):
        load_colorizer(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header["space_arguments"].update(temperature=0.4),
        lambda header: header["space_arguments"]["bins"][7].__setitem__(0, 1.5),
        lambda header: header.update(space="ab_bins", sha256="0" * 64),
    ],
)
def test_a_changed_description_is_noticed(saved, change):
    weights = load_file(saved[1])
    rewritten(saved[1], weights, change)
    header = read_colorizer_header(saved[1])
    if header["space"] == "ab_bins":
        del weights["space.bin_weights"]
        save_file(weights, saved[1], {"pretext_colorizer": json.dumps(header)})
    with refused(saved[1], "SHA-256"):
        load_colorizer(saved[1])


@pytest.mark.parametrize(
    ("change", "names", "fields"),
    [
        (lambda header: header.update(format_version=99), [], {"received": 99, "allowed": (1,)}),
        (lambda header: header.pop("space"), [], {"received": "space"}),
        (lambda header: header.pop("sha256"), [], {"received": "sha256"}),
        (lambda header: header.update(head=[1]), [], {"received": "head"}),
        (lambda header: header["provenance"].pop("method"), [], {"received": "provenance.method"}),
        (lambda header: header.update(space="hsv"), [], {"received": "hsv", "allowed": "ab_bins"}),
        (lambda header: header.update(layer="conv9"), ["layer"], {"received": "conv9"}),
        (lambda header: header.update(architecture="resnet"), [], {"received": "resnet", "allowed": "alexnet"}),
        (lambda header: header["space_arguments"].update(flavor=3), ["rebalanced_ab_bins", "flavor"], {}),
        (lambda header: header["space_arguments"].update(bins=[]), ["rebalanced_ab_bins"], {}),
        (lambda header: header["space_arguments"].update(neighbors=0), ["neighbors"], {"received": 0}),
        (lambda header: header["head"].update(hidden_channels="8"), ["head", "'8'"], {}),
        (lambda header: header["head"].update(in_channels=33), ["conv5"], {"received": (33, 313)}),
    ],
)  # fmt: skip
def test_a_header_that_describes_no_colorizer_is_an_error(saved, change, names, fields):
    rewritten(saved[1], change=change)
    with refused(*names, **fields):
        load_colorizer(saved[1])


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


def test_other_files_are_refused_and_pickles_never_opened(saved, tmp_path):
    with refused(received=str(tmp_path / "gone.safetensors")):
        load_colorizer(tmp_path / "gone.safetensors")
    other = tmp_path / "other.safetensors"
    other.write_bytes(pickle.dumps(Bomb()))
    with refused(other, allowed="colorizer.safetensors"):
        load_colorizer(other)
    save_backbone(saved[0].backbone, other, PROVENANCE)
    with refused(other, "not a colorizer file", received="a backbone file"):
        load_colorizer(other)
    with refused(saved[1], "not a backbone file", received="a colorizer file"):
        load_backbone(saved[1])


def test_a_file_that_was_cut_off_is_an_error(saved):
    saved[1].write_bytes(saved[1].read_bytes()[:-10])
    with refused(saved[1], allowed="copy the file again"):
        load_colorizer(saved[1])


def test_a_head_is_convolutions_with_the_classifier_last():
    head = ColorHead(8, 3, 4)
    assert [type(layer) for layer in head] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Conv2d]
    assert [type(layer) for layer in ColorHead(8, 3)] == [nn.Conv2d]
    assert head(torch.zeros(2, 8, 5, 6)).shape == (2, 3, 5, 6)


@pytest.mark.parametrize("name", ["colorization", "l_to_ab", "split_brain"])
def test_a_run_leaves_its_colorizer_beside_the_backbone(name, tiny_config, photo_folder, tmp_path):
    config = tiny_config(name, "view.size=64", "view.resize=64")
    backbone = load_backbone(pretrain(config, work_dir=tmp_path / "run", data=str(photo_folder)))
    colorizer = load_colorizer(tmp_path / "run" / "colorizer.safetensors")
    assert colorizer.provenance == backbone.provenance
    weights = colorizer.backbone.state_dict()
    assert all(torch.equal(weights[key], value) for key, value in backbone.backbone.state_dict().items())
    assert isinstance(colorizer.space, RebalancedAbBins if name == "colorization" else AbBins)
    assert colorizer.space.encoder.neighbors == (5 if name == "colorization" else 1)


def test_methods_that_do_not_colour_leave_none(tiny_config, photo_folder, tmp_path):
    assert Autoencoder(small_alexnet("lab")).colorizer() is None
    pretrain(tiny_config("rotation"), work_dir=tmp_path / "run", data=str(photo_folder))
    assert not (tmp_path / "run" / "colorizer.safetensors").exists()


def test_a_finished_run_of_before_stays_finished_without_one(
    run_config, finished_run, photo_folder, tmp_path
):
    (tmp_path / "run").mkdir()
    for name in ("config.json", "backbone.safetensors", "prior.json"):
        (tmp_path / "run" / name).write_bytes((finished_run / name).read_bytes())
    pretrain(run_config, work_dir=tmp_path / "run", data=str(photo_folder))
    assert not (tmp_path / "run" / "colorizer.safetensors").exists()
    assert (finished_run / "colorizer.safetensors").is_file()
