import math

import pytest
import torch
import torch.nn.functional as F
from refusals import refused

from pretext.color.bins import ab_bins
from pretext.color.decode import (
    annealed_mean,
    coherent_sample,
    decode_then_upsample,
    mean,
    mode,
    sample,
    upsample_then_decode,
)

BINS = ab_bins("official313")
DECODERS = [annealed_mean, mean, mode, sample, coherent_sample]


@pytest.fixture
def logits():
    return torch.randn(2, 313, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3


def naive_annealed_mean(logits, temperature):
    """Equation 5 as it stands, over probabilities."""
    annealed = torch.exp(torch.log(torch.softmax(logits, dim=1)) / temperature)
    annealed = annealed / annealed.sum(dim=1, keepdim=True)
    return torch.stack([(annealed * BINS[:, c].view(1, -1, 1, 1)).sum(dim=1) for c in range(2)], dim=1)


@pytest.mark.parametrize("temperature", [0.1, 0.38, 1.0, 3.0])
def test_annealed_mean_is_equation_5(logits, temperature):
    ab = annealed_mean(logits, BINS, temperature)
    assert ab.shape == (2, 2, 3, 4)
    assert (ab - naive_annealed_mean(logits, temperature)).abs().max() < 1e-9


def test_annealed_mean_of_two_bins_by_hand():
    # p = (0.8, 0.2) at T = 0.5 becomes (0.64, 0.04) / 0.68.
    logits = torch.tensor([0.8, 0.2]).log().view(1, 2, 1, 1)
    ab = annealed_mean(logits, torch.tensor([[10.0, 0.0], [0.0, -20.0]]), temperature=0.5)
    assert ab.flatten().tolist() == pytest.approx([6.4 / 0.68, -0.8 / 0.68])


@pytest.mark.parametrize("temperature", [1e-3, 1e-30])
def test_annealed_mean_tends_to_the_mode(logits, temperature):
    assert (annealed_mean(logits, BINS, temperature) - mode(logits, BINS)).abs().max() < 1e-6


def test_temperature_one_is_the_mean(logits):
    expected = torch.einsum("nqhw,qc->nchw", torch.softmax(logits, 1), BINS.double())
    assert (mean(logits, BINS) - expected).abs().max() < 1e-9
    assert torch.equal(annealed_mean(logits, BINS, 1.0), mean(logits, BINS))


def test_mode_is_the_most_probable_bin(logits):
    ab = mode(logits, BINS)
    for n in range(2):
        for y in range(3):
            for x in range(4):
                assert torch.equal(ab[n, :, y, x], BINS[logits[n, :, y, x].argmax()])


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_huge_logits_stay_finite_and_inside_the_bins(decode, dtype, logits):
    for huge in (
        logits.sign() * 1e4,
        logits * 1e4,
        torch.full_like(logits, -1e4),
        torch.full_like(logits, 1e4),
    ):
        ab = decode(huge.to(dtype), BINS)
        assert ab.isfinite().all()
        assert ab.abs().max() <= 110.001


def test_equal_logits_decode_to_the_centre_of_the_bins_at_any_temperature():
    for temperature in (1e-6, 0.38, 1.0):
        ab = annealed_mean(torch.zeros(1, 313, 1, 1), BINS, temperature)
        assert ab.flatten().tolist() == pytest.approx(BINS.mean(0).tolist(), abs=1e-4)


def test_autocast_does_not_round_the_colours(logits):
    expected = annealed_mean(logits.float(), BINS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(annealed_mean(logits.float(), BINS), expected)


def test_annealed_mean_gradient():
    logits = torch.randn(1, 5, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    bins = ab_bins("official313")[100:105].double()
    assert torch.autograd.gradcheck(lambda scores: annealed_mean(scores, bins), logits.requires_grad_())


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_bad_temperatures_are_refused(logits, temperature):
    with refused("temperature", allowed="above 0") as info:
        annealed_mean(logits, BINS, temperature)
    assert info.value.received is temperature


def test_samples_follow_the_distribution():
    probabilities = torch.tensor([0.5, 0.3, 0.2, 0.0])
    logits = probabilities.log().view(1, 4, 1, 1).expand(1, 4, 200, 200)
    bins = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]])
    ab = sample(logits, bins, torch.Generator().manual_seed(0))
    frequency = torch.stack([(ab[0] == center.view(2, 1, 1)).all(0).float().mean() for center in bins])
    assert (frequency - probabilities).abs().max() < 0.01
    assert frequency[3] == 0


def test_samples_follow_the_generator(logits):
    for draw in (sample, coherent_sample):
        draws = [draw(logits, BINS, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
        assert torch.equal(draws[0], draws[1])
        assert not torch.equal(draws[0], draws[2])


def test_coherent_samples_follow_the_distribution_over_many_seeds():
    probabilities = torch.tensor([[0.5, 0.3, 0.2, 0.0], [0.1, 0.1, 0.1, 0.7]])
    logits = probabilities.log().T.view(1, 4, 1, 2)
    bins = torch.arange(8.0).view(4, 2)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([coherent_sample(logits, bins, generator) for _ in range(10_000)])[:, 0, 0]
    frequency = torch.stack([(drawn == bins[q, 0]).float().mean(0) for q in range(4)], 1)
    assert (frequency - probabilities).abs().max() < 0.02
    assert frequency[0, 3] == 0


def test_coherent_samples_are_equal_where_the_distributions_are():
    logits = torch.randn(1, 313, 1, 1, generator=torch.Generator().manual_seed(0)).expand(2, -1, 5, 7)
    drawn = [coherent_sample(logits, BINS, torch.Generator().manual_seed(seed)) for seed in range(20)]
    assert all(torch.equal(ab, ab[:1, :, :1, :1].expand_as(ab)) for ab in drawn)
    assert len({tuple(ab[0, :, 0, 0].tolist()) for ab in drawn}) > 5


def test_huge_scores_do_not_swallow_what_is_random():
    logits = torch.full((1, 2, 1, 1), 1e9)
    bins = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    generator = torch.Generator().manual_seed(0)
    drawn = [coherent_sample(logits, bins, generator)[0, 0, 0, 0].item() for _ in range(200)]
    assert 60 < sum(drawn) < 140


def test_decode_then_upsample(logits):
    ab = decode_then_upsample(logits, BINS, (12, 16))
    expected = F.interpolate(annealed_mean(logits, BINS), scale_factor=4, mode="bilinear")
    assert torch.allclose(ab, expected)


def test_upsample_then_decode(logits):
    ab = upsample_then_decode(logits, BINS, (12, 16))
    large = F.interpolate(torch.softmax(logits, 1), scale_factor=4, mode="bilinear")
    assert (ab - naive_annealed_mean(large.log(), 0.38)).abs().max() < 1e-6


def test_the_two_orders_agree_on_the_mean_and_at_the_same_size(logits):
    by_mean = [f(logits, BINS, (12, 16), mean) for f in (decode_then_upsample, upsample_then_decode)]
    assert (by_mean[0] - by_mean[1]).abs().max() < 1e-9
    same_size = [f(logits, BINS, (3, 4)) for f in (decode_then_upsample, upsample_then_decode)]
    assert (same_size[0] - same_size[1]).abs().max() < 1e-9


def test_upsampling_probabilities_keeps_edges_that_upsampling_colours_blurs():
    logits = torch.full((1, 313, 1, 2), -1e4)
    red, green = (BINS.tolist().index(color) for color in ([60.0, 40.0], [-60.0, 40.0]))
    logits[0, red, 0, 0] = logits[0, green, 0, 1] = 1e4
    blurred = decode_then_upsample(logits, BINS, (1, 8))[0, 0, 0]
    sharp = upsample_then_decode(logits, BINS, (1, 8), mode)[0, 0, 0]
    assert sharp.tolist() == [60.0] * 4 + [-60.0] * 4
    assert blurred[3].item() == pytest.approx(15.0)
