import numpy as np
import pytest
import torch

from transfer.networks.color_transfer import (
    aligned_ab,
    best_matches,
    jittered,
    local_deviation,
    remapped,
    welsh_ab,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def gray():
    return torch.rand(1, 9, 13, generator=torch.Generator().manual_seed(0)) * 100


@pytest.fixture
def reference():
    lab = torch.rand(3, 14, 10, generator=torch.Generator().manual_seed(1))
    return (
        lab * torch.tensor([60.0, 100.0, 100.0])[:, None, None] - torch.tensor([0.0, 50, 50])[:, None, None]
    )


def slow_deviation(lightness):
    """The same by numpy, pixel by pixel."""
    padded = np.pad(lightness, 2, mode="edge")
    rows, columns = lightness.shape
    return np.array([[padded[y : y + 5, x : x + 5].std() for x in range(columns)] for y in range(rows)])


def slow_remapping(lightness, target):
    return (lightness - lightness.mean()) * target.std() / lightness.std() + target.mean()


def slow_welsh(lightness, lab, chosen):
    """Section 3.1 of the paper, pixel by pixel."""
    shown = slow_remapping(lab[0], lightness)
    deviation, shown_deviation = slow_deviation(lightness), slow_deviation(shown)
    painted = np.empty((2, *lightness.shape))
    for y, x in np.ndindex(*lightness.shape):
        best, least = None, np.inf
        for number in chosen:
            at = divmod(number, lab.shape[2])
            unlike = 0.5 * abs(shown[at] - lightness[y, x])
            unlike += 0.5 * abs(shown_deviation[at] - deviation[y, x])
            if unlike < least:
                best, least = at, unlike
        painted[:, y, x] = lab[1:, best[0], best[1]]
    return painted


def test_it_is_what_the_paper_says(gray, reference):
    found = welsh_ab(gray, reference, np.random.default_rng(5))
    chosen = jittered(14, 10, np.random.default_rng(5))
    expected = slow_welsh(gray[0].double().numpy(), reference.double().numpy(), chosen)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_matches_of_many_pixels_are_those_of_each(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    pixels, samples = torch.rand(2, 50, generator=generator), torch.rand(2, 7, generator=generator)
    samples[:, 6] = samples[:, 2]
    monkeypatch.setattr("transfer.networks.color_transfer._CHUNK", 8)
    unlike = np.abs(pixels.numpy()[:, :, None] - samples.numpy()[:, None]).sum(0)
    found = best_matches(pixels, samples)
    assert found.tolist() == unlike.argmin(1).tolist()
    assert 2 in found.tolist()
    assert 6 not in found.tolist()


def test_draws_follow_the_seed(gray):
    reference = torch.rand(3, 30, 40, generator=torch.Generator().manual_seed(3)) * 100
    first, again, other = (welsh_ab(gray, reference, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_one_pixel_is_drawn_from_each_cell():
    found = jittered(60, 90, np.random.default_rng(0))
    rows, columns = 12, 17  # about 200, of the photo's shape
    assert len(found) == rows * columns
    assert len(set(found.tolist())) == len(found)
    y, x = found // 90, found % 90
    cells = np.repeat(np.arange(rows), columns), np.tile(np.arange(columns), rows)
    for at, cell, count, side in ((y, cells[0], rows, 60), (x, cells[1], columns, 90)):
        assert (cell * side // count <= at).all()
        assert (at < (cell + 1) * side // count).all()
    # Each place of a cell is drawn.
    drawn = [int(jittered(60, 90, np.random.default_rng(seed))[0]) for seed in range(200)]
    assert len(set(drawn)) == 5 * 5


@pytest.mark.parametrize(("shape", "count"), [((1, 1), 1), ((1, 500), 200), ((300, 2), 173), ((5, 5), 25)])
def test_small_and_narrow_photos_are_sampled_too(shape, count):
    found = jittered(*shape, np.random.default_rng(0))
    assert len(found) == count
    assert set(found.tolist()) <= set(range(shape[0] * shape[1]))


def test_lightness_is_remapped_to_the_mean_and_deviation_of_another(gray, reference):
    found = remapped(reference[:1], gray)
    assert found.mean() == pytest.approx(float(gray.mean()), abs=1e-4)
    assert found.std() == pytest.approx(float(gray.std() * np.sqrt(139 / 140 * 117 / 116)), rel=1e-2)
    np.testing.assert_allclose(found[0], slow_remapping(reference[0].numpy(), gray.numpy()), rtol=1e-4)
    flat = remapped(torch.full((1, 2, 2), 7.0), gray)
    torch.testing.assert_close(flat, torch.full((1, 2, 2), float(gray.mean())))


def test_deviations_are_those_of_the_pixels_around(gray):
    np.testing.assert_allclose(
        local_deviation(gray)[0], slow_deviation(gray[0].numpy()), rtol=1e-4, atol=1e-4
    )
    assert local_deviation(torch.full((1, 3, 1), 88.8)).tolist() == [[[0.0], [0.0], [0.0]]]


def test_near_places_of_an_aligned_photo_are_matched():
    generator = torch.Generator().manual_seed(2)
    gray = torch.rand(1, 20, 24, generator=generator) * 100
    lab = torch.rand(3, 20, 24, generator=generator) * 100
    found = aligned_ab(gray, lab)
    target = gray[0].double().numpy()
    shown = slow_remapping(lab[0].double().numpy(), target)
    deviation, shown_deviation = slow_deviation(target), slow_deviation(shown)
    for y, x in np.ndindex(20, 24):
        near = [(r, c) for r in range(20) for c in range(24) if abs(r - y) <= 8 and abs(c - x) <= 8]
        unlike = [abs(shown[at] - target[y, x]) + abs(shown_deviation[at] - deviation[y, x]) for at in near]
        row, column = near[int(np.argmin(unlike))]
        np.testing.assert_allclose(found[:, y, x], lab[:, row, column][1:], atol=1e-4)


def test_a_photo_matches_itself_in_its_own_places():
    """Where nothing tells pixels apart, the colour of the same place is taken."""
    lab = torch.zeros(3, 30, 40)
    lab[1] = torch.arange(40.0)
    torch.testing.assert_close(aligned_ab(lab[:1], lab), lab[1:])


def test_large_photos_are_matched_in_a_small_map(gray):
    found = aligned_ab(torch.rand(1, 320, 160) * 100, torch.rand(3, 50, 300))
    assert found.shape == (2, 64, 32)
    assert aligned_ab(torch.rand(1, 1, 500), torch.rand(3, 1, 1)).shape == (2, 1, 64)
