import json
import pickle

import pytest
import torch
from refusals import refused
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_alexnet import small_alexnet as with_few_channels
from torch import nn
from trained import photos, trained

from pretext.__main__ import main
from pretext.backbones import VGG16, AlexNet, ColorNet
from pretext.backbones.checkpoint import Provenance, load_backbone, save_backbone
from pretext.backbones.header import layers_of, read_header
from pretext.backbones.surgery import absorb_batch_norm, add_color_channels, drop_fully_connected, make_gray
from pretext.color.lab import rgb_to_lab


@pytest.fixture
def saved(tmp_path):
    backbone = trained(AlexNet("lab", groups=2, geometry="pretrain"))
    path = tmp_path / "backbone.safetensors"
    sha256 = save_backbone(backbone, path, Provenance("colorization", seed=7, step=10, config={"a": [1]}))
    return backbone, path, sha256


def test_what_is_saved_is_loaded(saved):
    backbone, path, sha256 = saved
    loaded = load_backbone(path)
    assert loaded.sha256 == sha256
    assert loaded.provenance == Provenance("colorization", seed=7, step=10, config={"a": [1]})
    assert loaded.backbone.arguments == backbone.arguments
    assert not loaded.backbone.training
    for layer in backbone.layer_names:
        assert torch.equal(loaded.backbone(photos(), [layer])[layer], backbone(photos(), [layer])[layer])


def test_the_header_says_how_to_use_the_weights(saved):
    header = read_header(saved[1])
    assert header["architecture"] == "alexnet"
    assert header["input"] == {"space": "lab", "channels": 3, "mean": [50, 0, 0], "std": [25, 20, 20]}
    assert header["layers"][0] == {"name": "conv1", "channels": 96, "stride": 4, "offset": 0.0}
    assert header["batch_norm"] == "kept"


def test_the_geometry_can_be_changed_on_loading_and_does_not_change_the_hash(saved):
    _, path, sha256 = saved
    loaded = load_backbone(path, geometry="evaluation")
    assert loaded.sha256 == sha256
    assert loaded.backbone(photos(128), ["conv5"])["conv5"].shape[-1] == 7


@pytest.mark.parametrize(
    "make", [lambda: AlexNet(groups=2), lambda: VGG16("rgb"), lambda: AlexNet(norm="batch_no_affine")]
)
def test_absorbing_batch_norm_keeps_the_features(make):
    backbone = trained(make())
    absorbed = absorb_batch_norm(backbone)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in absorbed.modules())
    top = backbone.layer_names[-2]
    expected = backbone(photos(), [top])[top]
    torch.testing.assert_close(absorbed(photos(), [top])[top], expected, atol=1e-4, rtol=1e-4)


def test_batch_norm_after_a_relu_cannot_be_absorbed():
    with refused(received="colornet", allowed="batch_norm=frozen"):
        absorb_batch_norm(ColorNet())


@pytest.mark.parametrize("geometry", ["pretrain", "evaluation"])
@pytest.mark.parametrize("name", ["alexnet", "vgg16"])
def test_dropping_fc6_and_fc7_keeps_the_features_below_them(name, geometry, narrow):
    backbone = trained(narrow[name]("lab", fully_connected=True, geometry=geometry))
    dropped = drop_fully_connected(backbone)
    assert backbone.layer_names == (*dropped.layer_names, "fc6", "fc7")
    assert not any(key.startswith("fc") for key in dropped.state_dict())
    assert dropped.arguments == backbone.arguments | {"fully_connected": False}
    assert torch.equal(dropped.features(photos(), "pool5"), backbone.features(photos(), "pool5"))


@pytest.mark.parametrize(
    ("change", "space"),
    [
        (absorb_batch_norm, "lightness"),
        (add_color_channels, "lightness"),
        (drop_fully_connected, "lightness"),
        (make_gray, "rgb"),
    ],
)
@pytest.mark.parametrize("arguments", [{}, {"norm": "none"}])
def test_surgery_returns_a_new_backbone_in_the_same_mode_and_leaves_the_old_one(change, space, arguments):
    backbone = trained(AlexNet(space, **arguments)).train()
    before, layers = {k: v.clone() for k, v in backbone.state_dict().items()}, backbone.layers
    changed = change(backbone)
    assert changed.training
    for weight in changed.parameters():
        weight.data.fill_(7.0)
    assert backbone.layers == layers
    assert backbone.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_surgery_is_possible_without_anything_to_change():
    color = trained(ColorNet())
    assert drop_fully_connected(color).state_dict().keys() == color.state_dict().keys()


@pytest.mark.parametrize("make", [AlexNet, VGG16, ColorNet])
def test_colour_channels_change_nothing_until_they_are_trained(make):
    backbone = trained(make(input_mean=[40.0], input_std=[30.0]))
    colored = add_color_channels(backbone)
    assert (colored.input_space, colored.training) == ("lab", False)
    top = backbone.layer_names[-2]
    with torch.no_grad():
        torch.testing.assert_close(colored(photos(), [top]), backbone(photos(), [top]), rtol=1e-4, atol=1e-4)
    inputs = colored.prepare(photos())
    torch.testing.assert_close(inputs[:, :1], backbone.prepare(photos()))
    lab = rgb_to_lab(photos())
    torch.testing.assert_close(inputs[:, 1:], lab[:, 1:] * 0.69308239 / 30, rtol=1e-4, atol=1e-5)


def test_a_backbone_that_sees_colour_gets_no_more():
    with refused("input_space", received="rgb", allowed=("lightness",)):
        add_color_channels(AlexNet("rgb"))


def test_untrained_backbones_follow_the_seed(saved):
    first, again, other = (load_backbone("random:alexnet", seed=seed) for seed in (0, 0, 1))
    assert first.sha256 == again.sha256 != other.sha256
    assert first.provenance.method == "random"
    twin = load_backbone(f"random:{saved[1]}", seed=0)
    assert twin.backbone.arguments == saved[0].arguments
    assert twin.sha256 != saved[2]


def test_untrained_backbones_see_the_colours_they_are_told():
    rgb = load_backbone("random:alexnet:rgb").backbone
    assert rgb.input_space == "rgb"
    assert rgb.arguments == AlexNet("rgb").arguments
    assert layers_of("random:alexnet:lab") == rgb.layer_names
    with refused("input_space", received="gray", allowed="rgb"):
        load_backbone("random:alexnet:gray")


def test_a_missing_and_an_unexpected_key_are_listed(saved):
    _, path, _ = saved
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    weights = load_file(path)
    weights["conv9.weight"] = weights.pop("conv3.conv.weight")
    save_file(weights, path, metadata)
    with refused(path, "alexnet", "missing conv3.conv.weight", "unexpected conv9.weight"):
        load_backbone(path)


def test_a_wrong_shape_is_listed(saved):
    _, path, _ = saved
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    weights = load_file(path)
    weights["conv1.conv.weight"] = torch.zeros(96, 1, 11, 11)
    save_file(weights, path, metadata)
    with refused(path, "alexnet", "conv1.conv.weight (96, 1, 11, 11) instead of (96, 3, 11, 11)"):
        load_backbone(path)


def test_changed_weights_are_noticed(saved):
    _, path, sha256 = saved
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    weights = load_file(path)
    weights["conv1.conv.weight"][0, 0, 0, 0] += 1
    save_file(weights, path, metadata)
    with refused(path, "SHA-256", allowed=sha256[:12]):
        load_backbone(path)


def test_weights_that_are_not_numbers_are_named(saved):
    backbone, path, _ = saved
    torch.nn.init.constant_(backbone.get_parameter("conv1.conv.weight")[0], torch.nan)
    save_backbone(backbone, path, load_backbone(path).provenance)
    with refused(path, "finite", received="conv1.conv.weight"):
        load_backbone(path)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


def test_a_pickle_is_refused_and_never_opened(tmp_path):
    path = tmp_path / "backbone.safetensors"
    path.write_bytes(pickle.dumps(Bomb()))
    with refused(path, allowed="safetensors"):
        load_backbone(path)


def test_other_safetensors_missing_files_and_formats_are_refused(tmp_path, saved):
    other = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, other)
    with refused(other, "metadata", allowed="backbone.safetensors"):
        load_backbone(other)
    for key, kind in (("format", "safetensors"), ("pretext_colorizer", "colorizer")):
        save_file({"a": torch.zeros(1)}, other, {key: "pt"})
        with refused(other, "backbone file", received=f"a {kind} file", allowed="backbone.safetensors"):
            load_backbone(other)
    with refused(received=str(tmp_path / "gone.safetensors"), allowed="alexnet"):
        load_backbone(tmp_path / "gone.safetensors")
    with refused(received="random:resnet", allowed="alexnet"):
        load_backbone("random:resnet")
    header = read_header(saved[1]) | {"format_version": 99}
    save_file(load_file(saved[1]), other, {"pretext_transfer": json.dumps(header)})
    with refused(other, received=99, allowed=(1,)):
        load_backbone(other)


def change_header(path, change):
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["pretext_transfer"])
    change(header)
    save_file(load_file(path), path, {"pretext_transfer": json.dumps(header)})


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda header: header.pop("architecture"), "architecture"),
        (lambda header: header.pop("sha256"), "sha256"),
        (lambda header: header.update(arguments=[1]), "arguments"),
        (lambda header: header.pop("layers"), "layers"),
        (lambda header: header["provenance"].pop("method"), "provenance.method"),
    ],
)
def test_a_damaged_header_is_an_error_that_names_the_key(saved, change, key):
    change_header(saved[1], change)
    with refused(saved[1], received=key):
        load_backbone(saved[1])


def test_arguments_that_build_nothing_are_an_error(saved):
    change_header(saved[1], lambda header: header["arguments"].update(groups=5))
    with refused("alexnet", "divisible by groups", "'groups': 5"):
        load_backbone(saved[1])


def test_what_a_newer_version_adds_to_the_provenance_is_left_out(saved):
    change_header(saved[1], lambda header: header["provenance"].update(hours=3))
    assert load_backbone(saved[1]).provenance.seed == 7


def gray_values():
    """Gray values in [0, 1] of two photos, (2, 1, 96, 96)."""
    return torch.rand(2, 1, 96, 96, generator=torch.Generator().manual_seed(3), dtype=torch.double)


@pytest.mark.parametrize("statistics", [{}, {"input_mean": [0.3, 0.5, 0.6], "input_std": [0.2, 0.3, 0.1]}])
@pytest.mark.parametrize("norm", ["batch", "batch_no_affine", "none"])
@torch.no_grad()
def test_made_gray_it_sees_in_gray_photos_what_it_saw(norm, statistics):
    # Nothing is padded here, and so the features are equal everywhere.
    backbone = trained(with_few_channels("rgb", geometry="evaluation", norm=norm, **statistics)).double()
    gray = make_gray(backbone, 40.0, 30.0).double()
    assert (gray.input_space, gray.arguments["input_mean"], gray.arguments["input_std"]) == (
        "lightness",
        (40.0,),
        (30.0,),
    )
    values = gray_values()
    before = backbone.extract(backbone.normalize(values.expand(-1, 3, -1, -1)), ["conv5"])["conv5"]
    after = gray.extract(gray.normalize(100 * values), ["conv5"])["conv5"]
    assert before.std() > 1e-3
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", [VGG16, ColorNet])
@torch.no_grad()
def test_made_gray_a_padded_network_differs_at_the_border_alone(make, narrow):
    backbone = trained(narrow[make.architecture](input_space="rgb")).double()
    gray = make_gray(backbone).double()
    first = next(module for module in (backbone.modules()) if isinstance(module, torch.nn.Conv2d))
    second = next(module for module in (gray.modules()) if isinstance(module, torch.nn.Conv2d))
    values = gray_values()
    before = first(backbone.normalize(values.expand(-1, 3, -1, -1)))
    after = second(gray.normalize(100 * values))
    if first.bias is None:
        # The batch norm takes what the means differ by.
        before = before - backbone.conv1_1.norm.running_mean.view(1, -1, 1, 1)
        after = after - gray.conv1_1.norm.running_mean.view(1, -1, 1, 1)
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    torch.testing.assert_close(after[inner], before[inner], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(after, before, atol=1e-3)


def test_lightness_has_units_near_those_of_gray_values():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 1, 256).expand(1, 3, 1, 256)
    apart = rgb_to_lab(levels)[0, 0, 0] - 100 * torch.arange(256) / 255
    assert (round(float(apart.max()), 1), round(float(apart.min()), 1)) == (3.4, -1.6)
    assert (int(apart.argmax()), int(apart.argmin())) == (128, 17)


@pytest.mark.parametrize("space", ["lightness", "lab"])
def test_only_rgb_is_made_gray(space):
    with refused("input_space", received=space, allowed=("rgb",)):
        make_gray(with_few_channels(space))


def test_the_command_gray_writes_what_it_was_made_of(tmp_path, capsys):
    source, out = tmp_path / "rgb.safetensors", tmp_path / "gray.safetensors"
    backbone = trained(with_few_channels("rgb"))
    sha256 = save_backbone(backbone, source, Provenance("supervised", seed=4, config={"steps": 3}))
    assert main(["gray", str(source), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    made = load_backbone(out)
    assert made.backbone.input_space == "lightness"
    assert made.provenance.method == "supervised made gray"
    assert (made.provenance.seed, made.provenance.init_sha256) == (4, sha256)
    assert made.provenance.init["config"] == {"steps": 3}
    assert main(["gray", str(out), "--out", str(tmp_path / "again.safetensors")]) == 2
    error = capsys.readouterr().err
    assert all(word in error for word in ("gray.safetensors", "lightness", "rgb"))
    assert not (tmp_path / "again.safetensors").exists()
