import math

import numpy as np
import pytest
import torch
from naive_scores import naive_average_precision
from refusals import refused
from sklearn.metrics import average_precision_score

from pretext.errors import TrainingDivergedError
from transfer.job import Measurement
from transfer.scores.metrics import AVERAGE_PRECISIONS, check_scores, mean_over_classes, topk_hits
from transfer.scores.outcomes import AveragePrecision, Iou


def random_case(seed, tied):
    """Scores and labels of up to 40 photos and three classes."""
    rng = np.random.default_rng(seed)
    size = (int(rng.integers(1, 40)), 3)
    labels = rng.choice([0, 1, 255], size=size, p=[0.5, 0.35, 0.15]).astype(np.uint8)
    scores = rng.integers(0, 5, size).astype(np.float64) if tied else rng.standard_normal(size)
    return scores, labels


def average_precision(scores, labels, definition):
    """In [0, 1], of one class (N,) or of several (N, C)."""
    scores, labels = (np.asarray(each).reshape(len(each), -1) for each in (scores, labels))
    return AveragePrecision(scores.astype(np.float64), labels, np.array([definition])).metric() / 100


class TestTopk:
    def test_counts_equal_a_loop_over_sorted_logits(self):
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(50, 10, generator=generator)
        labels = torch.randint(0, 10, (50,), generator=generator)
        ranked = [sorted(range(10), key=lambda c, row=row: -row[c]) for row in logits.tolist()]
        expected = [sum(y in r[:k] for r, y in zip(ranked, labels.tolist(), strict=True)) for k in (1, 5)]
        assert topk_hits(logits, labels).sum(0).tolist() == expected

    def test_equal_logits_count_the_first_class_only(self):
        assert topk_hits(torch.zeros(4, 8), torch.tensor([0, 1, 4, 5])).sum(0).tolist() == [1, 3]

    def test_nan_is_never_correct(self):
        logits = torch.full((3, 4), float("nan"))
        logits[2, 1] = 1.0
        assert topk_hits(logits, torch.tensor([0, 1, 2])).sum(0).tolist() == [0, 0]

    def test_k_above_the_number_of_classes_takes_all(self):
        assert topk_hits(torch.tensor([[0.0, 1.0]]), torch.tensor([0])).tolist() == [[False, True]]


class TestClassificationAp:
    @pytest.mark.parametrize("tied", [False, True])
    def test_non_interpolated_equals_scikit_learn(self, tied):
        for seed in range(100):
            for scores, labels in zip(*(each.T for each in random_case(seed, tied)), strict=True):
                if not (labels == 1).any():
                    continue
                kept = labels != 255
                expected = average_precision_score(labels[kept], scores[kept])
                assert average_precision(scores, labels, "sklearn") == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("definition", AVERAGE_PRECISIONS)
    @pytest.mark.parametrize("tied", [False, True])
    def test_the_mean_over_classes_equals_the_definition(self, tied, definition):
        for seed in range(100):
            scores, labels = random_case(seed, tied)
            expected = naive_average_precision(scores, labels, definition)
            measured = average_precision(scores, labels, definition)
            assert measured == pytest.approx(expected, abs=1e-12, nan_ok=True)

    def test_by_hand(self):
        # Order + - - + +, and one difficult image on top that must not count.
        scores = np.array([9.0, 5.0, 4.0, 3.0, 2.0, 1.0])
        labels = np.array([255, 1, 0, 0, 1, 1])
        # Precision at the hits: 1/1, 2/4, 3/5; interpolated 1, 3/5, 3/5.
        assert average_precision(scores, labels, "sklearn") == pytest.approx((1 + 1 / 2 + 3 / 5) / 3)
        assert average_precision(scores, labels, "voc10") == pytest.approx((1 + 3 / 5 + 3 / 5) / 3)
        # Recall 1/3 is reached by t = 0, 0.1, 0.2, 0.3.
        assert average_precision(scores, labels, "voc07") == pytest.approx((4 * 1 + 7 * 3 / 5) / 11)

    def test_eleven_points_see_a_recall_of_three_tenths(self):
        # The 3rd of 10 positives is the last before many negatives: t = 0.3 must still see precision 1.
        labels = np.array([1] * 3 + [0] * 1000 + [1] * 7)
        expected = (4 + 7 * 10 / 1010) / 11
        assert average_precision(-np.arange(1010.0), labels, "voc07") == pytest.approx(expected)

    @pytest.mark.parametrize("definition", AVERAGE_PRECISIONS)
    def test_perfect_and_order_of_ties(self, definition):
        assert average_precision([3.0, 2.0, 1.0], [1, 1, 0], definition) == pytest.approx(1.0)
        one_way = average_precision(np.zeros(4), [1, 0, 0, 0], definition)
        assert one_way == average_precision(np.zeros(4), [0, 0, 0, 1], definition) == pytest.approx(0.25)

    @pytest.mark.parametrize("definition", AVERAGE_PRECISIONS)
    @pytest.mark.parametrize("labels", [[0, 0], [255, 255], [0, 255]])
    def test_no_positive_is_nan(self, definition, labels):
        assert math.isnan(average_precision(np.zeros(len(labels)), labels, definition))
        empty = AveragePrecision(np.zeros((0, 1)), np.zeros((0, 1), dtype=np.int64), np.array([definition]))
        assert math.isnan(empty.metric())

    @pytest.mark.parametrize("definition", AVERAGE_PRECISIONS)
    def test_the_mean_leaves_out_classes_without_positive(self, definition):
        scores = np.array([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0]])
        # Of the first two classes one is perfect and one has its positive behind.
        measured = average_precision(scores, np.array([[1, 1, 0], [0, 0, 255]]), definition)
        assert measured == pytest.approx((1 + 1 / 2) / 2)

    def test_errors(self):
        with refused("definition", received="voc12", allowed=tuple(AVERAGE_PRECISIONS)):
            average_precision([0.0], [1], "voc12")
        with refused("labels", received=[-1, 1]):
            average_precision([0.0, 0.0], [-1, 1], "voc07")
        with refused("scores", received="1 of 2"):
            average_precision([np.nan, 1.0], [0, 1], "voc07")
        # Sorted, they would give between 17 and 21 percent.
        with refused("scores", received="4000 of 4000"):
            average_precision(np.full((200, 20), np.nan), np.eye(20, dtype=np.int64).repeat(10, 0), "voc07")


class TestMeanIou:
    def test_an_absent_class_is_left_out(self):
        areas = Iou(np.array([[2, 2, 0], [1, 1, 0]]), np.array([[2, 4, 0], [1, 1, 0]]))
        assert areas.metric() == pytest.approx(100 * (1 + 3 / 5) / 2)

    def test_all_void(self):
        assert math.isnan(Iou(np.zeros((2, 3), dtype=int), np.zeros((2, 3), dtype=int)).metric())


def test_the_mean_is_over_the_classes_with_a_number():
    assert mean_over_classes(np.array([0.5, np.nan, 1.0])) == 0.75
    assert math.isnan(mean_over_classes(np.array([np.nan])))
    assert math.isnan(mean_over_classes(np.array([])))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_and_measurements_must_be_numbers(bad):
    check_scores("probe", [torch.zeros(2), torch.ones(0)])
    with pytest.raises(TrainingDivergedError, match="probe"):
        check_scores("probe", [torch.zeros(2), torch.tensor([1.0, bad])])
    with refused("top1", "conv5", "train->val", bad):
        Measurement("conv5", "top1", bad, "train->val", "a" * 64)
