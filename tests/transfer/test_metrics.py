import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from pretext.errors import InputError
from transfer.metrics import (
    average_precision,
    confusion_matrix,
    mean_average_precision,
    mean_iou,
    topk_hits,
    voc07_average_precision,
    voc10_average_precision,
)

APS = [average_precision, voc07_average_precision, voc10_average_precision]


def random_case(seed, tied):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 40))
    labels = rng.choice([0, 1, 255], size=n, p=[0.5, 0.35, 0.15]).astype(np.uint8)
    scores = rng.integers(0, 5, n).astype(np.float64) if tied else rng.standard_normal(n)
    return scores, labels


def naive_curve(scores, labels):
    """(precision, recall) at every distinct threshold, counted one threshold at a time."""
    judged = [(s, y) for s, y in zip(scores, labels, strict=True) if y != 255]
    positives = sum(y == 1 for _, y in judged)
    points = []
    for threshold in sorted({s for s, _ in judged}, reverse=True):
        taken = [y for s, y in judged if s >= threshold]
        hits = sum(y == 1 for y in taken)
        points.append((hits / len(taken), hits / positives))
    return points


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
            scores, labels = random_case(seed, tied)
            if not (labels == 1).any():
                continue
            kept = labels != 255
            expected = average_precision_score(labels[kept], scores[kept])
            assert average_precision(scores, labels) == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("tied", [False, True])
    def test_interpolated_equal_the_definition(self, tied):
        for seed in range(100):
            scores, labels = random_case(seed, tied)
            if not (labels == 1).any():
                continue
            points = naive_curve(scores, labels)
            voc07 = sum(max((p for p, r in points if r >= t / 10), default=0) for t in range(11)) / 11
            area, last = 0.0, 0.0
            for i, (_, recall) in enumerate(points):
                area += (recall - last) * max(p for p, _ in points[i:])
                last = recall
            assert voc07_average_precision(scores, labels) == pytest.approx(voc07, abs=1e-12)
            assert voc10_average_precision(scores, labels) == pytest.approx(area, abs=1e-12)

    def test_by_hand(self):
        # Order + - - + +, and one difficult image on top that must not count.
        scores = np.array([9.0, 5.0, 4.0, 3.0, 2.0, 1.0])
        labels = np.array([255, 1, 0, 0, 1, 1])
        # Precision at the hits: 1/1, 2/4, 3/5; interpolated 1, 3/5, 3/5.
        assert average_precision(scores, labels) == pytest.approx((1 + 1 / 2 + 3 / 5) / 3)
        assert voc10_average_precision(scores, labels) == pytest.approx((1 + 3 / 5 + 3 / 5) / 3)
        # Recall 1/3 is reached by t = 0, 0.1, 0.2, 0.3.
        assert voc07_average_precision(scores, labels) == pytest.approx((4 * 1 + 7 * 3 / 5) / 11)

    def test_eleven_points_see_a_recall_of_three_tenths(self):
        # The 3rd of 10 positives is the last before many negatives: t = 0.3 must still see precision 1.
        labels = np.array([1] * 3 + [0] * 1000 + [1] * 7)
        expected = (4 + 7 * 10 / 1010) / 11
        assert voc07_average_precision(-np.arange(1010.0), labels) == pytest.approx(expected)

    @pytest.mark.parametrize("ap", APS)
    def test_perfect_and_order_of_ties(self, ap):
        assert ap(np.array([3.0, 2.0, 1.0]), np.array([1, 1, 0])) == pytest.approx(1.0)
        one_way = ap(np.zeros(4), np.array([1, 0, 0, 0]))
        assert one_way == ap(np.zeros(4), np.array([0, 0, 0, 1])) == pytest.approx(0.25)

    @pytest.mark.parametrize("ap", APS)
    @pytest.mark.parametrize("labels", [[], [0, 0], [255, 255], [0, 255]])
    def test_no_positive_is_nan(self, ap, labels):
        assert math.isnan(ap(np.zeros(len(labels)), np.array(labels, dtype=np.int64)))

    @pytest.mark.parametrize("definition", ["sklearn", "voc07", "voc10"])
    def test_mean_leaves_out_and_lists_classes_without_positive(self, definition):
        scores = np.array([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0]])
        result = mean_average_precision(scores, np.array([[1, 1, 0], [0, 0, 255]]), definition)
        assert result.left_out == (2,)
        assert np.isnan(result.per_class[2])
        assert result.mean == pytest.approx((result.per_class[0] + result.per_class[1]) / 2)
        assert result.per_class[0] == 1.0

    def test_all_difficult_has_no_mean(self):
        result = mean_average_precision(np.zeros((3, 2)), np.full((3, 2), 255), "voc07")
        assert math.isnan(result.mean)
        assert result.left_out == (0, 1)

    def test_errors(self):
        with pytest.raises(InputError, match=r"got 'voc12'; allowed: sklearn, voc07, voc10"):
            mean_average_precision(np.zeros((1, 1)), np.ones((1, 1), dtype=np.int64), "voc12")
        with pytest.raises(InputError, match=r"got the values \[-1, 1\].*0 \(negative\).*255"):
            average_precision(np.zeros(2), np.array([-1, 1]))
        with pytest.raises(InputError, match="a score is NaN"):
            average_precision(np.array([np.nan, 1.0]), np.array([0, 1]))


class TestMeanIou:
    def test_equals_a_loop_over_pixels(self):
        rng = np.random.default_rng(0)
        target = rng.choice([0, 1, 2, 255], size=(3, 8, 9))
        prediction = rng.integers(0, 4, size=(3, 8, 9))
        counts = np.zeros((4, 4), dtype=int)
        for truth, guess in zip(target.ravel(), prediction.ravel(), strict=True):
            if truth != 255:
                counts[truth, guess] += 1
        confusion = confusion_matrix(torch.from_numpy(prediction), torch.from_numpy(target), 4)
        assert confusion.tolist() == counts.tolist()
        for k in range(4):
            t, p = (target == k), (prediction == k) & (target != 255)
            assert mean_iou(confusion).per_class[k] == pytest.approx((t & p).sum() / (t | p).sum())

    def test_perfect_absent_class_and_void(self):
        target = torch.tensor([[0, 1, 255], [1, 0, 255]], dtype=torch.uint8)
        prediction = torch.tensor([[0, 1, 2], [1, 0, 7]])
        result = mean_iou(confusion_matrix(prediction, target, 3))
        assert result.mean == 1.0
        assert result.left_out == (2,)

    def test_all_void(self):
        confusion = confusion_matrix(torch.zeros(2, 2, dtype=torch.int64), torch.full((2, 2), 255), 3)
        assert math.isnan(mean_iou(confusion).mean)

    def test_unknown_class(self):
        with pytest.raises(
            InputError, match="prediction holds an unknown class: got 0 to 3; allowed are 0 to 2"
        ):
            confusion_matrix(torch.tensor([0, 3]), torch.tensor([0, 1]), 3)
        with pytest.raises(InputError, match="target holds an unknown class"):
            confusion_matrix(torch.tensor([0, 1]), torch.tensor([0, -1]), 3)
