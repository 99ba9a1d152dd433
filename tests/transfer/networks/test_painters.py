import pytest
import torch
from colorizers import colorizer_file
from made_photos import smooth_photos
from small_alexnet import small_alexnet

from pretext.color.spaces import HueChroma, LabMarginals, ab_regression
from pretext.colorize.colorizer import Colorizer, load_colorizer
from pretext.colorize.heads import HypercolumnHead
from pretext.colorize.painting import Decoding, lightness_of, paint_decoded, predict
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


@pytest.mark.parametrize("space", [LabMarginals(), HueChroma()], ids=lambda space: space.name)
@pytest.mark.parametrize("rule", ["annealed", "median", "coherent"])
def test_colours_are_chosen_at_each_pixel_as_the_colorize_command_does(space, rule, tmp_path):
    colorizer = load_colorizer(colorizer_file(tmp_path / "colorizer.safetensors", space))
    photo = smooth_photos(1)[0]
    words = ["network_size=64", f"decode={rule}"]
    photos = []
    for place in ("map", "photo"):
        settings = load_stage_config("colorization", "toyworld", [*words, f"decode_at={place}"])
        model = Model(colorizer, settings, seed=0)
        (decoded,) = model.decoded(photo, [Decoding(rule, seed=3)])
        lightness, colors = lightness_of(photo), predict(colorizer, photo, 64)
        assert torch.equal(
            decoded, paint_decoded(colorizer, lightness, colors, Decoding(rule, seed=3), decode_at=place)
        )
        photos.append(model(0, photo).rgb)
    # Expectations are linear, and a few colours may be rounded otherwise.
    linear = rule == "annealed" and isinstance(space, LabMarginals)
    assert torch.allclose(*(each.float() for each in photos), atol=1) == linear


def test_a_sweep_of_a_row_that_knows_the_truth_knows_it_too(tmp_path):
    colorizer = load_colorizer(colorizer_file(tmp_path / "colorizer.safetensors", LabMarginals()))
    photo, other = smooth_photos(2)
    for way in ("quantile", "energy"):
        words = ["network_size=64", "temperatures=(0.5,)", "temperature=0.5", f"true_histogram={way}"]
        model = Model(colorizer, load_stage_config("colorization", "toyworld", words), seed=0)
        painted = model(0, photo)
        assert torch.equal(painted.swept[0.5], painted.rgb)
        assert not torch.equal(painted.rgb, model(0, other).rgb)
