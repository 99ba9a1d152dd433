import math

import numpy as np
import pytest
import torch
from energies import made_scores

from pretext.color.histograms import (
    apply_bias,
    chi_squared,
    histogram,
    hue_and_chroma_histograms,
    hue_bias,
    mean_histogram,
    rotate,
    uncertainty,
)


class TestHistogram:
    def test_it_counts_as_numpy_does(self):
        values = torch.rand(2, 30, 40, generator=torch.Generator().manual_seed(0))
        found = histogram(values, torch.linspace(0, 1, 33))
        for photo, shares in zip(values.numpy(), found.numpy(), strict=True):
            counts, _ = np.histogram(photo, bins=32, range=(0, 1))
            assert shares == pytest.approx(counts / 1200)

    def test_weights_and_edges_of_unequal_width(self):
        values = torch.tensor([[[-50.0, -1.0, 0.0, 3.0, 7.0, 90.0]]])
        edges = torch.tensor([-torch.inf, -2.0, 0.0, 7.0, torch.inf])
        weights = torch.tensor([[[1.0, 2.0, 3.0, 4.0, 5.0, 5.0]]])
        assert histogram(values, edges, weights).tolist() == [pytest.approx([0.05, 0.1, 0.35, 0.5])]

    def test_values_beyond_the_edges_are_in_the_outer_bins(self):
        values = torch.tensor([[[-1.0, 0.0, 0.5, 1.0, 2.0]]])
        assert histogram(values, torch.tensor([0.0, 0.5, 1.0])).tolist() == [pytest.approx([0.4, 0.6])]

    def test_without_any_weight_nothing_is_known(self):
        found = histogram(torch.zeros(1, 2, 2), torch.linspace(0, 1, 5), torch.zeros(1, 2, 2))
        assert found.tolist() == [[0.25] * 4]

    def test_the_expected_histogram_is_the_mean_of_distributions(self):
        scores, _, weights = made_scores()
        assert torch.allclose(mean_histogram(scores), scores.softmax(1).mean((2, 3)))
        shares = weights / weights.sum((1, 2), keepdim=True)
        expected = (scores.softmax(1) * shares.unsqueeze(1)).sum((2, 3))
        assert torch.allclose(mean_histogram(scores, weights), expected)
        assert torch.allclose(mean_histogram(scores, 0 * weights), mean_histogram(scores))

    def test_chi_squared_by_hand(self):
        first = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.2, 0.3, 0.5]])
        second = torch.tensor([[0.25, 0.75, 0.0], [0.0, 1.0, 0.0], [0.2, 0.3, 0.5]])
        by_hand = [0.5 * (0.0625 / 0.75 + 0.0625 / 1.25), 1.0, 0.0]
        assert chi_squared(first, second).tolist() == pytest.approx(by_hand)
        assert torch.equal(chi_squared(first, second), chi_squared(second, first))

    def test_the_hue_of_gray_does_not_count(self):
        hues, chromas = torch.tensor([[[0.0, 0.6, 0.3]]]), torch.tensor([[[0.0, 0.6, 0.2]]])
        hue, chroma = hue_and_chroma_histograms(hues, chromas, num_bins=4)
        assert hue.tolist() == [pytest.approx([0, 0.25, 0.75, 0])]
        assert chroma.tolist() == [pytest.approx([2 / 3, 0, 1 / 3, 0])]


class TestBias:
    def test_whole_bins_are_rolled_and_a_full_turn_changes_nothing(self):
        bias = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
        assert torch.equal(rotate(bias, 0.0), bias)
        assert torch.equal(rotate(bias, 360.0), bias)
        assert torch.equal(rotate(bias, 3 * 11.25), bias.roll(3, 1))
        assert torch.equal(rotate(bias, -11.25), bias.roll(-1, 1))
        assert torch.allclose(rotate(rotate(bias, 100.0), 260.0), rotate(rotate(bias, 260.0), 100.0))

    def test_parts_of_a_bin_are_interpolated_around_the_circle(self):
        peak = torch.tensor([[0.0, 0.0, 0.0, 1.0]])
        assert rotate(peak, 22.5).tolist() == [pytest.approx([0.25, 0.0, 0.0, 0.75])]
        maps = peak[:, :, None, None].expand(1, 4, 2, 3)
        assert torch.equal(rotate(maps, 22.5)[0, :, 1, 2], rotate(peak, 22.5)[0])

    def test_a_rotated_histogram_has_its_mean_hue_rotated(self):
        bins = torch.tensor([0.1, 0.5, 0.3, 0.1, 0, 0, 0, 0])[None]
        angles = 2 * math.pi * (torch.arange(8) + 0.5) / 8

        def mean_hue(histogram):
            return torch.atan2((histogram * angles.sin()).sum(), (histogram * angles.cos()).sum()).item()

        for degrees in (45.0, 90.0, 135.0):
            off = mean_hue(rotate(bins, degrees)) - mean_hue(bins) - math.radians(degrees)
            assert math.cos(off) == pytest.approx(1)

    def test_a_bias_of_hue_leans_to_its_hue(self):
        for degrees, place in ((4.0, 0), (120.0, 10), (240.0, 21), (355.0, 31)):
            biased = apply_bias(torch.zeros(1, 32, 1, 1), hue_bias(32, degrees, strength=4.0)).flatten()
            assert biased.argmax().item() == place
            assert biased.max() - biased.min() == pytest.approx(8.0, abs=0.1)
        assert torch.allclose(hue_bias(32, 45.0), rotate(hue_bias(32, 0.0), 45.0), atol=1e-6)

    def test_without_strength_it_changes_nothing(self):
        scores, _, _ = made_scores(bins=32)
        assert torch.allclose(apply_bias(scores, hue_bias(32, 70.0, 0.0)), scores.log_softmax(1))


class TestUncertainty:
    CHROMAS = (torch.arange(32) + 0.5) / 32

    def test_equal_hues_are_as_uncertain_as_their_chroma(self):
        chroma = torch.randn(2, 32, 3, 4, generator=torch.Generator().manual_seed(0))
        found = uncertainty(torch.zeros(2, 32, 3, 4), chroma, self.CHROMAS)
        expected = (chroma.softmax(1) * self.CHROMAS[None, :, None, None]).sum(1)
        assert torch.allclose(found, expected, atol=1e-6)

    def test_a_sure_hue_is_not_uncertain(self):
        hue = torch.full((1, 32, 1, 1), -torch.inf)
        hue[0, 5] = 0
        assert uncertainty(hue, torch.zeros(1, 32, 1, 1), self.CHROMAS).item() == 0

    def test_entropy_by_hand(self):
        hue = torch.tensor([0.5, 0.25, 0.25, 0.0]).log().view(1, 4, 1, 1)
        chroma = torch.tensor([0.0, 0.0]).view(1, 2, 1, 1)
        found = uncertainty(hue, chroma, torch.tensor([0.0, 0.5]))
        assert found.item() == pytest.approx(1.5 / 2 * 0.25)
