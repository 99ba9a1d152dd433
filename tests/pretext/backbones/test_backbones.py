import pytest
import torch
from refusals import refused
from torch.nn import functional as F

from pretext.backbones import VGG16, AlexNet, ColorNet
from pretext.backbones.base import Layer
from pretext.backbones.checkpoint import ARCHITECTURES
from pretext.backbones.initializers import he_normal_
from pretext.color.bins import ab_bins


def photos(side: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(
        0, 256, (2, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def sizes(backbone: torch.nn.Module, side: int) -> dict[str, int]:
    with torch.no_grad():
        features = backbone.eval()(photos(side)[:1], backbone.layer_names)
    return {name: value.shape[-1] for name, value in features.items()}


def test_alexnet_pretraining_geometry_is_that_of_the_paper():
    # Zhang et al.: 180 pixels -> 45 -> pool 23 -> pool 12 -> 12 at fc7.
    got = sizes(AlexNet(fully_connected=True), 180)
    expected = {
        "conv1": 45,
        "pool1": 23,
        "conv2": 23,
        "pool2": 12,
        "conv3": 12,
        "conv4": 12,
        "conv5": 12,
        "pool5": 12,
        "fc6": 12,
        "fc7": 12,
    }
    assert got == expected


def test_alexnet_evaluation_geometry_is_caffes():
    got = sizes(AlexNet(geometry="evaluation", fully_connected=True), 227)
    expected = {
        "conv1": 55,
        "pool1": 27,
        "conv2": 27,
        "pool2": 13,
        "conv3": 13,
        "conv4": 13,
        "conv5": 13,
        "pool5": 6,
        "fc6": 1,
        "fc7": 1,
    }
    assert got == expected


def test_vgg_geometry():
    assert sizes(VGG16(geometry="evaluation"), 64) == {
        name: {1: 64, 2: 32, 3: 16, 4: 8, 5: 4}[int(name[4])] if name != "pool5" else 2
        for name in VGG16().layer_names
    }


def test_vgg_keeps_the_stride_of_pool5_and_pads_fc6_as_larsson_et_al_do():
    backbone = VGG16(fully_connected=True, width=1 / 64, pool5_stride=2)
    got = sizes(backbone, 64)
    assert [got[name] for name in ("conv5_3", "pool5", "fc6", "fc7")] == [4, 2, 2, 2]
    assert backbone.layer("fc7") == Layer("fc7", 64, 32, 15.5)
    # The weights are those of the evaluation geometry, whose fc6 is not padded.
    published = VGG16(fully_connected=True, width=1 / 64, pool5_stride=2, geometry="evaluation")
    published.load_state_dict(backbone.state_dict())
    assert published.layer("fc7") == Layer("fc7", 64, 32, 15.5 + 96)


def test_the_width_of_vgg_is_a_share_of_all_channels():
    backbone = VGG16(fully_connected=True, width=1 / 32)
    channels = {layer.name: layer.channels for layer in backbone.layers}
    assert [channels[name] for name in ("conv1_1", "conv3_2", "conv5_3", "fc6", "fc7")] == [
        2,
        8,
        16,
        128,
        128,
    ]
    assert backbone.conv5_3.conv.weight.shape == (16, 16, 3, 3)
    with refused("width", received=1 / 128):
        VGG16(width=1 / 128)
    with refused("pool5_stride", received=3, allowed=(1, 2)):
        VGG16(pool5_stride=3)


def test_a_full_vgg_is_described_as_before_it_had_a_width():
    with torch.device("meta"):
        assert VGG16().arguments.keys() == {
            *("input_space", "geometry", "norm", "input_mean", "input_std", "fully_connected")
        }
        narrow = VGG16(width=0.25, pool5_stride=2).arguments
    assert (narrow["width"], narrow["pool5_stride"]) == (0.25, 2)


def test_colorization_net_counts_as_many_numbers_as_the_authors():
    classifier = torch.nn.Conv2d(256, 313, 1)
    modules = [ColorNet(), classifier]
    count = sum(p.numel() for module in modules for p in module.parameters()) + ab_bins("official313").numel()
    assert count == 32_236_011


def test_colorization_net_has_stride_four():
    assert sizes(ColorNet(), 64)["conv8"] == 16


@pytest.mark.parametrize(("doublings", "stride"), [(2, 2), (3, 1)])
def test_more_doublings_bring_the_colorization_net_to_the_size_of_the_photo(doublings, stride):
    backbone = ColorNet(doublings=doublings, width=0.125).eval()
    assert [layer.channels for layer in backbone.layers] == [8, 16, 32, 64, 64, 64, 64, 32]
    layer = backbone.layer("conv8")
    assert (layer.stride, layer.offset) == (stride, {2: -3.0, 1: -3.5}[stride])
    with torch.no_grad():
        assert backbone(photos(64), ["conv8"])["conv8"].shape == (2, 32, 64 // stride, 64 // stride)


def test_colorization_net_of_the_paper_has_the_arguments_of_earlier_files():
    assert ColorNet().arguments.keys() == {"input_space", "geometry", "norm", "input_mean", "input_std"}
    assert ColorNet(doublings=3).arguments["doublings"] == 3


def test_colorization_net_refuses_other_doublings():
    with refused("doublings", received=4, allowed=(1, 2, 3)):
        ColorNet(doublings=4)
    with refused("width", received=0.0):
        ColorNet(width=0.0)


@pytest.mark.parametrize("groups", [1, 2])
def test_alexnet_groups_halve_the_inputs_of_conv2_conv4_conv5(groups):
    backbone = AlexNet(groups=groups)
    inputs = [backbone.get_submodule(f"conv{i}.conv").weight.shape[1] for i in range(1, 6)]
    assert inputs == [1, 96 // groups, 256, 384 // groups, 384 // groups]


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
@pytest.mark.parametrize("input_space", ["lightness", "lab", "rgb"])
def test_channels_and_strides_are_as_announced(name, input_space):
    backbone = ARCHITECTURES[name](input_space).eval()
    with torch.no_grad():
        features = backbone(photos(64), backbone.layer_names)
    assert list(features) == list(backbone.layer_names)
    for layer in backbone.layers:
        value = features[layer.name]
        assert value.shape[1] == layer.channels
        assert value.shape[-1] == pytest.approx(64 / layer.stride, abs=1)


@pytest.mark.parametrize("geometry", ["pretrain", "evaluation"])
@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_positions_are_centred_where_their_offset_says(name, geometry, narrow, monkeypatch):
    backbone = narrow[name](geometry=geometry, norm="none").eval()
    # Each pixel that is read gets a gradient: light photos and positive weights keep every ReLU open, and means, unlike
    # maxima, pass no pixel over.
    monkeypatch.setattr(F, "max_pool2d", F.avg_pool2d)
    image = (128 + photos(416)[:1] // 2).float().requires_grad_()
    for parameter in backbone.parameters():
        parameter.data.abs_()
    layers = [layer for layer in backbone.layers if layer.name.startswith("conv")]
    for layer, value in zip(layers, backbone(image, [layer.name for layer in layers]).values(), strict=True):
        middle = value.shape[-1] // 2
        # Two positions, since conv8's transposed convolution moves even ones to the left and odd ones to the right.
        pair = slice(middle, middle + 2)
        (grad,) = torch.autograd.grad(value[0, :, pair, pair].sum(), image, retain_graph=True)
        read = grad[0].abs().sum(0).nonzero().float()
        assert 0 < read.min() < read.max() < 415
        # They read as far to the left of their centre as to the right.
        centre = (read.amin(0) + read.amax(0)) / 2
        assert centre.tolist() == [layer.offset + (middle + 0.5) * layer.stride] * 2, layer


def test_a_lightness_backbone_is_blind_to_colour():
    from pretext.color.lab import lab_to_rgb, rgb_to_lab

    gray = torch.full((1, 3, 64, 64), 128.0)
    lab = rgb_to_lab(gray / 255)
    tinted = lab.clone()
    tinted[:, 1] += 20 * torch.rand(64, 64)
    backbone = AlexNet().eval()
    he_normal_(backbone, 0)
    seen = backbone(lab_to_rgb(tinted) * 255, ["conv5"])["conv5"]
    torch.testing.assert_close(seen, backbone(gray, ["conv5"])["conv5"], atol=1e-3, rtol=1e-3)
    in_color = AlexNet("lab").eval()
    he_normal_(in_color, 0)
    difference = in_color(lab_to_rgb(tinted) * 255, ["conv5"])["conv5"] - in_color(gray, ["conv5"])["conv5"]
    assert difference.abs().max() > 0.1


@pytest.mark.parametrize("input_space", ["lightness", "lab", "rgb"])
def test_uint8_and_float_photos_give_the_same(input_space):
    backbone = AlexNet(input_space).eval()
    torch.testing.assert_close(
        backbone(photos(64), ["conv1"])["conv1"],
        backbone(photos(64).float(), ["conv1"])["conv1"],
        atol=1e-4,
        rtol=1e-4,
    )


def test_extraction_stops_at_the_last_layer_asked_for(monkeypatch):
    backbone = AlexNet()
    monkeypatch.setattr(backbone.conv4, "forward", lambda x: pytest.fail("conv4 was computed"))
    assert list(backbone(photos(64), ["conv3", "conv1"])) == ["conv1", "conv3"]


def test_the_features_of_one_layer_are_those_among_others():
    backbone = AlexNet().eval()
    with torch.no_grad():
        conv3 = backbone.features(photos(64), "conv3")
        assert torch.equal(conv3, backbone(photos(64), ["conv1", "conv3"])["conv3"])


def test_input_is_normalised_as_announced():
    backbone = AlexNet(input_mean=[10.0], input_std=[4.0])
    white = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    torch.testing.assert_close(
        backbone.prepare(white), torch.full((1, 1, 32, 32), (100.0 - 10) / 4), atol=1e-3, rtol=0
    )


def test_unknown_layers_and_arguments_are_named():
    backbone = AlexNet()
    with refused("alexnet", received="conv9", allowed=backbone.layer_names):
        backbone(photos(64), ["conv9"])
    with refused("alexnet", received="conv9", allowed=backbone.layer_names):
        backbone.features(photos(64), "conv9")
    with refused("input_space", received="hsv", allowed=("lightness", "lab", "rgb")):
        AlexNet("hsv")
    with refused("alexnet", received=None, allowed=backbone.layer_names):
        backbone(photos(64), [])
    with refused(received=torch.int64, allowed="uint8"):
        backbone(photos(64).long(), ["conv1"])
    with refused("input_mean", "lab", received=(1, 3), allowed="3 channels"):
        AlexNet("lab", input_mean=[1.0])


def test_he_initialisation_keeps_the_scale_and_each_layer_has_its_own_stream():
    shallow, deep = AlexNet(), AlexNet(fully_connected=True)
    he_normal_(shallow, 3)
    he_normal_(deep, 3)
    for name, weight in shallow.state_dict().items():
        assert torch.equal(weight, deep.state_dict()[name])
    std = shallow.conv3.conv.weight.std().item()
    assert std == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)
