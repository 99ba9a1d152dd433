import pytest
import torch
from narrow import narrow_backbones
from refusals import refused
from small_alexnet import small_alexnet
from torch.nn import functional as F

from pretext.backbones import VGG16
from pretext.backbones.base import Layer
from pretext.backbones.hypercolumn import (
    all_column_layers,
    column_layers,
    hypercolumns,
    sample,
    sample_grid,
    walk_layers,
)
from pretext.backbones.initializers import he_normal_


def by_hand(features, layer, row, column):
    """The bilinear mean of the four positions around one pixel, as the equations of interpolation say."""
    height, width = features.shape[1:]
    y = min(max((row - layer.offset) / layer.stride, 0), height - 1)
    x = min(max((column - layer.offset) / layer.stride, 0), width - 1)
    total = torch.zeros(len(features), dtype=features.dtype)
    for j in range(height):
        for i in range(width):
            total += max(0, 1 - abs(y - j)) * max(0, 1 - abs(x - i)) * features[:, j, i]
    return total


def places(count, height, width, photos=2):
    generator = torch.Generator().manual_seed(0)
    return (torch.randint(side, (photos, count), generator=generator) for side in (height, width))


LAYERS = [
    Layer("fine", 3, 1),
    Layer("even", 3, 4, 1.5),
    Layer("padded", 3, 8, 0.0),
    Layer("early", 3, 4, -6.0),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_places_are_read_bilinearly_where_positions_are_centred(layer):
    features = torch.randn(2, 3, 5, 4)
    rows, columns = places(12, 5 * layer.stride + 7, 4 * layer.stride + 7)
    found = sample(features, layer, rows, columns)
    assert found.shape == (2, 3, 12, 1)
    for n in range(2):
        for p in range(12):
            expected = by_hand(features[n], layer, rows[n, p].item(), columns[n, p].item())
            torch.testing.assert_close(found[n, :, p, 0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_sparse_is_dense_then_indexed(layer, memory_format):
    features = torch.randn(2, 3, 5, 4).contiguous(memory_format=memory_format)
    height, width = 5 * layer.stride + 3, 4 * layer.stride + 3
    dense = sample_grid(features, layer, torch.arange(height), torch.arange(width))
    rows, columns = places(20, height, width)
    indexed = dense.permute(0, 2, 3, 1)[torch.arange(2).unsqueeze(1), rows, columns]
    sparse = sample(features, layer, rows, columns)[..., 0].transpose(1, 2)
    torch.testing.assert_close(sparse, indexed, rtol=0, atol=1e-5)


def test_a_padded_map_is_read_as_torch_interpolates_it():
    # With half a stride before position 0, corners are not aligned.
    features = torch.randn(1, 2, 6, 7, dtype=torch.float64)
    expected = F.interpolate(features, scale_factor=4, mode="bilinear", align_corners=False)
    found = sample_grid(features, Layer("even", 2, 4, 1.5), torch.arange(24), torch.arange(28))
    torch.testing.assert_close(found, expected)


def test_gradients_are_those_of_the_numbers():
    layer = Layer("even", 2, 2, 0.5)
    features = torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    rows, columns = places(5, 9, 9)
    assert torch.autograd.gradcheck(lambda x: sample(x, layer, rows, columns), features)
    grid = torch.arange(0, 8, 3)
    assert torch.autograd.gradcheck(lambda x: sample_grid(x, layer, grid, grid), features)


def test_gradients_of_sparse_and_dense_agree():
    layer = Layer("even", 3, 4, 1.5)
    features = torch.randn(2, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    rows, columns = places(30, 20, 16)
    weights = torch.randn(2, 30, 3, dtype=torch.float64)
    sparse = sample(features, layer, rows, columns)[..., 0].transpose(1, 2)
    dense = sample_grid(features, layer, torch.arange(20), torch.arange(16))
    indexed = dense.permute(0, 2, 3, 1)[torch.arange(2).unsqueeze(1), rows, columns]
    (of_sparse,) = torch.autograd.grad((sparse * weights).sum(), features)
    (of_dense,) = torch.autograd.grad((indexed * weights).sum(), features)
    torch.testing.assert_close(of_sparse, of_dense)


def test_half_precision_is_interpolated_in_single_precision():
    features = torch.randn(1, 3, 5, 4)
    rows, columns = places(6, 20, 16, photos=1)
    found = sample(features.bfloat16(), LAYERS[1], rows, columns)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, sample(features.bfloat16().float(), LAYERS[1], rows, columns))


def test_a_full_vgg16_gives_12417_channels():
    with torch.device("meta"):
        backbone = VGG16(fully_connected=True)
    names = all_column_layers(backbone)
    assert names == (
        *("data", "conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3"),
        *("conv4_1", "conv4_2", "conv4_3", "conv5_1", "conv5_2", "conv5_3", "fc6", "fc7"),
    )
    layers = column_layers(backbone, names)
    assert sum(layer.channels for layer in layers) == 12417


@torch.no_grad()
def test_a_hypercolumn_is_every_layer_at_its_own_stride_and_offset(monkeypatch):
    narrow_backbones(monkeypatch)
    backbone = VGG16(fully_connected=True, pool5_stride=2).eval()
    he_normal_(backbone, 0)
    inputs = torch.randn(2, 1, 64, 64)
    layers = column_layers(backbone, all_column_layers(backbone))
    assert [layer.stride for layer in layers] == [1, 1, 1, 2, 2, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32]
    rows, columns = places(9, 64, 64)
    found = hypercolumns(backbone, inputs, layers, rows, columns)
    assert found.shape == (2, sum(layer.channels for layer in layers), 9, 1)
    maps = {"data": inputs, **backbone.extract(inputs, [layer.name for layer in layers[1:]])}
    begin = 0
    for layer in layers:
        part = found[:, begin : begin + layer.channels]
        begin += layer.channels
        assert torch.equal(part, sample(maps[layer.name], layer, rows, columns))
    # The input itself is read at its own pixels.
    assert torch.equal(found[0, 0, :, 0], inputs[0, 0][rows[0], columns[0]])


@torch.no_grad()
def test_a_subset_walks_no_further_than_its_last_layer():
    backbone = small_alexnet("lightness").eval()
    layers = column_layers(backbone, ["conv2", "data", "pool1"])
    assert [layer.name for layer in layers] == ["data", "pool1", "conv2"]
    backbone.conv3.register_forward_hook(lambda *_: pytest.fail("conv3 was computed"))
    maps = dict(walk_layers(backbone, torch.randn(1, 1, 64, 64), layers))
    assert [maps[layer].shape[1] for layer in layers] == [1, 16, 32]


@pytest.mark.parametrize("names", [(), ("data",), ("conv1", "conv1")])
def test_a_hypercolumn_without_a_layer_or_with_one_twice_is_refused(names):
    with refused(received=names, allowed="conv5"):
        column_layers(small_alexnet("lightness"), names)


def test_an_unknown_layer_is_refused():
    with refused("alexnet", received="fc6", allowed="data"):
        column_layers(small_alexnet("lightness"), ["fc6"])
