"""Features of pixels: read sparsely or densely they are the same, and where they should be."""

import dataclasses

import pytest
import torch
from small_alexnet import small_alexnet
from trained import trained

from pretext.backbones import VGG16
from pretext.training.fields import Spec
from transfer.networks.hypercolumn import HypercolumnClassifier
from transfer.protocols.table import PROTOCOLS

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = dataclasses.replace(
    PROTOCOLS["larsson2016_gray"].settings,
    crop=64,
    head=Spec(channels=24, dropout=0.0, points=10, edge=8, stride=1),
)


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
