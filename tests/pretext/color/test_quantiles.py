import numpy as np
import pytest
import torch
from refusals import refused
from skimage.exposure import match_histograms

from pretext.color.histograms import histogram
from pretext.color.quantiles import (
    PhotoMatch,
    match_histogram,
    match_hue_histogram,
    match_hues,
    match_photo,
    match_quantiles,
)


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def apart(first, second):
    """Distance on a circle of length 1."""
    return (first - second + 0.5).remainder(1).sub(0.5).abs()


class TestQuantiles:
    def test_different_values_take_numpys_quantiles(self):
        values, reference = random(2, 5, 6), random(2, 7, 9, seed=1) ** 2
        matched = match_quantiles(values, reference)
        for n in range(2):
            ranks = values[n].flatten().argsort().argsort().numpy()
            wanted = np.quantile(reference[n].numpy(), (ranks + 0.5) / 30, method="hazen")
            assert matched[n].flatten().numpy() == pytest.approx(wanted)

    def test_a_reference_of_the_same_size_gives_exactly_its_values(self):
        values, reference = random(1, 8, 8), random(1, 8, 8, seed=1)
        matched = match_quantiles(values, reference)
        assert torch.allclose(matched.flatten().sort().values, reference.flatten().sort().values)
        assert torch.equal(matched.flatten().argsort(), values.flatten().argsort())

    def test_few_levels_match_nearly_as_scikit_image_matches_them(self):
        """It takes the rank of the last of equal values, and we the middle one: between many levels that is little."""
        values, reference = (random(1, 64, 64) * 200).floor(), (random(1, 64, 64, seed=1) ** 2 * 200).floor()
        expected = match_histograms(values[0].numpy(), reference[0].numpy())
        assert np.abs(match_quantiles(values, reference)[0].numpy() - expected).max() < 4

    def test_equal_values_stay_equal(self):
        values = torch.tensor([[[1.0, 1.0, 1.0, 2.0]]])
        matched = match_quantiles(values, torch.tensor([[[10.0, 20.0, 30.0, 40.0]]]))
        assert matched.tolist() == [[[20.0, 20.0, 20.0, 40.0]]]

    def test_values_that_match_already_stay(self):
        values = random(2, 6, 6)
        assert torch.allclose(match_quantiles(values, values), values)

    def test_a_weight_counts_as_repetition(self):
        values, reference = random(1, 1, 5), random(1, 1, 4, seed=1)
        weights, reference_weights = torch.tensor([[[1, 2, 3, 1, 1]]]), torch.tensor([[[2, 1, 1, 4]]])
        repeated = values[0, 0].repeat_interleave(weights[0, 0])[None, None]
        matched = match_quantiles(values, reference, weights.double(), reference_weights.double())
        # Repeated values of the reference are a plateau, and a weighted one is a point at its middle: compare ranks.
        found = match_quantiles(repeated, reference, None, reference_weights.double())
        assert torch.allclose(matched[0, 0].repeat_interleave(weights[0, 0]), found[0, 0])

    def test_weightless_values_of_a_reference_are_never_taken(self):
        reference = torch.tensor([[[-100.0, 0.0, 0.3, 0.7, 1.0, 100.0]]])
        weights = torch.tensor([[[0.0, 1.0, 1.0, 1.0, 1.0, 0.0]]])
        matched = match_quantiles(random(1, 50, 50).float(), reference, None, weights)
        assert matched.min() >= 0
        assert matched.max() <= 1

    def test_a_batch_is_its_photos_and_one_reference_serves_all(self):
        values, reference = random(3, 4, 5), random(1, 6, 7, seed=1)
        matched = match_quantiles(values, reference)
        for n in range(3):
            assert torch.equal(matched[n : n + 1], match_quantiles(values[n : n + 1], reference))
        with refused("references", received=2, allowed=(1, 3)):
            match_quantiles(values, random(2, 6, 7))

    def test_a_single_value_is_enough(self):
        assert match_quantiles(random(1, 2, 2), torch.tensor([[[7.0]]])).tolist() == [
            [[7.0, 7.0], [7.0, 7.0]]
        ]


class TestHistogram:
    def test_the_result_has_the_histogram(self):
        values = random(2, 40, 50)
        wanted = random(2, 8, seed=1)
        wanted[0, 2:4] = 0
        wanted = wanted / wanted.sum(1, keepdim=True)
        edges = torch.tensor([-40.0, -10.0, -3.0, -1.0, 0.0, 1.0, 3.0, 10.0, 40.0], dtype=torch.float64)
        matched = match_histogram(values, wanted, edges)
        for n in range(2):
            counts, _ = np.histogram(matched[n].numpy(), bins=edges.numpy())
            assert counts / 2000 == pytest.approx(wanted[n].numpy(), abs=1e-3)
            assert torch.equal(matched[n].flatten().argsort(), values[n].flatten().argsort())

    def test_it_is_numpys_interpolation_of_the_cumulative_histogram(self):
        values, wanted = random(1, 5, 5), torch.tensor([[0.1, 0.6, 0.3]])
        edges = torch.tensor([0.0, 0.2, 0.5, 1.0])
        ranks = values.flatten().argsort().argsort().numpy()
        expected = np.interp((ranks + 0.5) / 25, [0, 0.1, 0.7, 1.0], edges.numpy())
        assert match_histogram(values, wanted, edges).flatten().numpy() == pytest.approx(expected, abs=1e-6)

    def test_infinite_edges_are_refused(self):
        with refused("edges"):
            match_histogram(random(1, 2, 2), torch.tensor([[0.5, 0.5]]), torch.tensor([0.0, 1.0, torch.inf]))


class TestHues:
    def test_turning_the_photo_alone_changes_nothing_but_the_start(self):
        """The reference's distribution is taken whatever the photo's hues are."""
        hues, reference = random(1, 20, 20), 0.3 + 0.1 * random(1, 20, 20, seed=1)
        for turn in (0.0, 0.25, 0.7):
            matched = match_hues((hues + turn).remainder(1), reference)
            assert torch.allclose(
                matched.flatten().sort().values, reference.flatten().sort().values, atol=2e-3
            )

    @pytest.mark.parametrize("degrees", [1, 90, 213])
    def test_turning_everything_turns_the_result(self, degrees):
        hues, reference = random(2, 15, 15) ** 2, 0.2 + 0.5 * random(2, 15, 15, seed=1) ** 2
        weights, others = random(2, 15, 15, seed=2), random(2, 15, 15, seed=3)
        matched = match_hues(hues, reference, weights, others)
        turn = degrees / 360
        turned = match_hues((hues + turn).remainder(1), (reference + turn).remainder(1), weights, others)
        assert apart(turned, matched + turn).max() < 1e-9

    @pytest.mark.parametrize("turn", [0.1, -0.1, 0.3])
    def test_a_photo_and_its_turned_self_are_matched_pixel_by_pixel(self, turn):
        """Hues around the start of the circle, where a cut there would tear them apart."""
        hues = (0.1 * random(1, 20, 20) - 0.05).remainder(1)
        matched = match_hues(hues, (hues + turn).remainder(1))
        assert apart(matched, hues + turn).max() < 1e-6

    def test_hues_that_match_already_stay(self):
        hues = random(2, 12, 12)
        assert apart(match_hues(hues, hues), hues).max() < 1e-9

    def test_of_all_ways_around_the_circle_it_turns_the_least(self):
        hues, reference = random(1, 1, 40) ** 2, (0.6 + 0.3 * random(1, 1, 40, seed=1)).remainder(1)
        found = apart(match_hues(hues, reference), hues).mean()
        ordered, wanted = hues.flatten().sort().values, reference.flatten().sort().values
        best = min(apart(wanted.roll(k), ordered).mean() for k in range(40))
        assert found < best + 2 / 360

    def test_the_result_has_the_histogram(self):
        wanted = random(2, 32, seed=1)
        wanted[0, 3:29] = 0
        wanted = wanted / wanted.sum(1, keepdim=True)
        matched = match_hue_histogram(random(2, 60, 60), wanted)
        for n in range(2):
            counts, _ = np.histogram(matched[n].numpy(), bins=32, range=(0, 1))
            assert counts / 3600 == pytest.approx(wanted[n].numpy(), abs=1e-3)

    def test_a_histogram_turned_with_the_photo_turns_the_result(self):
        hues, wanted = random(1, 15, 15) ** 2, random(1, 36, seed=1).softmax(1)
        matched = match_hue_histogram(hues, wanted)
        turned = match_hue_histogram((hues + 5 / 36).remainder(1), wanted.roll(5, 1))
        assert apart(turned, matched + 5 / 36).max() < 1e-9

    def test_photo_and_histogram_give_nearly_the_same(self):
        hues, reference = random(1, 40, 40) ** 2, (0.8 + 0.5 * random(1, 40, 40, seed=1) ** 2).remainder(1)
        wanted = histogram(reference, torch.linspace(0, 1, 361, dtype=torch.float64))
        assert apart(match_hue_histogram(hues, wanted), match_hues(hues, reference)).max() < 0.02

    def test_gray_pixels_do_not_count(self):
        hues = torch.cat([torch.zeros(1, 10, 10), 0.5 + 0.1 * random(1, 10, 10).float()], 1)
        weights = (hues > 0).float()
        reference = 0.2 + 0.1 * random(1, 10, 10, seed=1).float()
        matched = match_hues(hues, reference, weights)[:, 10:]
        assert torch.allclose(matched.flatten().sort().values, reference.flatten().sort().values, atol=1e-6)
        assert match_hues(hues, reference, 0 * weights).isfinite().all()

    def test_hues_lie_in_the_circle(self):
        matched = match_hues(random(4, 9, 9).float(), random(4, 9, 9, seed=1).float() * 1e-7)
        assert matched.min() >= 0
        assert matched.max() < 1


class TestPhoto:
    def test_channels_by_lightness_are_matched(self):
        photos, references = random(2, 3, 8, 8), random(2, 3, 8, 8, seed=1)
        matched = match_photo(photos, references, by_lightness=False)
        assert torch.allclose(matched.mean(1), photos.mean(1))
        for n in range(2):
            relative = photos[n] / photos[n].mean(0)
            wanted = references[n] / references[n].mean(0)
            channels = []
            for c in range(3):
                ranks = relative[c].flatten().argsort().argsort()
                channels.append(wanted[c].flatten().sort().values[ranks].view(8, 8) * photos[n].mean(0))
            expected = torch.stack(channels)
            expected = expected + photos[n].mean(0) - expected.mean(0)
            assert torch.allclose(matched[n], expected)

    @pytest.mark.parametrize("by_lightness", [False, True])
    def test_a_photo_with_its_own_colours_stays(self, by_lightness):
        photos = random(2, 3, 8, 8)
        assert torch.allclose(match_photo(photos, photos, by_lightness), photos)

    def test_dark_pixels_of_the_reference_count_little(self):
        """Half of the reference is nearly black with a quotient that no bright pixel has."""
        reference = torch.cat([torch.full((1, 3, 20, 40), 0.5), torch.zeros(1, 3, 20, 40)], 2)
        reference[:, 0, 20:] = 0.003
        photos = random(1, 3, 8, 8)
        red, red_alike = (match_photo(photos, reference, way)[:, 0] - photos.mean(1) for way in (True, False))
        assert (red > 0.01).double().mean() < 0.02
        assert (red_alike > 0.01).double().mean() > 0.4

    def test_a_gray_reference_gives_gray(self):
        gray = random(1, 1, 9, 9, seed=1).expand(-1, 3, -1, -1)
        matched = match_photo(random(3, 3, 8, 8), gray)
        assert (matched.amax(1) - matched.amin(1)).max() < 1e-9

    def test_black_pixels_stay_black(self):
        photos = random(1, 3, 4, 4)
        photos[..., 0] = 0
        assert match_photo(photos, random(1, 3, 4, 4, seed=1))[..., 0].abs().max() == 0

    def test_counts_that_do_not_fit_are_refused(self):
        with refused("references", received=2, allowed=(1, 3)):
            match_photo(random(3, 3, 4, 4), random(2, 3, 4, 4))

    def test_parts_of_a_photo_are_matched_as_the_whole(self):
        photos, references = random(2, 3, 8, 6), random(1, 3, 5, 9, seed=1)
        match = PhotoMatch(photos, references)
        parts = [match(photos[:, :, rows]) for rows in (slice(0, 3), slice(3, 8))]
        assert torch.equal(torch.cat(parts, 2), match_photo(photos, references))
        other = match(random(2, 3, 2, 2, seed=2))
        assert other.shape == (2, 3, 2, 2)
        assert other.isfinite().all()
