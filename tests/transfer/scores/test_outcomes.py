from dataclasses import replace

import numpy as np
import pytest
import torch
from naive_scores import devkit_precision, naive_average_precision
from refusals import refused
from scipy import stats

from transfer.scores.detection import detection_outcomes
from transfer.scores.metrics import AVERAGE_PRECISIONS
from transfer.scores.outcomes import (
    Accuracy,
    AveragePrecision,
    DetectionPrecision,
    Iou,
    Mean,
    RootMean,
    Share,
    difference_of,
    load_outcomes,
    resampled,
    save_outcomes,
)

RNG = np.random.default_rng(0)


def accuracy(share, count=400, seed=0):
    return Accuracy(np.random.default_rng(seed).random(count) < share)


def precision(count=60, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 255], (count, 3), p=[0.6, 0.3, 0.1])
    return AveragePrecision(rng.normal(size=(count, 3)) + (labels == 1), labels, np.array(["voc07"]))


def iou(count=20, seed=0):
    union = np.random.default_rng(seed).integers(1, 50, (count, 3))
    return Iou(union // 2, union)


def detection(count=30, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, count, 200)
    found = [rng.integers(1, 4, 200), rng.choice([1, 0, -1], 200, p=[0.4, 0.5, 0.1])]
    return DetectionPrecision(rng.integers(0, 4, (count, 3)) + 2, image, *found, np.array(["voc07"]))


def mean(count=50, seed=0):
    return Mean(np.random.default_rng(seed).normal(25, 3, count))


def root_mean(count=50, seed=0):
    return RootMean(np.random.default_rng(seed).random(count))


def share(count=50, seed=0):
    wholes = np.random.default_rng(seed).random(count) + 1
    return Share(wholes / 2, wholes, np.zeros((count, 3)))


@pytest.mark.parametrize("make", [lambda: accuracy(0.5), precision, iou, detection, mean, root_mean, share])
def test_what_is_saved_is_loaded(make, tmp_path):
    outcomes = make()
    save_outcomes(
        tmp_path / "outcomes.npz", {("conv5", "top1"): outcomes, ("conv5", "top1_best"): accuracy(0.1)}
    )
    loaded = load_outcomes(tmp_path / "outcomes.npz", "conv5", "top1")
    assert type(loaded) is type(outcomes)
    assert len(loaded) == len(outcomes)
    everything = np.arange(len(loaded))
    assert loaded.metric(everything) == outcomes.metric(everything)


def test_metrics_are_of_the_chosen_images():
    assert Mean(np.array([20.0, -4.0, 30.0])).metric(np.array([0, 1, 1])) == 4
    correct = np.array([True, False, True, True])
    assert Accuracy(correct).metric(np.array([0, 1, 1, 1])) == 25
    areas = Iou(np.array([[3, 2], [5, 0]]), np.array([[4, 3], [10, 5]]))
    assert areas.metric(np.array([0, 0])) == pytest.approx(100 * (3 / 4 + 2 / 3) / 2)
    assert areas.metric(np.array([0, 1])) == pytest.approx(100 * (8 / 14 + 2 / 8) / 2)


@pytest.mark.parametrize("definition", AVERAGE_PRECISIONS)
def test_precision_of_the_chosen_images_is_that_of_their_copies(definition):
    first = precision(seed=4)
    # Some scores are equal.
    outcomes = AveragePrecision(first.scores.round(1), first.labels, np.array([definition]))
    rng = np.random.default_rng(0)
    for chosen in (np.arange(60), rng.integers(60, size=60), rng.integers(60, size=9)):
        scores, labels = outcomes.scores[chosen], outcomes.labels[chosen]
        expected = naive_average_precision(scores, labels, definition)
        assert outcomes.metric(chosen) == pytest.approx(100 * expected)


def difference(first, second, draws=1000):
    return difference_of(first.metric() - second.metric(), resampled(first, draws), resampled(second, draws))


def test_the_interval_is_that_of_the_normal_approximation():
    first, second = accuracy(0.7, seed=1), accuracy(0.6, seed=2)
    found = difference(first, second, draws=4000)
    each = 100 * (first.correct.astype(float) - second.correct)
    assert found.value == pytest.approx(each.mean())
    low, high = stats.norm.interval(0.95, each.mean(), each.std() / np.sqrt(len(each)))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.4)


def test_it_is_paired():
    # Two methods that agree on all images but five: their difference varies far less than either accuracy.
    first = accuracy(0.6)
    better = first.correct.copy()
    better[np.flatnonzero(~better)[:5]] = True
    found = difference(Accuracy(better), first)
    assert found.value == pytest.approx(100 * 5 / 400)
    assert found.low > 0
    assert found.high - found.low < 2.5


def test_equal_methods_do_not_differ():
    found = difference(accuracy(0.6), accuracy(0.6), draws=100)
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_the_seed_decides_the_draws():
    run = precision(seed=1)
    first = resampled(run, draws=50, seed=3)
    assert np.array_equal(first, resampled(run, draws=50, seed=3))
    assert not np.array_equal(first, resampled(run, draws=50, seed=4))


@pytest.mark.parametrize("content", [b"", b"junk"])
def test_another_file_is_refused(content, tmp_path):
    (tmp_path / "outcomes.npz").write_bytes(content)
    with refused(tmp_path / "outcomes.npz", "conv5 top1"):
        load_outcomes(tmp_path / "outcomes.npz", "conv5", "top1")
    np.savez(
        tmp_path / "other.npz", **{"conv5 top1 kind": np.array("accuracy"), "conv5 top1 hits": np.zeros(3)}
    )
    with refused(tmp_path / "other.npz", "conv5 top1"):
        load_outcomes(tmp_path / "other.npz", "conv5", "top1")


def test_detections_of_an_image_chosen_twice_count_twice():
    """As if the image were there twice, with its objects and its detections."""
    rng = np.random.default_rng(0)

    def photo():
        corner = torch.from_numpy(rng.uniform(0, 30, (4, 2))).float()
        boxes = torch.cat([corner, corner + 20], dim=1)
        truth = {
            "boxes": boxes,
            "labels": torch.tensor([1, 1, 2, 2]),
            "difficult": torch.tensor([0, 0, 0, 1]),
        }
        noise = torch.from_numpy(rng.normal(0, 4, (12, 4))).float()
        scores = torch.from_numpy(rng.random(12)).float()
        return {
            "boxes": boxes.repeat(3, 1) + noise,
            "scores": scores,
            "labels": truth["labels"].repeat(3),
        }, truth

    photos = [photo() for _ in range(6)]
    chosen = [0, 0, 3, 5, 5, 5]
    for definition in ("voc07", "voc10"):
        outcomes = detection_outcomes(*zip(*photos, strict=True), 2, definition)
        copies = [photos[index] for index in chosen]
        expected = devkit_precision(*zip(*copies, strict=True), 2, definition)
        # Copies have equal scores, whose order differs: between them, not between images.
        assert outcomes.metric(np.array(chosen)) == pytest.approx(100 * expected, abs=0.5)
        everything = devkit_precision(*zip(*photos, strict=True), 2, definition)
        assert outcomes.metric(np.arange(6)) == pytest.approx(100 * everything)


@pytest.mark.parametrize(("earlier", "now"), [("voc07_11point", "voc07"), ("area", "voc10")])
def test_the_first_names_of_detections_definitions_are_read(earlier, now):
    outcomes = detection()
    first, second = (replace(outcomes, definition=np.array([name])).metric() for name in (earlier, now))
    assert first == second


def test_a_share_is_the_quotient_of_sums_and_a_root_that_of_the_mean():
    chosen = np.array([0, 0, 1])
    parts = Share(np.array([1.0, 4.0]), np.array([2.0, 16.0]), np.zeros((2, 0)))
    assert parts.metric() == pytest.approx(100 * 5 / 18)
    assert parts.metric(chosen) == pytest.approx(100 * 6 / 20)
    assert RootMean(np.array([1.0, 7.0])).metric() == pytest.approx(2)
    assert RootMean(np.array([1.0, 7.0])).metric(chosen) == pytest.approx(3**0.5)
