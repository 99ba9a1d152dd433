import itertools

import numpy as np
import pytest
import torch
from energies import made_scores
from refusals import refused
from scipy.optimize import minimize

from pretext.color.energy import energy, match_hue_and_chroma, minimize_energy
from pretext.color.histograms import apply_bias, chi_squared, mean_histogram


def naive_energy(scores, bias, target, strength, weights=None):
    """Equation 5 as it stands, photo by photo and pixel by pixel."""
    energies = []
    for n in range(len(scores)):
        predicted = scores[n].softmax(0).flatten(1).T  # (pixels, K)
        chosen = (predicted.log() + bias[n]).softmax(1)
        each = torch.ones(len(predicted)) if weights is None else weights[n].flatten()
        divergences = (chosen * (chosen / predicted).log()).sum(1)
        mean = (each[:, None] * chosen).sum(0) / each.sum()
        distance = 0.5 * ((mean - target[n]) ** 2 / (mean + target[n])).sum()
        energies.append((each * divergences).sum() / each.sum() + strength * distance)
    return torch.stack(energies)


class TestEnergy:
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("strength", [0.0, 1.0, 30.0])
    def test_energy_and_gradient_are_those_of_equation_5(self, strength, weighted):
        scores, target, weights = made_scores()
        target[0, 2] = 0
        target /= target.sum(1, keepdim=True)
        bias = torch.randn(3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        bias.requires_grad_()
        expected = naive_energy(scores, bias, target, strength, weights if weighted else None)
        (slope,) = torch.autograd.grad(expected.sum(), bias)
        found, gradient = energy(scores, bias.detach(), target, strength, weights if weighted else None)
        assert torch.allclose(found, expected.detach(), rtol=1e-12, atol=1e-12)
        assert torch.allclose(gradient, slope, rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize("strength", [0.5, 10.0, 1000.0])
    def test_the_minimum_is_that_of_a_general_optimiser(self, strength):
        scores, target, weights = made_scores(count=2, bins=4, height=3, width=2)
        match = minimize_energy(scores, target, strength, weights, tolerance=1e-12)
        assert match.converged.all()
        for n in range(2):
            one = scores[n : n + 1], target[n : n + 1], weights[n : n + 1]

            def value(free, one=one):
                bias = torch.tensor(free)[None]
                return naive_energy(one[0], bias, one[1], strength, one[2]).item()

            starts = np.random.default_rng(0).normal(size=(3, 4))
            best = min(minimize(value, start, method="BFGS", options={"gtol": 1e-9}).fun for start in starts)
            assert match.energies[n, -1].item() == pytest.approx(best, abs=1e-7)

    def test_no_free_distributions_are_better(self):
        """The bias that all pixels share loses nothing: equation 5 over y* itself has the same minimum."""
        scores, target, _ = made_scores(count=1, bins=4, height=2, width=2)
        match = minimize_energy(scores, target, 5.0, tolerance=1e-12)
        predicted = scores[0].softmax(0).flatten(1).T.numpy()

        def value(free):
            chosen = torch.tensor(free).view(4, 4).softmax(1).numpy()
            mean, wanted = chosen.mean(0), target[0].numpy()
            divergence = (chosen * np.log(chosen / predicted)).sum(1).mean()
            return divergence + 5.0 * 0.5 * ((mean - wanted) ** 2 / (mean + wanted)).sum()

        start = np.log(predicted).flatten()
        assert value(start) == pytest.approx(match.energies[0, 0].item())
        best = minimize(value, start, method="BFGS", options={"gtol": 1e-8}).fun
        assert match.energies[0, -1].item() == pytest.approx(best, abs=1e-7)

    def test_at_the_minimum_the_bias_is_the_slope_of_the_distance(self):
        scores, target, _ = made_scores()
        match = minimize_energy(scores, target, 7.0, tolerance=1e-13)
        mean = match.probabilities.mean((2, 3)).requires_grad_()
        (slope,) = torch.autograd.grad(chi_squared(mean, target).sum(), mean)
        expected = -7.0 * slope
        assert torch.allclose(match.bias, expected - expected.mean(1, keepdim=True), atol=1e-5)

    @pytest.mark.parametrize("strength", [0.1, 10.0, 1e6])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_energy_never_rises_and_stops_by_the_tolerance(self, strength, dtype):
        scores, target, weights = made_scores(count=6, bins=32, height=12, width=12)
        match = minimize_energy(scores.to(dtype), target.to(dtype), strength, weights.to(dtype))
        before, after = match.energies[:, :-1], match.energies[:, 1:]
        assert (after <= before).all()
        assert match.converged.all()
        assert ((before - after)[:, -1] <= 1e-4 * before[:, -1]).all()
        assert match.energies.shape[1] < 30
        assert match.probabilities.dtype == dtype
        assert (match.probabilities.sum(1) - 1).abs().max() < 1e-5

    def test_the_larger_the_strength_the_nearer_the_histogram(self):
        scores, target, _ = made_scores()
        distances = [
            chi_squared(minimize_energy(scores, target, strength).probabilities.mean((2, 3)), target)
            for strength in (0.0, 1.0, 10.0, 100.0)
        ]
        assert all((nearer < farther).all() for farther, nearer in itertools.pairwise(distances))

    def test_nothing_changes_without_strength_or_reason(self):
        scores, target, _ = made_scores()
        for match in (minimize_energy(scores, target, 0.0), minimize_energy(scores, mean_histogram(scores))):
            assert match.bias.abs().max() < 1e-6
            assert torch.allclose(match.probabilities, scores.softmax(1), atol=1e-7)
            assert match.converged.all()

    def test_a_batch_is_its_photos(self):
        scores, target, weights = made_scores(count=4)
        together = minimize_energy(scores, target, 10.0, weights)
        for n in range(4):
            alone = minimize_energy(scores[n : n + 1], target[n : n + 1], 10.0, weights[n : n + 1])
            assert torch.allclose(together.bias[n], alone.bias[0], atol=1e-9)
            assert torch.allclose(together.probabilities[n], alone.probabilities[0], atol=1e-9)
            steps = alone.energies.shape[1]
            assert torch.allclose(together.energies[n, :steps], alone.energies[0], atol=1e-9)
            assert (together.energies[n, steps:] == together.energies[n, steps - 1]).all()

    def test_one_histogram_serves_all_photos(self):
        scores, target, _ = made_scores()
        shared = minimize_energy(scores, target[:1])
        assert torch.equal(shared.bias, minimize_energy(scores, target[:1].expand(3, -1)).bias)

    def test_a_rotated_problem_has_the_rotated_bias(self):
        scores, target, _ = made_scores()
        match = minimize_energy(scores, target)
        turned = minimize_energy(scores.roll(3, 1), target.roll(3, 1))
        assert torch.allclose(turned.bias, match.bias.roll(3, 1), atol=1e-7)

    def test_weightless_pixels_do_not_count(self):
        scores, target, weights = made_scores()
        weights[:, :, 2:] = 0
        match = minimize_energy(scores, target, weights=weights)
        cut = minimize_energy(scores[..., :2], target, weights=weights[..., :2])
        assert torch.allclose(match.bias, cut.bias, atol=1e-9)

    @pytest.mark.parametrize("huge", [1e4, 1e30, torch.inf])
    def test_sure_predictions_stay_finite(self, huge):
        scores, target, _ = made_scores(bins=4)
        # Most pixels are sure of one bin, the last bin is impossible everywhere, and the target asks for it.
        scores[:, 3] = -huge
        sure = torch.where(scores == scores.amax(1, keepdim=True), scores, -huge)
        sure[:, :3, 0] = scores[:, :3, 0]
        target[0] = torch.tensor([0.0, 0.0, 0.0, 1.0])
        match = minimize_energy(sure, target, 100.0)
        for part in match:
            assert part.isfinite().all()
        assert (match.energies.diff() <= 0).all()
        assert apply_bias(sure, match.bias).softmax(1).isfinite().all()

    def test_it_stops_where_it_must(self):
        scores, target, _ = made_scores()
        none, one = (minimize_energy(scores, target, max_steps=steps) for steps in (0, 1))
        assert none.energies.shape[1] == 1
        assert one.energies.shape[1] == 2
        assert not none.converged.any()
        broken = minimize_energy(torch.full_like(scores, torch.nan), target, max_steps=5)
        assert not broken.converged.any()

    def test_the_bias_applied_to_the_scores_gives_the_distributions(self):
        scores, target, _ = made_scores()
        match = minimize_energy(scores, target)
        assert torch.allclose(apply_bias(scores, match.bias).exp(), match.probabilities)

    def test_arguments_out_of_range_are_refused(self):
        scores, target, _ = made_scores(count=3, bins=8)
        with refused("histograms", received=(2, 8), allowed=(3, 8)):
            minimize_energy(scores, target[:2])
        with refused("histograms", received=(3, 7)):
            minimize_energy(scores, target[:, :7])
        with refused("histogram"):
            minimize_energy(scores, 2 * target)
        with refused("histogram"):
            minimize_energy(scores, torch.cat([target[:, :6], -target[:, 6:]], 1))
        with refused("strength", received=-1.0):
            minimize_energy(scores, target, -1.0)
        with refused("tolerance", received=-1e-3):
            minimize_energy(scores, target, tolerance=-1e-3)

    def test_the_hue_of_a_pixel_counts_by_its_new_chroma(self):
        hue, hue_target, _ = made_scores(bins=6)
        chroma, chroma_target, _ = made_scores(bins=4, seed=1)
        found_hue, found_chroma = match_hue_and_chroma(hue, chroma, hue_target, chroma_target, 5.0)
        expected = minimize_energy(chroma, chroma_target, 5.0)
        assert torch.equal(found_chroma.bias, expected.bias)
        weights = (expected.probabilities * torch.tensor([0.125, 0.375, 0.625, 0.875])[:, None, None]).sum(1)
        assert torch.allclose(found_hue.bias, minimize_energy(hue, hue_target, 5.0, weights).bias)
