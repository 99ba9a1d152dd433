import torch
from made_photos import smooth_photos
from small_alexnet import small_alexnet

from pretext.color.spaces import ab_regression
from pretext.colorize.colorizer import Colorizer
from pretext.colorize.heads import HypercolumnHead
from transfer.networks.painters import Model
from transfer.protocols.table import load_stage_config


@torch.no_grad()
def test_features_of_a_hypercolumn_are_all_that_its_convolutions_give():
    backbone = small_alexnet("lightness")
    head = HypercolumnHead(["data", "conv1", "conv3"], [1, 16, 48], 2, hidden_channels=8)
    colorizer = Colorizer(backbone, head, ab_regression(), "conv3").eval()
    settings = load_stage_config("colorization", "toyworld", ["network_size=64"])
    model = Model(colorizer, settings, seed=0)
    maps = backbone.extract(torch.zeros(1, 1, 64, 64), ["conv1", "conv2", "conv3"])
    grid, coarse = 16 * 16, maps["conv3"][0, 0].numel()
    numbers = sum(features.numel() for features in maps.values()) + 8 * (grid + grid + coarse) + 2 * grid
    assert model.features_mb(smooth_photos(1)[0]) == numbers * 4 / 1e6
    parameters = sum(each.numel() for each in (*backbone.parameters(), *head.parameters()))
    assert model.parameters_mb() == parameters * 4 / 1e6
    assert model(0, smooth_photos(1)[0]).rgb.shape == (3, 64, 64)
