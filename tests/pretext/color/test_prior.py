import json
import math

import numpy as np
import pytest
import torch
from refusals import refused
from scipy.ndimage import gaussian_filter

from pretext.color.bins import ab_bins, bins_from_counts
from pretext.color.lab import rgb_to_lab
from pretext.color.prior import ColorPrior, count_ab, estimate_prior, imagenet_prior


@pytest.fixture
def counts():
    rgb = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.5
    return count_ab(rgb_to_lab(rgb)[:, 1:])


@pytest.fixture
def saved(tmp_path, counts):
    path = tmp_path / "prior.json"
    estimate_prior(counts, num_photos=2, source="random pixels").save(path)
    return path


def test_counts_are_those_of_a_loop():
    ab = torch.tensor([[-0.5, 0.0], [0.99, 1.0], [-86.2, 94.4], [500.0, -500.0], [127.999, 128.0]])
    counts = count_ab(ab.T.reshape(1, 2, 1, 5))
    expected = torch.zeros(256, 256, dtype=torch.int64)
    for a, b in ab.tolist():
        i, j = (min(max(math.floor(value) + 128, 0), 255) for value in (a, b))
        expected[i, j] += 1
    assert torch.equal(counts, expected)


def test_counts_of_batches_add_up():
    ab = torch.randn(6, 2, 8, 8, generator=torch.Generator().manual_seed(0)) * 30
    assert torch.equal(count_ab(ab), sum(count_ab(part) for part in ab.split(2)))


def test_smoothing_is_a_gaussian_in_the_ab_plane(counts):
    smooth = gaussian_filter(counts.numpy().astype(np.float64), sigma=5, truncate=8, mode="constant")
    axis = np.arange(-128, 128) + 0.5
    along_a, along_b = ((axis[:, None] - centers) ** 2 for centers in ab_bins().numpy().T)
    nearest = (along_a[:, None] + along_b).reshape(-1, 313).argmin(1)
    expected = np.bincount(nearest, smooth.ravel(), minlength=313)
    prior = estimate_prior(counts, sigma=5.0, floor=1e-12)
    np.testing.assert_allclose(prior.probabilities, expected / expected.sum(), atol=1e-9)


def test_without_smoothing_it_is_the_frequency_of_the_nearest_bin():
    ab = torch.tensor([[1.0, 2.0], [-3.0, 4.0], [12.0, 8.0], [58.0, 31.0]]).T.reshape(1, 2, 2, 2)
    prior = estimate_prior(count_ab(ab), sigma=0.0)
    bins = prior.bins.tolist()
    expected = {(0, 0): 0.5, (10, 10): 0.25, (60, 30): 0.25}
    for bin_center, probability in expected.items():
        assert prior.probabilities[bins.index(list(bin_center))].item() == pytest.approx(
            probability, abs=1e-6
        )


@pytest.mark.parametrize("sigma", [0.0, 5.0])
def test_prior_sums_to_one_and_has_no_empty_bin(counts, sigma):
    prior = estimate_prior(counts, sigma=sigma)
    assert prior.probabilities.sum().item() == pytest.approx(1, abs=1e-12)
    assert prior.probabilities.min() > 0.99e-9
    assert prior.num_pixels == 2 * 32 * 32


@pytest.mark.parametrize(
    ("arguments", "name", "received", "allowed"),
    [
        ({"counts": torch.zeros(256, 256)}, "pixels", 0, "photo"),
        ({"bins": "official"}, "bins", "official", "official313"),
        ({"sigma": -1.0}, "sigma", -1.0, "0.0"),
        ({"sigma": math.inf}, "sigma", math.inf, "0.0"),
        ({"floor": 0.0}, "floor", 0.0, "1/313"),
        ({"floor": 0.1}, "floor", 0.1, "1/313"),
    ],
)
def test_estimate_refuses_bad_arguments(arguments, name, received, allowed):
    with refused(name, received=received, allowed=allowed):
        estimate_prior(**({"counts": torch.ones(256, 256)} | arguments))


def test_imagenet_prior_is_the_published_one():
    prior = imagenet_prior()
    p, bins = prior.probabilities, prior.bins.tolist()
    assert prior.rule == "official313"
    assert p.sum().item() == pytest.approx(1, abs=1e-12)
    assert (bins[p.argmin()], p.min().item()) == ([100, -90], pytest.approx(6.07e-9, rel=1e-3))
    top = {tuple(bins[i]): round(p[i].item(), 3) for i in p.topk(5).indices}
    assert top == {(0, 0): 0.201, (0, 10): 0.108, (0, -10): 0.064, (10, 0): 0.053, (-10, 0): 0.049}
    assert (-(p * p.log()).sum()).item() == pytest.approx(3.437, abs=1e-3)
    assert p[(prior.bins.abs() <= 10).all(dim=1)].sum().item() == pytest.approx(0.600, abs=1e-3)


def test_saving_and_loading_gives_the_same_prior(saved, counts):
    prior, loaded = estimate_prior(counts, num_photos=2, source="random pixels"), ColorPrior.load(saved)
    assert torch.equal(loaded.probabilities, prior.probabilities)
    assert torch.equal(loaded.bins, prior.bins)
    assert (loaded.rule, loaded.sigma, loaded.num_photos) == ("official313", 5.0, 2)
    assert (loaded.num_pixels, loaded.source) == (2048, "random pixels")


def test_bins_from_data_are_kept_in_the_file(tmp_path, counts):
    bins = bins_from_counts(counts, min_mass=1e-3)
    estimate_prior(counts, bins).save(tmp_path / "prior.json")
    loaded = ColorPrior.load(tmp_path / "prior.json")
    assert loaded.rule == "from_data"
    assert torch.equal(loaded.bins, bins)


def test_a_failed_save_leaves_the_old_file_and_nothing_else(saved, counts, monkeypatch):
    before = saved.read_bytes()

    def fail(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with refused(saved):
        estimate_prior(counts).save(saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_loading_a_missing_file_is_an_input_error(tmp_path):
    with refused(tmp_path / "none.json", allowed="pretext prior"):
        ColorPrior.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("change", "name", "received"),
    [
        ({"version": 9}, "version", 9),
        ({"rule": "official"}, "rule", "official"),
        ({"rule": "gamut_nearest"}, "num_bins", 313),
        ({"rule": "from_data"}, "bins", None),
        ({"rule": "from_data", "bins": [1.0, 2.0], "num_bins": 2}, "num_bins", 2),
        ({"probabilities": [0.5, 0.5]}, "probabilities", (2,)),
        ({"probabilities": []}, "probabilities", (0,)),
        ({"probabilities": [0.0] * 313}, "probabilities", 0.0),
        ({"probabilities": [1.0] * 313}, "probabilities", 313.0),
        ({"probabilities": [math.nan] * 313}, "probabilities", math.nan),
        ({"probabilities": "many"}, "probabilities", None),
        ({"sigma": None}, "sigma", None),
        ({"sigma": "wide"}, "sigma", "wide"),
        ({"num_photos": "two"}, "num_photos", "two"),
    ],
)
def test_malformed_files_are_named_with_what_is_wrong(saved, change, name, received):
    saved.write_text(json.dumps(json.loads(saved.read_text()) | change))
    allowed = "from_data" if change == {"rule": "official"} else "pretext prior"
    with refused(saved, name, allowed=allowed) as info:
        ColorPrior.load(saved)
    assert repr(info.value.received) == repr(received)  # nan is not equal to itself


@pytest.mark.parametrize(("text", "received"), [("{", None), ("[1]", "list")])
def test_other_files_are_refused(tmp_path, text, received):
    path = tmp_path / "prior.json"
    path.write_text(text)
    with refused(path, "JSON", received=received, allowed="pretext prior"):
        ColorPrior.load(path)
