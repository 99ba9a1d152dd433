import json
import math

import pytest
import torch

from pretext.backbones import VGG16, AlexNet, ColorNet
from pretext.training.effective_rank import INTERVAL, effective_rank, last_convolution
from pretext.training.engine import pretrain


def maps(deviations, channels=6, offset=0.0):
    """Features (4, channels, 8, 8) whose principal components have these deviations."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(256, len(deviations), generator=generator, dtype=torch.float64)
    scores = torch.linalg.qr(rows - rows.mean(0)).Q * torch.tensor(deviations, dtype=torch.float64)
    axes = torch.linalg.qr(torch.randn(channels, channels, generator=generator, dtype=torch.float64)).Q[
        : len(deviations)
    ]
    features = scores @ axes + offset
    return features.view(4, 8, 8, channels).permute(0, 3, 1, 2)


@pytest.mark.parametrize("count", [1, 3, 6])
def test_equal_directions_count_as_so_many(count):
    assert effective_rank(maps([2.0] * count)) == pytest.approx(count, rel=1e-4)


def test_unequal_directions_count_as_the_entropy_of_their_variances_says():
    # Variances of 3 to 1: exp of the entropy of 3/4 and 1/4.
    deviations = [math.sqrt(3), 1.0]
    expected = math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert effective_rank(maps(deviations)) == pytest.approx(expected, rel=1e-4)
    assert effective_rank(maps(deviations).float()) == pytest.approx(expected, rel=1e-3)


def test_it_is_that_of_the_singular_values_of_the_covariance():
    features = torch.randn(2, 5, 7, 3, generator=torch.Generator().manual_seed(0)).relu()
    rows = [features[n, :, y, x] for n in range(2) for y in range(7) for x in range(3)]
    matrix = torch.stack(rows) - torch.stack(rows).mean(0)
    shares = torch.linalg.svdvals(torch.cov(matrix.double().T))
    shares /= shares.sum()
    expected = math.exp(-sum(float(p) * math.log(p) for p in shares))
    assert effective_rank(features) == pytest.approx(expected, rel=1e-6)


def test_neither_scale_nor_offset_counts():
    plain = effective_rank(maps([3.0, 2.0, 1.0]))
    assert effective_rank(maps([300.0, 200.0, 100.0], offset=7.0)) == pytest.approx(plain, rel=1e-4)


def test_dead_and_broken_features_have_no_rank():
    assert effective_rank(torch.full((2, 4, 3, 3), 5.0)) == 0
    assert math.isnan(effective_rank(torch.full((2, 4, 3, 3), torch.inf)))


@pytest.mark.parametrize(
    ("backbone", "name"),
    [
        (lambda: AlexNet(fully_connected=True), "conv5"),
        (lambda: VGG16(), "conv5_3"),
        (lambda: ColorNet(), "conv8"),
    ],
)
def test_the_last_convolution_is_below_the_fully_connected_layers(backbone, name):
    with torch.device("meta"):
        assert last_convolution(backbone()) == name


@pytest.mark.parametrize("method", ["colorization", "tracking"])
def test_it_is_logged_before_the_first_step_and_at_intervals(
    method, tiny_config, photo_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr("pretext.training.effective_rank.INTERVAL", 2)
    config = tiny_config(method, "batch_size=8", "steps=5")
    pretrain(config, work_dir=tmp_path / "run", data=str(photo_folder))
    (scalars,) = (tmp_path / "run").glob("*/vis_data/scalars.json")
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    ranks = {line["step"]: line["rank"] for line in lines if "rank" in line}
    assert list(ranks) == [0, 2, 4]
    assert all(1 <= rank <= 16 for rank in ranks.values())
    assert len(set(ranks.values())) == 3
    (log,) = (tmp_path / "run").glob("2*/2*.log")
    assert f"[2/5]  rank: {ranks[2]:.1f} of 16 (conv5)" in log.read_text()
    (events,) = (tmp_path / "run").rglob("events.out.tfevents*")
    assert b"rank" in events.read_bytes()
    assert INTERVAL == 100


def test_a_run_that_goes_on_does_not_log_it_anew(run_config, interrupted_run, photo_folder):
    (interrupted_run / "step_00000008.pth").unlink()
    pretrain(run_config, work_dir=interrupted_run, data=str(photo_folder))
    logs = sorted(interrupted_run.glob("2*/2*.log"))
    assert sum("rank: " in log.read_text() for log in logs) == 1
