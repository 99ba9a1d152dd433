import json
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from pretext.color.bins import ab_bins, bins_from_counts
from pretext.color.lab import rgb_to_lab
from pretext.color.prior import ColorPrior, count_ab, estimate_prior, imagenet_prior
from pretext.errors import InputError


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
    cells = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 1, 2)
    nearest = ((cells - ab_bins().numpy()) ** 2).sum(-1).argmin(1)
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
    ("arguments", "message"),
    [
        ({"counts": torch.zeros(256, 256)}, "received counts of 0 pixels; count at least one photo"),
        ({"sigma": -1.0}, "received sigma=-1.0, floor=1e-09; allowed are sigma >= 0"),
        ({"floor": 0.0}, r"received sigma=5.0, floor=0.0; allowed are sigma >= 0 and 0 < floor <= 1/313"),
    ],
)
def test_estimate_refuses_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
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
    with pytest.raises(InputError, match=r"cannot write .*prior.json: No space left"):
        estimate_prior(counts).save(saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_loading_a_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"cannot read the colour prior: received .*none.json"):
        ColorPrior.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 9}, r"version 9 \(this program reads 1\)"),
        ({"rule": "official"}, "rule 'official' .allowed are official313, .*, from_data"),
        ({"rule": "gamut_nearest"}, r"num_bins 313 for bins of shape \(261, 2\)"),
        ({"rule": "from_data"}, "bins that are not a list of numbers"),
        ({"rule": "from_data", "bins": [1.0, 2.0], "num_bins": 2}, r"num_bins 2 for bins of shape \(2,\)"),
        ({"probabilities": [0.5, 0.5]}, "probabilities that are not 313 numbers above 0"),
        ({"probabilities": [0.0] * 313}, "probabilities that are not 313 numbers above 0"),
        ({"probabilities": [1.0] * 313}, "probabilities of sum 313.0 instead of 1"),
        ({"probabilities": [math.nan] * 313}, "probabilities that are not all finite"),
        ({"probabilities": "many"}, "probabilities that are not a list of numbers"),
        ({"sigma": None}, "sigma None instead of a number"),
        ({"num_photos": "two"}, "num_photos 'two' instead of a count or null"),
    ],
)
def test_malformed_files_are_named_with_what_is_wrong(saved, change, message):
    saved.write_text(json.dumps(json.loads(saved.read_text()) | change))
    with pytest.raises(InputError, match=f"not a colour prior: received .*prior.json with {message}"):
        ColorPrior.load(saved)


@pytest.mark.parametrize(("text", "message"), [("{", "no JSON"), ("[1]", "a JSON list instead of an object")])
def test_other_files_are_refused(tmp_path, text, message):
    path = tmp_path / "prior.json"
    path.write_text(text)
    with pytest.raises(
        InputError, match=f"with {message}.*make the file anew with `python -m pretext prior`"
    ):
        ColorPrior.load(path)
