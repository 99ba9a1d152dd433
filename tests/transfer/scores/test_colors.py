import numpy as np
import pytest
import torch
from refusals import refused
from scipy.linalg import sqrtm
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pretext.color import rgb_to_lab
from transfer.scores import colors


@pytest.fixture(scope="module")
def pairs():
    """Three photos of 24 x 20 pixels and other colours of them: sRGB in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(3, 3, 24, 20, generator=generator, dtype=torch.double)
    return (truth + 0.1 * torch.randn(truth.shape, generator=generator, dtype=torch.double)).clamp(
        0, 1
    ), truth


def lab_of(photos):
    return torch.tensor(np.stack([rgb2lab(each.permute(1, 2, 0).numpy()) for each in photos])).movedim(3, 1)


def accuracy(errors, weights=None):
    sums, totals = colors.raw_accuracy(errors, weights)
    return float(sums.sum() / totals.sum())


class TestRawAccuracy:
    def test_it_is_the_area_under_the_curve(self):
        errors = torch.rand(2, 8, 8, dtype=torch.double) * 200
        thresholds = np.linspace(0, 150, 150 * 400 + 1)
        shares = [(errors.numpy() < t).mean() for t in thresholds]
        assert accuracy(errors) == pytest.approx(np.trapezoid(shares, thresholds) / 150, abs=2e-5)
        assert accuracy(errors) == pytest.approx(1 - np.minimum(errors.numpy(), 150).mean() / 150, abs=1e-12)

    def test_the_area_is_exact_where_errors_are_whole_numbers(self):
        errors = torch.tensor([[[0.0, 30.0], [75.0, 400.0]]])
        # Shares of 1/4 from 0, 2/4 from 30 and 3/4 from 75 up to 150.
        assert accuracy(errors) == pytest.approx((30 * 0.25 + 45 * 0.5 + 75 * 0.75) / 150, abs=1e-6)

    def test_the_truth_has_all_and_gray_lacks_the_mean_chroma(self, pairs):
        lab = lab_of(pairs[1])
        gray = torch.cat([lab[:, :1], torch.zeros_like(lab[:, 1:])], dim=1)
        chroma = np.hypot(lab[:, 1].numpy(), lab[:, 2].numpy())
        assert accuracy(colors.ab_errors(lab, lab)) == 1
        assert accuracy(colors.ab_errors(gray, lab)) == pytest.approx(1 - chroma.mean() / 150, abs=1e-6)

    def test_a_rebalanced_case_by_hand(self):
        # A bin of probability 0.8 whose pixels are 30 off, and one of 0.2 whose pixels are 75 off.
        errors = torch.tensor([[[30.0, 30.0, 30.0, 75.0]]])
        weights = colors.rarity(torch.tensor([[[0, 0, 0, 1]]]), torch.tensor([0.8, 0.2]))
        # (3 * 0.8 / 0.8 + 0.5 / 0.2) / (3 / 0.8 + 1 / 0.2)
        assert accuracy(errors, weights) == pytest.approx(5.5 / 8.75, abs=1e-6)
        assert accuracy(errors) == pytest.approx(0.725, abs=1e-6)

    def test_the_curve_counts_pixels_up_to_each_error(self):
        errors = torch.rand(2, 9, 9) * 170
        curve = colors.error_curve(errors)
        expected = [[(each <= t).double().mean() for t in range(151)] for each in errors]
        torch.testing.assert_close(curve, torch.tensor(expected, dtype=curve.dtype))


def test_psnr_is_that_of_scikit_image(pairs):
    expected = [
        peak_signal_noise_ratio(t.numpy(), p.numpy(), data_range=1.0) for p, t in zip(*pairs, strict=True)
    ]
    np.testing.assert_allclose(colors.psnr(*pairs), expected, atol=1e-6)
    assert colors.psnr(pairs[1], pairs[1]).tolist() == pytest.approx([58.92] * 3, abs=0.005)


def test_ssim_is_that_of_scikit_image(pairs):
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = [
        structural_similarity(t.numpy(), p.numpy(), channel_axis=0, data_range=1.0, **options)
        for p, t in zip(*pairs, strict=True)
    ]
    np.testing.assert_allclose(colors.ssim(*pairs), expected, atol=1e-5)
    with refused("SSIM", received=(10, 20)):
        colors.ssim(*(each[:, :, :10] for each in pairs))


def test_rmse_is_the_root_of_the_mean_over_a_and_b(pairs):
    first, second = map(lab_of, pairs)
    expected = (first - second)[:, 1:].square().mean((1, 2, 3))
    torch.testing.assert_close(colors.mean_squared_ab_error(colors.ab_errors(first, second)), expected)


@pytest.mark.parametrize("absolute", [False, True])
def test_colorfulness_is_the_formula(pairs, absolute):
    for photo, found in zip(pairs[1], colors.colorfulness(pairs[1], absolute), strict=True):
        red, green, blue = 255 * photo.numpy()
        rg, yb = red - green, 0.5 * (red + green) - blue
        if absolute:
            rg, yb = np.abs(rg), np.abs(yb)
        spread, mean = np.hypot(rg.std(), yb.std()), np.hypot(rg.mean(), yb.mean())
        assert float(found) == pytest.approx(spread + 0.3 * mean, abs=1e-9)


def test_a_gray_photo_has_no_colorfulness():
    assert colors.colorfulness(torch.rand(1, 1, 8, 8).expand(1, 3, 8, 8)).item() == pytest.approx(0, abs=1e-4)


def test_ciede2000_is_that_of_scikit_image(pairs):
    first, second = map(lab_of, pairs)
    # Colours far apart, nearly opposite hues (those of opposite ones have no mean), and gray on either side.
    far = second.flip(3).clone()
    far[:, 1:, :4] = 0.3 - second[:, 1:, :4]
    far[:, 1:, 4:8] = 0
    for other in (first, far):
        for one, two in ((other, second), (second, other)):
            expected = deltaE_ciede2000(two.movedim(1, 3).numpy(), one.movedim(1, 3).numpy())
            np.testing.assert_allclose(colors.ciede2000(one, two), expected, atol=1e-6)


def test_diversity_is_the_mean_distance_between_pairs():
    samples = torch.zeros(3, 2, 4, 5)
    samples[1, 0], samples[2, 1] = 3, 4
    assert float(colors.diversity(samples)) == pytest.approx((3 + 4 + 5) / 3)


def test_lab_of_the_project_gives_the_same_numbers(pairs):
    ours = [rgb_to_lab(each) for each in pairs]
    theirs = [lab_of(each) for each in pairs]
    assert accuracy(colors.ab_errors(*ours)) == pytest.approx(accuracy(colors.ab_errors(*theirs)), abs=1e-5)


class TestFrechetDistance:
    @pytest.mark.parametrize(("first", "second"), [(40, 50), (4, 6), (30, 3)])
    def test_it_is_that_of_the_matrix_root(self, first, second):
        generator = torch.Generator().manual_seed(0)
        a, b = (torch.randn(n, 8, generator=generator, dtype=torch.double) for n in (first, second))
        b = b @ torch.rand(8, 8, generator=generator, dtype=torch.double) + 0.3
        s1, s2 = (np.cov(each.numpy().T) for each in (a, b))
        root = sqrtm(s1 @ s2).real
        expected = np.sum((a.mean(0) - b.mean(0)).numpy() ** 2) + np.trace(s1 + s2 - 2 * root)
        assert colors.frechet_distance(a, b) == pytest.approx(expected, rel=1e-5)

    def test_it_is_known_for_single_numbers(self):
        # Means 1 and 4, standard deviations sqrt(2) and sqrt(8).
        found = colors.frechet_distance(torch.tensor([[0.0], [2.0]]), torch.tensor([[2.0], [6.0]]))
        assert found == pytest.approx(3**2 + (8**0.5 - 2**0.5) ** 2)

    def test_the_same_photos_have_none(self):
        features = torch.rand(5, 16, generator=torch.Generator().manual_seed(0))
        assert colors.frechet_distance(features, features) == pytest.approx(0, abs=1e-6)

    def test_one_photo_is_refused(self):
        with refused(received=1):
            colors.frechet_distance(torch.zeros(1, 4), torch.zeros(3, 4))


class TestAlphaBeta:
    def test_the_error_is_a_naive_sum(self, pairs):
        found = colors.mean_squared_alphabeta_error(*pairs)
        for photo, truth, value in zip(*pairs, found.tolist(), strict=True):
            total = 0.0
            for pixel, true in zip(photo.flatten(1).T.tolist(), truth.flatten(1).T.tolist(), strict=True):
                (r, g, b), (r2, g2, b2) = pixel, true
                total += ((r - g) - (r2 - g2)) ** 2 + ((r + g - 2 * b) - (r2 + g2 - 2 * b2)) ** 2
            assert value == pytest.approx(total / (24 * 20), rel=1e-12)

    def test_it_is_blind_to_lightness(self, pairs):
        truth = pairs[1] / 2
        assert colors.mean_squared_alphabeta_error(truth + 0.25, truth).max() < 1e-28

    def test_pure_colours_by_hand(self):
        pure = torch.eye(3, dtype=torch.double).view(3, 3, 1, 1)
        assert colors.alphabeta(pure).flatten(1).tolist() == [[1, 1], [-1, 1], [0, -2]]
        found = colors.mean_squared_alphabeta_error(pure, torch.full_like(pure, 0.5))
        assert found.tolist() == [2, 2, 4]
