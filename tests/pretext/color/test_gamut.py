import math

import numpy as np
import pytest
import torch
from skimage.color import lab2xyz

from pretext.color.gamut import HALVINGS, TOLERANCE, in_gamut, reduce_chroma
from pretext.color.lab import lab_to_rgb, rgb_to_lab

#: XYZ (D65) to linear sRGB, IEC 61966-2-1.
TO_LINEAR = [
    [3.2404814, -1.5371516, -0.4985363],
    [-0.9692550, 1.8759900, 0.0415559],
    [0.0556466, -0.2040413, 1.0573111],
]


@pytest.fixture
def lab():
    """Colours in and far outside sRGB, at all lightnesses and hues."""
    generator = torch.Generator().manual_seed(0)
    lightness = torch.rand(1, 1, 20, 20, generator=generator) * 100
    ab = (torch.rand(1, 2, 20, 20, generator=generator) - 0.5) * 220
    return torch.cat([lightness, ab], 1).double()


def is_shown(lightness, a, b):
    linear = np.array(TO_LINEAR) @ lab2xyz(np.array([[lightness, a, b]]))[0]
    return linear.min() >= -TOLERANCE and linear.max() <= 1 + TOLERANCE


def test_it_is_a_slow_search_for_the_largest_chroma(lab):
    reduced = reduce_chroma(lab)
    for lightness, a, b, *found in torch.cat([lab, reduced], 1)[0].flatten(1).T.tolist():
        share = 1.0
        while not is_shown(lightness, share * a, share * b):
            share -= 1 / 500
        kept = math.hypot(*found[1:]) / math.hypot(a, b)
        assert abs(kept - share) < 1 / 500 + 2**-HALVINGS
        assert found[0] == lightness


@pytest.mark.filterwarnings("ignore:.*negative Z values")
def test_what_is_outside_comes_in_with_its_hue_and_lightness(lab):
    assert not in_gamut(lab).all()
    reduced = reduce_chroma(lab)
    assert in_gamut(reduced).all()
    assert torch.equal(reduced[:, 0], lab[:, 0])
    hue, before = (torch.atan2(value[:, 2], value[:, 1]) for value in (reduced, lab))
    assert (hue - before).abs().max() < 1e-9
    again = rgb_to_lab(lab_to_rgb(reduced))
    assert (again[:, 0] - lab[:, 0]).abs().max() < 0.05


def test_what_is_inside_stays_as_it_is():
    lab = rgb_to_lab(torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(0)))
    assert reduce_chroma(lab) is lab
    cube = torch.cartesian_prod(*[torch.tensor([0, 1, 128, 254, 255], dtype=torch.uint8)] * 3)
    assert in_gamut(rgb_to_lab(cube[:, :, None, None])).all()


@pytest.mark.parametrize("lightness", [0.0, 100.0])
def test_black_and_white_have_no_colour(lightness):
    lab = torch.tensor([lightness, 40.0, -60.0]).view(1, 3, 1, 1)
    assert reduce_chroma(lab)[0, 1:].abs().max() < 0.3
    assert in_gamut(reduce_chroma(lab)).all()


def test_gray_is_inside_at_every_lightness():
    lab = torch.zeros(1, 3, 1, 1001)
    lab[0, 0, 0] = torch.linspace(0, 100, 1001)
    assert in_gamut(lab).all()


def test_on_every_line_from_gray_the_colours_inside_are_one_piece():
    hues = torch.linspace(0, 2 * math.pi, 121)[:-1]
    chroma = torch.linspace(0, 140, 141)
    for lightness in range(2, 99, 4):
        ab = torch.stack([hues.cos()[:, None] * chroma, hues.sin()[:, None] * chroma])
        inside = in_gamut(torch.cat([torch.full_like(ab[:1], lightness), ab])[None])[0]
        assert (inside.int().diff(dim=1) <= 0).all()
