"""Features of pixels: read sparsely or densely they are the same, and where they should be."""

import dataclasses

import numpy as np
import pytest
import torch
from small_alexnet import small_alexnet
from trained import trained

from pretext.backbones import VGG16
from pretext.backbones.base import Layer
from pretext.training.fields import Spec
from transfer.networks.hypercolumn import HypercolumnClassifier, read_maps
from transfer.protocols.table import PROTOCOLS

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = dataclasses.replace(
    PROTOCOLS["larsson2016_gray"].settings,
    crop=64,
    head=Spec(channels=24, dropout=0.0, points=10, edge=8, stride=1),
)


def naive(maps, layer, row, column):
    """One feature vector, between four positions, the outermost continued."""
    sides = maps.shape[-2:]
    at = [
        min(max((x - layer.offset) / layer.stride, 0), n - 1)
        for x, n in zip((row, column), sides, strict=True)
    ]
    low = [int(np.floor(x)) for x in at]
    high = [min(x + 1, n - 1) for x, n in zip(low, sides, strict=True)]
    (y, x), (top, left), (bottom, right) = [a - b for a, b in zip(at, low, strict=True)], low, high
    above = maps[:, top, left] * (1 - x) + maps[:, top, right] * x
    below = maps[:, bottom, left] * (1 - x) + maps[:, bottom, right] * x
    return above * (1 - y) + below * y


def test_features_are_those_between_four_positions():
    generator = torch.Generator().manual_seed(0)
    layer = Layer("conv", 3, 8, 3.5)
    maps = torch.randn(2, 3, 5, 4, generator=generator, dtype=torch.double)
    points = torch.rand(2, 30, 2, generator=generator, dtype=torch.double) * 45 - 2
    found = read_maps(maps, layer, points)
    for n in range(2):
        for p, (row, column) in enumerate(points[n].tolist()):
            torch.testing.assert_close(found[n, :, p], naive(maps[n], layer, row, column))
    assert torch.autograd.gradcheck(lambda x: read_maps(x, layer, points), maps.requires_grad_())


def test_a_layer_that_holds_coordinates_gives_them_back():
    layer = Layer("conv", 2, 4, 1.5)
    rows, columns = (layer.offset + layer.stride * torch.arange(n) for n in (9, 7))
    maps = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None]
    points = torch.tensor([[[1.5, 1.5], [10.0, 3.0], [33.5, 25.5], [20.0, 20.0]]])
    torch.testing.assert_close(read_maps(maps, layer, points)[0].T, points[0])


def test_a_single_position_is_everywhere():
    points = torch.tensor([[[0.0, 0.0], [60.0, 9.0]]])
    assert read_maps(torch.full((1, 1, 1, 1), 7.0), Layer("fc7", 1, 32), points).tolist() == [[[7, 7]]]


@pytest.fixture
def network():
    backbone = trained(small_alexnet("lightness", norm="none"))
    network = HypercolumnClassifier(backbone, 5, SETTINGS, seed=0)
    photos = torch.randint(
        0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    network.balance(photos)
    return network, photos


def test_sparse_pixels_are_those_of_the_whole_photo(network):
    network, photos = network
    (sparse,) = network.train()(photos)
    (dense,) = network.eval()(photos)
    assert dense.shape == (3, 5, 64, 64)
    rows, columns = sparse.points.unbind(2)
    indexed = dense[torch.arange(3)[:, None], :, rows, columns].transpose(1, 2)
    assert indexed.std() > 1e-2
    torch.testing.assert_close(sparse.logits, indexed, atol=1e-5, rtol=1e-4)


def test_pixels_are_drawn_away_from_the_edge_and_anew(network):
    network, photos = network
    drawn = [network.train()(photos)[0].points for _ in range(20)]
    assert not torch.equal(*drawn[:2])
    assert (min(each.min() for each in drawn), max(each.max() for each in drawn)) == (8, 55)


def test_layers_are_balanced_and_all_there(network):
    network, photos = network
    names = [layer.name for layer in network.layers]
    assert names == ["photo", "conv1", "conv2", "conv3", "conv4", "conv5"]
    assert network.hidden.in_channels == 1 + sum((16, 32, 48, 48, 32))
    for scale, maps in zip(network.scales, network._maps(photos), strict=True):
        assert float((scale * maps).square().mean().detach()) == pytest.approx(1, rel=1e-4)


def test_coarse_logits_are_interpolated(network):
    network, photos = network
    (fine,) = network.eval()(photos)
    network.stride = 4
    (coarse,) = network(photos)
    torch.testing.assert_close(coarse[..., ::4, ::4], fine[..., ::4, ::4], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        coarse[..., 2, ::4], (fine[..., 0, ::4] + fine[..., 4, ::4]) / 2, atol=1e-5, rtol=1e-4
    )


def test_the_papers_hypercolumn_has_12417_channels():
    with torch.device("meta"):
        layers = VGG16(fully_connected=True).layers
    assert 1 + sum(layer.channels for layer in layers if layer.name.startswith(("conv", "fc"))) == 12_417
