import pytest
import torch
from refusals import refused

from pretext.backbones import VGG16, AlexNet
from pretext.backbones.colornet import ColorNet
from pretext.colorize.heads import Grid, grid_over
from pretext.methods.parts.targets import at_decoded, at_targets, check_target_stride


@pytest.mark.parametrize("stride", [3, 32])
def test_targets_fall_on_positions(stride):
    conv5 = AlexNet("lightness").layer("conv5")
    check_target_stride(conv5, 8)
    with refused("target_stride", "conv5", received=stride, allowed=(1, 2, 4, 8, 16)):
        check_target_stride(conv5, stride)


def test_twelve_positions_give_the_authors_twenty_three():
    ramp = torch.arange(12.0).expand(1, 1, 12, 12)
    upsampled = at_targets(ramp, torch.Size([23, 23]), Grid(16, 0.0, 16), 8)
    torch.testing.assert_close(upsampled[0, 0, 0], torch.arange(23.0) / 2)


def test_what_lies_beyond_the_last_target_is_cut():
    # 128 pixels give 9 positions, at pixels 0, 16, ..., 128: the last one looks beyond the photo.
    ramp, grid = torch.arange(9.0).expand(1, 1, 9, 9) * 16, Grid(16, 0.0, 16)
    assert at_targets(ramp, torch.Size([8, 8]), grid, 16)[0, 0, 0].tolist() == list(range(0, 128, 16))
    assert at_targets(ramp, torch.Size([16, 16]), grid, 8)[0, 0, 0].tolist() == list(range(0, 128, 8))


@pytest.mark.parametrize(
    ("backbone", "name", "target_strides"),
    [
        (AlexNet("lightness"), "conv5", (1, 8, 16)),
        (AlexNet("lightness", geometry="evaluation"), "conv5", (4, 16)),
        (ColorNet("lightness", width=1 / 64), "conv8", (1, 4)),
        (ColorNet("lightness", width=1 / 64, doublings=3), "conv8", (1,)),
        (VGG16("lightness", norm="none"), "conv5_3", (4, 8, 16)),
    ],
    ids=["alexnet", "unpadded alexnet", "colornet", "small colornet", "vgg16"],
)
@pytest.mark.parametrize("side", [112, 128, 133])
def test_positions_learn_the_targets_at_the_pixels_where_they_are_painted(
    backbone, name, target_strides, side
):
    with torch.no_grad():
        positions = backbone(torch.zeros(1, 3, side, side), [name])[name].shape[-1]
    # Each position predicts the pixel at which a photo is painted by it.
    grid = grid_over(backbone.layer(name))
    painted = (grid.offset + grid.stride * torch.arange(float(positions))).expand(1, 1, positions, positions)
    for stride in target_strides:
        pixels = torch.arange(0.0, side, stride)
        learned = at_targets(painted, torch.Size([len(pixels)] * 2), grid, stride)[0, 0]
        inside = (pixels >= grid.offset) & (pixels <= painted[0, 0, 0, -1])
        assert inside.float().mean() > 0.6
        torch.testing.assert_close(learned[0, inside], pixels[inside])


def test_the_colorization_net_learns_the_pixels_at_multiples_of_its_stride():
    # So the authors' layers pick them, though the net is centred two pixels before.
    layer = ColorNet("lightness", width=1 / 64).layer("conv8")
    assert layer.offset == -2
    assert grid_over(layer) == Grid(4, 0.0, 4)


def test_targets_beyond_a_map_have_the_prediction_at_its_border():
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    found = at_targets(ramp, torch.Size([16, 16]), Grid(16, 7.5, 16), 8)[0, 0, 0]
    torch.testing.assert_close(found, ((torch.arange(0.0, 128, 8) - 7.5) / 16).clamp(0, 7))


@pytest.mark.parametrize(
    ("backbone", "name"),
    [
        (AlexNet("lab"), "conv5"),
        (AlexNet("lab", geometry="evaluation"), "conv5"),
        (AlexNet("lab", conv1_padding=2), "conv2"),
        (VGG16("lab", norm="none"), "conv4_3"),
    ],
    ids=["padded", "unpadded", "between", "vgg16"],
)
@pytest.mark.parametrize("side", [96, 101, 104, 120, 128, 136])
def test_what_is_decoded_and_the_targets_are_of_the_same_pixels(backbone, name, side):
    layer = backbone.layer(name)
    with torch.no_grad():
        positions = backbone(torch.zeros(1, 3, side, side), [name])[name].shape[-1]
    pixels = torch.arange(float(side)).expand(1, 1, side, side)
    for factor in (1, 2, 4, 8):
        stride = layer.stride // factor
        # Each position's pixel repeated, and moved by the cells' places around it.
        around = (torch.arange(factor) - (factor - 1) / 2) * stride
        seen = (layer.offset + torch.arange(positions) * layer.stride).view(-1, 1) + around
        decoded = seen.flatten().expand(1, 1, positions * factor, positions * factor)
        found, true = at_decoded(decoded, pixels, layer, stride)
        assert found.shape == true.shape
        assert ((found - true) >= 0).all()
        assert ((found - true) < 1).all()
        within = (seen >= 0) & (seen < side)
        assert found.shape[-1] == within.sum()
