from itertools import product

import numpy as np
import pytest
import torch
from refusals import refused
from scipy.spatial import cKDTree

from pretext.color.bins import (
    BIN_RULES,
    SoftEncoder,
    _comparators,
    ab_bins,
    bins_from_counts,
    to_dense,
)
from pretext.color.decode import annealed_mean
from pretext.color.lab import lab_to_rgb, rgb_to_lab
from pretext.color.prior import count_ab


def random_ab(pixels, dtype=torch.float64):
    """Colours of random sRGB pixels, (1, 2, 1, pixels)."""
    rgb = torch.rand(1, 3, 1, pixels, dtype=dtype, generator=torch.Generator().manual_seed(0))
    return rgb_to_lab(rgb)[:, 1:]


def outlying_ab(pixels, limit=128.0):
    """Colours all over the tabulated square, most of them outside sRGB, (1, 2, 1, pixels)."""
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(1, 2, 1, pixels, dtype=torch.float64, generator=generator) * 2 - 1) * limit


def one_color(a, b):
    return torch.tensor([a, b], dtype=torch.float64).view(1, 2, 1, 1)


def rows_of(grid):
    """Lowest and highest b of each a among the grid points marked in a (23, 23) mask, which must have no gaps."""
    rows = {}
    for i, row in enumerate(grid):
        marked = row.nonzero().flatten().tolist()
        if marked:
            assert marked == list(range(marked[0], marked[-1] + 1))
            rows[i * 10 - 110] = (marked[0] * 10 - 110, marked[-1] * 10 - 110)
    return rows


@pytest.mark.parametrize(
    ("rule", "size", "first", "last"),
    [
        ("official313", 313, (-90, 50), (100, 0)),
        ("gamut_nearest", 261, (-90, 80), (100, -50)),
        ("gamut_center", 229, (-80, 60), (90, -30)),
        ("full529", 529, (-110, -110), (110, 110)),
    ],
)
def test_bins_of_each_rule_are_sorted_grid_points(rule, size, first, last):
    bins = ab_bins(rule)
    assert bins.shape == (size, 2)
    points = [tuple(point) for point in bins.tolist()]
    assert points == sorted(set(points))
    assert (points[0], points[-1]) == (first, last)
    assert (bins % 10 == 0).all()


def test_official_bins_contain_the_gamut_bins():
    official = {tuple(point) for point in ab_bins("official313").tolist()}
    nearest = {tuple(point) for point in ab_bins("gamut_nearest").tolist()}
    center = {tuple(point) for point in ab_bins("gamut_center").tolist()}
    assert center < nearest < official


def test_official_bins_at_some_places():
    # Index of gray, and of the first bins of two rows, in the released pts_in_hull.npy.
    bins = ab_bins("official313").tolist()
    assert bins.index([0, 0]) == 120
    assert bins.index([-80, 20]) == 5
    assert bins.index([50, -100]) == 206


def test_gamut_nearest_follows_from_all_8_bit_colours():
    occupied = torch.zeros(23, 23, dtype=torch.bool)
    levels = torch.arange(256, dtype=torch.uint8)
    for reds in levels.split(16):
        photos = torch.stack(torch.meshgrid(reds, levels, levels, indexing="ij"), dim=1)
        nearest = (rgb_to_lab(photos)[:, 1:] / 10).round_().long() + 11
        occupied[nearest[:, 0], nearest[:, 1]] = True
    assert rows_of(occupied) == BIN_RULES["gamut_nearest"]


def test_gamut_center_follows_from_the_lightness_range_of_each_grid_point():
    grid = torch.arange(-110, 111, 10, dtype=torch.float64)
    lightness = torch.linspace(0, 100, 1001, dtype=torch.float64)
    inside = torch.zeros(23, 23, dtype=torch.bool)
    for i, a in enumerate(grid):
        lab = torch.stack(torch.meshgrid(lightness, a[None], grid, indexing="ij"), dim=-1)
        lab = lab.permute(1, 3, 0, 2)  # (1, 3, 1001, 23)
        # Clamping to sRGB leaves a colour as it is only inside the gamut.
        inside[i] = ((rgb_to_lab(lab_to_rgb(lab)) - lab).abs() < 1e-2).all(dim=1).any(dim=1)[0]
    assert rows_of(inside) == BIN_RULES["gamut_center"]


def test_unknown_rule_is_refused():
    allowed = ("official313", "gamut_nearest", "gamut_center", "full529")
    with refused(received="official", allowed=allowed):
        ab_bins("official")


@pytest.mark.parametrize("neighbors", [1, 5, 10])
@pytest.mark.parametrize("rule", BIN_RULES)
def test_neighbours_are_those_of_a_kd_tree(rule, neighbors):
    bins = ab_bins(rule)
    ab = torch.cat([random_ab(20_000), outlying_ab(20_000)], dim=3)
    indices, weights = SoftEncoder(bins, neighbors).encode(ab)
    distances, expected = cKDTree(bins.double().numpy()).query(ab[0, :, 0].T.numpy(), k=neighbors)
    assert np.array_equal(indices[0, :, 0].T.numpy(), expected.reshape(-1, neighbors))
    gaussian = np.exp(-(distances.reshape(-1, neighbors) ** 2) / 50)
    np.testing.assert_allclose(weights[0, :, 0].T, gaussian / gaussian.sum(1, keepdims=True), atol=1e-6)


def test_neighbours_of_scattered_bins_are_those_of_a_kd_tree():
    bins = outlying_ab(60)[0, :, 0].T
    ab = outlying_ab(20_000).flip(3)
    indices, _ = SoftEncoder(bins, neighbors=7).encode(ab)
    _, expected = cKDTree(bins.numpy()).query(ab[0, :, 0].T.numpy(), k=7)
    assert np.array_equal(indices[0, :, 0].T.numpy(), expected)


def test_float32_and_float64_agree_up_to_rounding():
    bins = ab_bins()
    ab = random_ab(50_000, torch.float32)
    indices, weights = SoftEncoder(bins, neighbors=10).encode(ab)
    _, precise = SoftEncoder(bins, neighbors=10).encode(ab.double())
    assert weights.dtype == torch.float32
    # Indices may swap where two bins are equally near up to rounding; the weights at each rank may not differ.
    assert (weights - precise).abs().max() < 1e-5
    distances = (bins.T[None, :, indices[0]] - ab.unsqueeze(2)).square().sum(1)
    assert (distances.diff(dim=1) > -1e-3).all()


def test_equally_near_bins_come_in_the_order_of_their_index():
    bins = ab_bins("full529")
    for color in [(0.0, 0.0), (5.0, 5.0), (-15.0, 0.0), (110.0, 110.0), (128.0, -128.0)]:
        indices, _ = SoftEncoder(bins, neighbors=10).encode(one_color(*color))
        distances = (bins.double() - torch.tensor(color)).square().sum(1)
        expected = distances.sort(stable=True).indices[:10]
        assert indices.flatten().tolist() == expected.tolist()


def test_worked_examples():
    bins = ab_bins("official313")
    weights = {
        (color, k): SoftEncoder(bins, k).encode(one_color(*color))[1].flatten()
        for color in [(0.0, 0.0), (5.0, 5.0), (3.0, 2.0)]
        for k in (5, 10)
    }
    assert weights[(0.0, 0.0), 5].tolist() == pytest.approx([0.6488, *[0.0878] * 4], abs=1e-4)
    assert weights[(0.0, 0.0), 10][0].item() == pytest.approx(0.6192, abs=1e-4)
    assert weights[(5.0, 5.0), 5].tolist() == pytest.approx([*[0.2489] * 4, 0.0046], abs=1e-4)
    expected = [0.5137, 0.2308, 0.1547, 0.0695, 0.0312]
    assert weights[(3.0, 2.0), 5].tolist() == pytest.approx(expected, abs=1e-4)


def decode(indices, weights, bins):
    return torch.einsum("nkhw,nkhwc->nchw", weights, bins.to(weights.dtype)[indices])


def test_worked_examples_of_decoding():
    bins = ab_bins("official313")
    for neighbors, expected in [(5, (3.003, 1.930)), (10, (2.773, 1.762))]:
        ab = decode(*SoftEncoder(bins, neighbors).encode(one_color(3.0, 2.0)), bins)
        assert ab.flatten().tolist() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("neighbors", "mean", "largest"), [(5, 0.219, 0.707), (10, 0.235, 0.367), (1, 3.83, 7.07)]
)
def test_error_of_encoding_and_decoding(neighbors, mean, largest):
    bins = ab_bins("official313")
    ab = random_ab(100_000)
    error = (decode(*SoftEncoder(bins, neighbors).encode(ab), bins) - ab).norm(dim=1)
    assert error.mean().item() == pytest.approx(mean, rel=0.01)
    assert error.max().item() <= largest * 1.01


def test_one_neighbour_is_a_hard_label():
    encoder = SoftEncoder(ab_bins(), neighbors=1)
    ab = random_ab(1000).view(2, 2, 20, 25)
    indices, weights = encoder.encode(ab)
    assert indices.shape == (2, 1, 20, 25)
    assert (weights == 1).all()
    assert torch.equal(indices[:, 0], encoder.nearest_bin(ab))


def test_nearest_bin_does_not_depend_on_the_number_of_neighbours():
    ab = torch.cat([random_ab(5000), outlying_ab(5000), one_color(5.0, 5.0)], dim=3)
    nearest = SoftEncoder(ab_bins(), neighbors=1).nearest_bin(ab)
    encoder = SoftEncoder(ab_bins(), neighbors=10)
    assert torch.equal(encoder.nearest_bin(ab), nearest)
    assert torch.equal(encoder.encode(ab)[0][:, 0], nearest)


@pytest.mark.parametrize("length", range(1, 11))
def test_comparators_find_the_smallest_in_order(length):
    # What puts all sequences of zeros and ones in order does so with any numbers (Knuth, 5.3.4, theorem Z).
    for smallest in range(1, length + 1):
        for values in product((0, 1), repeat=length):
            places = list(values)
            for i, j in _comparators(length, smallest):
                places[i], places[j] = min(places[i], places[j]), max(places[i], places[j])
            assert places[:smallest] == sorted(values)[:smallest]


def test_pixels_keep_their_place():
    encoder = SoftEncoder(ab_bins())
    ab = random_ab(24).view(2, 2, 3, 4)
    indices, weights = encoder.encode(ab)
    for n in range(2):
        for y in range(3):
            for x in range(4):
                one = encoder.encode(ab[n : n + 1, :, y : y + 1, x : x + 1])
                assert torch.equal(indices[n, :, y, x], one[0].flatten())
                assert (weights[n, :, y, x] - one[1].flatten()).abs().max() < 1e-15


def test_colours_far_outside_are_encoded_as_the_nearest_inside():
    encoder = SoftEncoder(ab_bins(), neighbors=5)
    for far, near in [((1e6, 300.0), (128.0, 128.0)), ((-1e6, 0.0), (-128.0, 0.0))]:
        indices, weights = encoder.encode(one_color(*far))
        expected = encoder.encode(one_color(*near))
        assert torch.equal(indices, expected[0])
        assert torch.equal(weights, expected[1])
        assert weights.sum().item() == pytest.approx(1)


def test_a_narrow_gaussian_stays_finite():
    _, weights = SoftEncoder(ab_bins(), sigma=0.01).encode(random_ab(1000, torch.float32))
    assert weights.isfinite().all()
    assert (weights.sum(1) - 1).abs().max() < 1e-6


def test_tables_move_with_the_module_but_stay_out_of_its_state():
    encoder = SoftEncoder(ab_bins())
    assert encoder.state_dict() == {}
    assert encoder.to("meta").bins.device.type == "meta"


def test_dense_targets():
    bins = ab_bins()
    indices, weights = SoftEncoder(bins).encode(random_ab(100).view(1, 2, 10, 10))
    dense = to_dense(indices, weights, len(bins))
    assert dense.shape == (1, 313, 10, 10)
    assert (dense.sum(1) - 1).abs().max() < 1e-6
    assert torch.equal(dense.gather(1, indices), weights)
    # The logarithm of a target decodes to the mean of the target.
    ab = annealed_mean(dense.clamp_min(1e-300).log(), bins, temperature=1.0)
    assert (ab - decode(indices, weights, bins)).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("arguments", "name", "received", "allowed"),
    [
        ({"neighbors": 0}, "neighbors", 0, "1 to 313"),
        ({"neighbors": 314}, "neighbors", 314, "1 to 313"),
        ({"sigma": 0.0}, "sigma", 0.0, "above 0"),
        ({"bins": torch.tensor([[0.0, 200.0]])}, "bins", (0.0, 200.0), "-128 to 128"),
    ],
)
def test_encoder_refuses_bad_arguments(arguments, name, received, allowed):
    with refused(name, received=received, allowed=allowed):
        SoftEncoder(**({"bins": ab_bins(), "neighbors": 1} | arguments))


def test_bins_from_counts_are_those_that_soft_encoding_reaches():
    # A colour in the middle of four grid points reaches these first, then an arbitrary fifth.
    counts = count_ab(torch.full((1, 2, 4, 4), 24.5))
    bins = bins_from_counts(counts, min_mass=0.01, neighbors=5).tolist()
    assert bins == [[20, 20], [20, 30], [30, 20], [30, 30]]
    assert len(bins_from_counts(counts, min_mass=0.0, neighbors=5)) == 5


def test_bins_from_all_of_srgb_are_the_official_ones_and_a_few_more():
    bins = {tuple(point) for point in bins_from_counts(count_ab(random_ab(400_000)), min_mass=0.0).tolist()}
    official = {tuple(point) for point in ab_bins("official313").tolist()}
    assert len(bins - official) <= 10
    assert len(official - bins) <= 5  # corners of the gamut that a random sample may miss


def test_bins_from_no_pixels_are_refused():
    with refused("0 pixels", "min_mass=1e-07"):
        bins_from_counts(torch.zeros(256, 256))
