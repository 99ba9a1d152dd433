from statistics import NormalDist

import naive_histograms
import numpy as np
import pytest
import torch

from pretext.color.decode import median_position
from pretext.color.marginals import LabJoint, LabMarginals, bins_of, quantile_centers, quantile_edges

#: Positive centres of 16 bins, as they were computed with NumPy from the paper's description.
CENTERS_OF_16 = [46.6, 33.0, 25.2, 19.4, 14.5, 10.1, 5.9, 2.0]


def test_edges_and_centres_are_quantiles_of_the_papers_gaussian():
    edges, centers = quantile_edges(32), quantile_centers(32)
    assert (len(edges), len(centers)) == (31, 32)
    assert edges[[0, 1, 15, 29, 30]].tolist() == pytest.approx([-46.57, -38.35, 0, 38.35, 46.57], abs=5e-3)
    assert centers[[0, 15, 16, 31]].tolist() == pytest.approx([-53.85, -0.98, 0.98, 53.85], abs=5e-3)
    expected = CENTERS_OF_16 + [-center for center in CENTERS_OF_16]
    assert sorted(quantile_centers(16).tolist()) == pytest.approx(sorted(expected), abs=0.05)
    gaussian = NormalDist(0, 25)
    assert edges.tolist() == pytest.approx([gaussian.inv_cdf(k / 32) for k in range(1, 32)], abs=1e-9)


def test_a_value_on_an_edge_is_in_the_bin_above():
    edges = torch.tensor([-1.0, 0.0, 2.0])
    values = torch.tensor([-128.0, -1.0, -0.1, 0.0, 1.9, 2.0, 128.0])
    assert bins_of(values, edges).tolist() == [0, 1, 1, 2, 2, 3, 3]


def test_bins_are_those_of_the_papers_code():
    values = torch.linspace(-110, 110, 500, dtype=torch.float64)
    for count in (16, 32):
        expected = [naive_histograms.gaussian_bin(value, count) for value in values.tolist()]
        assert bins_of(values, quantile_edges(count)).tolist() == expected


def test_joint_bins_go_through_b_first():
    space = LabJoint(3)
    values = torch.tensor([[-90.0, 0.0, 90.0, 90.0], [0.0, 90.0, -90.0, 90.0]]).view(1, 2, 1, 4)
    indices, weights = space.encode(values)
    assert indices.flatten().tolist() == [1, 5, 6, 8]
    assert torch.equal(weights, torch.ones(1, 1, 1, 4))
    center = quantile_centers(3)[2].item()
    assert space.bins[5].tolist() == pytest.approx([0, center], abs=1e-6)


def test_the_median_is_that_of_the_interpolated_histogram():
    space = LabMarginals(8)
    prediction = torch.randn(
        1, 16, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ).mul(3)
    ab = space.decode(prediction, rule="median")
    for y in range(4):
        for x in range(5):
            for channel in range(2):
                scores = prediction[0, 8 * channel : 8 * channel + 8, y, x].numpy()
                position = naive_histograms.median_position(naive_histograms.softmax(scores))
                expected = naive_histograms.gaussian_quantile(position / 8)
                assert ab[0, channel, y, x].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("rule", LabMarginals.rules)
def test_a_certain_bin_gives_its_centre(rule):
    space = LabMarginals()
    bins = torch.arange(32).view(1, 1, 4, 8)
    scores = torch.full((1, 32, 4, 8), -200.0).scatter(1, bins, 200.0)
    ab = space.decode(torch.cat([scores, scores.flip(2)], 1), rule=rule)
    expected = torch.stack([space.centers.view(4, 8), space.centers.view(4, 8).flip(0)])
    torch.testing.assert_close(ab[0], expected, rtol=1e-4, atol=1e-3)


def test_the_median_lies_where_the_cumulative_sum_is_a_half():
    shares = torch.tensor(
        [[0.25, 0.5, 0.25, 0.0], [0.1, 0.1, 0.8, 0.0], [0.75, 0.0, 0.25, 0.0], [0.0, 0.0, 0, 1]]
    )
    positions = median_position(shares.log().T[None, :, None])
    assert positions.flatten().tolist() == pytest.approx([1.5, 2.375, 2 / 3, 3.5])


def test_coherent_draws_are_the_same_quantile_everywhere():
    space = LabMarginals(8)
    prediction = torch.randn(1, 16, 6, 7, generator=torch.Generator().manual_seed(0)) * 2
    prediction[..., 3:] = prediction[..., :1, :1]
    for seed in range(10):
        ab = space.decode(prediction, rule="coherent", generator=torch.Generator().manual_seed(seed))
        generator = torch.Generator().manual_seed(seed)
        for channel, half in enumerate(space.parts(prediction)):
            level = torch.rand(1, generator=generator)
            cumulative = half.softmax(1).cumsum(1)[0]
            expected = space.centers[(cumulative <= level).sum(0).clamp_max(7)]
            assert torch.equal(ab[0, channel], expected)
        assert len(np.unique(ab[0, :, :, 3:].flatten(1).numpy(), axis=1).T) == 1


def test_single_draws_follow_both_histograms():
    space = LabMarginals(4)
    shares = torch.tensor([0.5, 0.3, 0.2, 0.0, 0.1, 0.1, 0.2, 0.6])
    scores = shares.log().view(1, 8, 1, 1).expand(1, 8, 200, 200)
    ab = space.decode(scores, rule="sample", generator=torch.Generator().manual_seed(0))
    found = torch.cat([(ab[0, c, None] == space.centers[:, None, None]).float().mean((1, 2)) for c in (0, 1)])
    assert (found - shares).abs().max() < 0.01
    # The two channels are drawn independently.
    both = ((ab[0, 0] == space.centers[0]) & (ab[0, 1] == space.centers[3])).float().mean().item()
    assert both == pytest.approx(0.5 * 0.6, abs=0.01)
