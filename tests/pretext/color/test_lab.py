import numpy as np
import pytest
import torch
from skimage.color import lab2rgb, rgb2lab

from pretext.color.lab import lab_to_rgb, rgb_to_lab, rgb_to_lightness


def reference_lab(rgb):
    """scikit-image's conversion of (N, 3, H, W) photos, in float64."""
    pixels = rgb.permute(0, 2, 3, 1).numpy()
    return torch.from_numpy(
        rgb2lab(pixels if rgb.dtype == torch.uint8 else pixels.astype(np.float64))
    ).permute(0, 3, 1, 2)


@pytest.fixture
def photos():
    generator = torch.Generator().manual_seed(0)
    photos = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=generator)
    photos[0] //= 16  # dark colours, on the linear parts of both curves
    photos[1, 1:] = photos[1, :1]  # grays
    return photos


def test_uint8_photos_agree_with_scikit_image(photos):
    lab = rgb_to_lab(photos)
    assert lab.dtype == torch.float32
    assert (lab - reference_lab(photos)).abs().max() < 1e-3


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.float64, 5e-4)])
def test_float_photos_agree_with_scikit_image(photos, dtype, tolerance):
    lab = rgb_to_lab(photos.to(dtype) / 255)
    assert lab.dtype == dtype
    assert (lab - reference_lab(photos)).abs().max() < tolerance


def test_half_precision_photos_are_computed_in_float32(photos):
    half = (photos / 255).half()
    assert torch.equal(rgb_to_lab(half), rgb_to_lab(half.float()))


def test_autocast_does_not_change_the_result(photos):
    expected = rgb_to_lab(photos / 255)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(rgb_to_lab(photos / 255), expected)


def test_lightness_is_the_first_channel_of_lab(photos):
    assert torch.equal(rgb_to_lightness(photos), rgb_to_lab(photos)[:, :1])
    assert torch.equal(rgb_to_lightness(photos / 255), rgb_to_lab(photos / 255)[:, :1])


def test_white_black_and_red():
    corners = torch.tensor([[255, 255, 255], [0, 0, 0], [255, 0, 0]], dtype=torch.uint8).T.reshape(1, 3, 1, 3)
    expected = torch.tensor([[100.0, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20]]).T.reshape(1, 3, 1, 3)
    assert (rgb_to_lab(corners) - expected).abs().max() < 0.01


def test_range_of_ab_over_the_surface_of_the_srgb_cube():
    levels = torch.arange(256, dtype=torch.uint8)
    face = torch.cartesian_prod(levels, levels).T
    ends = [torch.full((1, 65536), value, dtype=torch.uint8) for value in (0, 255)]
    faces = [torch.cat([face[:axis], end, face[axis:]]) for end in ends for axis in range(3)]
    ab = rgb_to_lab(torch.stack(faces).view(6, 3, 256, 256))[:, 1:].transpose(0, 1).flatten(1)
    expected = torch.tensor([[-86.18, 98.23], [-107.86, 94.48]])
    assert (torch.stack(ab.aminmax(dim=1), dim=1) - expected).abs().max() < 0.01


def test_lab_to_rgb_agrees_with_scikit_image(photos):
    lab = reference_lab(photos)
    expected = torch.from_numpy(lab2rgb(lab.permute(0, 2, 3, 1).numpy())).permute(0, 3, 1, 2)
    assert (lab_to_rgb(lab) - expected).abs().max() < 1e-4
    assert (lab_to_rgb(lab.float()) - expected).abs().max() < 1e-4


@pytest.mark.filterwarnings("ignore:.*negative Z values")
def test_colours_outside_srgb_are_clamped_as_in_scikit_image():
    lab = torch.rand(1, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    lab = lab * torch.tensor([100.0, 220, 220])[:, None, None] - torch.tensor([0.0, 110, 110])[:, None, None]
    rgb = lab_to_rgb(lab)
    assert ((rgb == 0) | (rgb == 1)).any()
    assert (rgb >= 0).all()
    assert (rgb <= 1).all()
    expected = torch.from_numpy(lab2rgb(lab.permute(0, 2, 3, 1).numpy())).permute(0, 3, 1, 2)
    assert (rgb - expected).abs().max() < 1e-4


def test_round_trip_is_exact_to_far_below_one_level(photos):
    assert (lab_to_rgb(rgb_to_lab(photos)) * 255 - photos).abs().max() < 0.01


def test_gradients():
    generator = torch.Generator().manual_seed(0)
    rgb = (torch.rand(1, 3, 3, 4, dtype=torch.float64, generator=generator) * 0.9 + 0.05).requires_grad_()
    assert torch.autograd.gradcheck(rgb_to_lab, rgb)
    assert torch.autograd.gradcheck(rgb_to_lightness, rgb)
    assert torch.autograd.gradcheck(lab_to_rgb, rgb_to_lab(rgb.detach()).requires_grad_())


def test_black_and_white_have_finite_gradients():
    rgb = torch.tensor([0.0, 1.0]).expand(1, 3, 1, 2).clone().requires_grad_()
    lab_to_rgb(rgb_to_lab(rgb)).sum().backward()
    assert rgb.grad.isfinite().all()


def test_other_integers_are_refused():
    message = r"received torch.int64; pass uint8 in \[0, 255\] or floating point in \[0, 1\]"
    with pytest.raises(TypeError, match=message):
        rgb_to_lab(torch.zeros(1, 3, 2, 2, dtype=torch.int64))
