import json
import pickle

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from trained import photos, trained

from pretext.backbones import VGG16, AlexNet, ColorNet
from pretext.backbones.checkpoint import (
    Provenance,
    absorb_batch_norm,
    add_color_channels,
    layers_of,
    load_backbone,
    read_header,
    save_backbone,
)
from pretext.color.lab import rgb_to_lab
from pretext.errors import InputError


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
    with pytest.raises(
        InputError, match=r"colornet cannot be absorbed.*batch_norm=frozen or batch_norm=train"
    ):
        absorb_batch_norm(ColorNet())


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
    with pytest.raises(InputError, match="only a backbone that sees lightness .* received input_space=rgb"):
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
    with pytest.raises(InputError, match="unknown input_space: received 'gray'"):
        load_backbone("random:alexnet:gray")


def test_a_missing_and_an_unexpected_key_are_listed(saved):
    _, path, _ = saved
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    weights = load_file(path)
    weights["conv9.weight"] = weights.pop("conv3.conv.weight")
    save_file(weights, path, metadata)
    with pytest.raises(
        InputError, match=r"missing conv3.conv.weight; unexpected conv9.weight; of a wrong shape none"
    ):
        load_backbone(path)


def test_a_wrong_shape_is_listed(saved):
    _, path, _ = saved
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    weights = load_file(path)
    weights["conv1.conv.weight"] = torch.zeros(96, 1, 11, 11)
    save_file(weights, path, metadata)
    with pytest.raises(InputError, match=r"conv1.conv.weight \(96, 1, 11, 11\) instead of \(96, 3, 11, 11\)"):
        load_backbone(path)


def test_changed_weights_are_noticed(saved):
    _, path, _ = saved
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    weights = load_file(path)
    weights["conv1.conv.weight"][0, 0, 0, 0] += 1
    save_file(weights, path, metadata)
    with pytest.raises(InputError, match="is damaged: its weights have SHA-256"):
        load_backbone(path)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


def test_a_pickle_is_refused_and_never_opened(tmp_path):
    path = tmp_path / "backbone.safetensors"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InputError, match="is not a backbone file.*Pickled checkpoints are never opened"):
        load_backbone(path)


def test_other_safetensors_missing_files_and_formats_are_refused(tmp_path, saved):
    other = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, other)
    with pytest.raises(InputError, match="is not a backbone file"):
        load_backbone(other)
    with pytest.raises(InputError, match=r"no backbone file: received .*gone.safetensors; allowed are"):
        load_backbone(tmp_path / "gone.safetensors")
    with pytest.raises(
        InputError, match=r"unknown untrained backbone: received 'random:resnet', allowed are"
    ):
        load_backbone("random:resnet")
    header = read_header(saved[1]) | {"format_version": 99}
    save_file(load_file(saved[1]), other, {"pretext_transfer": json.dumps(header)})
    with pytest.raises(InputError, match="of format 99; this version reads format 1"):
        load_backbone(other)


def change_header(path, change):
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["pretext_transfer"])
    change(header)
    save_file(load_file(path), path, {"pretext_transfer": json.dumps(header)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: header.pop("architecture"), "a damaged header: .* wrong type are architecture;"),
        (lambda header: header.pop("sha256"), "a damaged header: .* wrong type are sha256;"),
        (lambda header: header.update(arguments=[1]), "a damaged header: .* wrong type are arguments;"),
        (lambda header: header["provenance"].pop("method"), "wrong type are provenance.method;"),
        (
            lambda header: header["arguments"].update(groups=5),
            "alexnet cannot be built .*divisible by groups",
        ),
    ],
)
def test_a_damaged_header_is_an_error_that_names_the_key(saved, change, message):
    change_header(saved[1], change)
    with pytest.raises(InputError, match=message):
        load_backbone(saved[1])


def test_what_a_newer_version_adds_to_the_provenance_is_left_out(saved):
    change_header(saved[1], lambda header: header["provenance"].update(hours=3))
    assert load_backbone(saved[1]).provenance.seed == 7
