import colorsys

import naive_histograms
import numpy as np
import pytest
import torch

from pretext.color.bicone import bicone_ab, bicone_to_rgb, rgb_to_bicone
from pretext.color.lab import rgb_to_lab


@pytest.fixture(scope="module")
def rgb():
    """Colours of 8 bits, and the corners of the cube."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(0, 256, (1, 3, 50, 50), generator=generator) / 255
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3).T.reshape(1, 3, 1, 8)
    return torch.cat([drawn.flatten(2).unsqueeze(2), corners], 3)


def test_hue_is_that_of_hsv_chroma_the_range_and_lightness_the_mean(rgb):
    bicone = rgb_to_bicone(rgb)
    for color, found in zip(rgb[0, :, 0].T.double().tolist(), bicone[0, :, 0].T.tolist(), strict=True):
        assert found == pytest.approx(
            [colorsys.rgb_to_hsv(*color)[0], max(color) - min(color), sum(color) / 3], abs=1e-6
        )
    assert bicone[:, 0].max() < 1


def test_colours_come_back_and_their_mean_is_exact(rgb):
    bicone = rgb_to_bicone(rgb)
    again = bicone_to_rgb(bicone)
    assert (again - rgb).abs().max() < 1e-6
    assert (again.mean(1) - bicone[:, 2]).abs().max() < 1e-6


def released(hue, chroma, lightness):
    """The decoding of the paper's code: value L + C / 2, saturation 2C / (2L + C), clip, match the mean, clip."""
    value = min(lightness + chroma / 2, 1)
    saturation = min(2 * chroma / (2 * lightness + chroma), 1)
    rgb = np.clip(colorsys.hsv_to_rgb(hue, saturation, value), 0, 1)
    return np.clip(rgb - rgb.mean() + lightness, 0, 1)


def test_colours_are_those_of_the_papers_code_where_it_does_not_clip():
    generator = torch.Generator().manual_seed(0)
    bicone = torch.rand(1, 3, 1, 200, generator=generator, dtype=torch.float64)
    ours = bicone_to_rgb(bicone)[0, :, 0].T.numpy()
    within = 0
    for (hue, chroma, lightness), rgb in zip(bicone[0, :, 0].T.tolist(), ours, strict=True):
        if chroma / 2 <= lightness <= 1 - chroma / 2 and rgb.min() >= 0 and rgb.max() <= 1:
            within += 1
            np.testing.assert_allclose(rgb, released(hue, chroma, lightness), atol=1e-9)
    assert within > 50


def test_hue_chroma_and_cie_lightness_give_the_colour(rgb):
    lab, bicone = rgb_to_lab(rgb), rgb_to_bicone(rgb)
    ab = bicone_ab(bicone[:, :1], bicone[:, 1:2], lab[:, :1])
    assert (ab - lab[:, 1:]).abs().max() < 2e-3


def test_colours_outside_srgb_are_finite_clipped_and_found_by_bisection():
    generator = torch.Generator().manual_seed(0)
    hue, chroma, lightness = torch.rand(3, 1, 1, 1, 60, generator=generator, dtype=torch.float64)
    lightness = lightness * 100
    ab = bicone_ab(hue, chroma, lightness)
    expected = [
        naive_histograms.bicone_ab(*each)
        for each in zip(*(v.flatten().tolist() for v in (hue, chroma, lightness)), strict=True)
    ]
    np.testing.assert_allclose(ab[0, :, 0].T.numpy(), expected, atol=2e-2)
    tips = torch.tensor([0.0, 0.0, 100.0, 100.0]).view(1, 1, 1, 4)
    hues = torch.tensor([0.1, 0.7, 0.1, 0.7]).view(1, 1, 1, 4)
    assert bicone_ab(hues, torch.ones(1, 1, 1, 4), tips).abs().max() < 110


def test_without_chroma_colours_are_gray_at_any_hue():
    hue, lightness = torch.rand(1, 1, 5, 5), torch.rand(1, 1, 5, 5) * 100
    assert bicone_ab(hue, torch.zeros(1, 1, 5, 5), lightness).abs().max() < 1e-2


def test_a_hue_of_a_whole_turn_is_none():
    bicone = torch.tensor([[0.0, 0.5, 0.4], [1.0, 0.5, 0.4]]).view(2, 3, 1, 1)
    rgb = bicone_to_rgb(bicone)
    assert torch.equal(rgb[0], rgb[1])
