import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from naive_scores import devkit_curve, naive_area
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from refusals import refused

from transfer.scores.detection import coco_average_precision, detection_outcomes

#: What is added to our boxes to get the devkit's.
ONE = torch.tensor([1.0, 1.0, 0.0, 0.0])


def random_boxes(rng, count):
    corner = rng.uniform(0, 60, (count, 2)).round()
    return np.concatenate([corner, corner + rng.uniform(4, 40, (count, 2)).round()], axis=1)


def random_case(seed, difficult=0.25, tied=False, num_classes=2):
    """A few images with true boxes, and detections that are jittered copies, duplicates and noise."""
    rng = np.random.default_rng(seed)
    detections, truth = [], []
    for _ in range(int(rng.integers(1, 5))):
        count = int(rng.integers(0, 5))
        boxes, labels = random_boxes(rng, count), rng.integers(1, num_classes + 1, count)
        copies = rng.integers(0, max(count, 1), int(rng.integers(0, 7)) if count else 0)
        jittered = boxes[copies] + rng.normal(0, 3, (len(copies), 4)).round()
        jittered[:, 2:] = np.maximum(jittered[:, 2:], jittered[:, :2] + 1)
        noise = int(rng.integers(0, 3))
        found = np.concatenate([jittered, random_boxes(rng, noise)])
        found_labels = np.concatenate([labels[copies], rng.integers(1, num_classes + 1, noise)])
        scores = rng.integers(0, 4, len(found)) / 4 if tied else rng.random(len(found))
        detections.append(images_entry(found, found_labels, scores=torch.from_numpy(scores)))
        hard = torch.from_numpy(rng.random(count) < difficult)
        truth.append(images_entry(boxes, labels, difficult=hard))
    return detections, truth


def images_entry(boxes, labels, **more):
    boxes = torch.as_tensor(np.asarray(boxes, dtype=np.float64).reshape(-1, 4))
    return {"boxes": boxes, "labels": torch.as_tensor(np.asarray(labels, dtype=np.int64)), **more}


def test_equals_the_devkit_on_300_random_cases():
    judged = 0
    for seed in range(300):
        detections, truth = random_case(seed, tied=seed % 2 == 0)
        # The devkit's corners are 1-based and belong to the box.
        files = [[{**image, "boxes": image["boxes"] + ONE} for image in each] for each in (detections, truth)]
        curves = [devkit_curve(detections, truth, label) for label in (1, 2)]
        converted = [devkit_curve(*files, label, extra=1.0) for label in (1, 2)]
        voc07 = detection_outcomes(detections, truth, 2)
        for definition in ("voc07", "voc10"):
            areas = [[naive_area(*c, definition) for c in each if c] for each in (curves, converted)]
            expected = np.mean(areas, axis=1) if areas[0] else np.full(2, np.nan)
            outcomes = dataclasses.replace(voc07, definition=np.array([definition]))
            np.testing.assert_allclose(outcomes.metric(), 100 * expected, rtol=0, atol=1e-10)
        judged += len(areas[0])
    assert judged > 75


def test_by_hand():
    truth = [
        images_entry([[0, 0, 10, 10], [20, 0, 30, 10]], [1, 1], difficult=torch.tensor([False, True])),
        images_entry([[0, 0, 10, 10]], [1], difficult=torch.tensor([False])),
    ]
    detections = [
        # A hit, its duplicate (false), one on the difficult box (neither).
        images_entry(
            [[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10]], [1, 1, 1], scores=torch.tensor([0.9, 0.8, 0.7])
        ),
        # IoU exactly 0.5 is a hit.
        images_entry([[0, 0, 10, 5]], [1], scores=torch.tensor([0.6])),
    ]
    # Precision 1, 1/2, 1/2, 2/3 at recall 1/2, 1/2, 1/2, 1.
    area = detection_outcomes(detections, truth, 1, "voc10").metric()
    assert area == pytest.approx(100 * (1 / 2 * 1 + 1 / 2 * 2 / 3))
    eleven = detection_outcomes(detections, truth, 1).metric()
    assert eleven == pytest.approx(100 * (6 * 1 + 5 * 2 / 3) / 11)


def perfect(truth):
    return [{**t, "scores": torch.ones(len(t["labels"]))} for t in truth]


def test_perfect_detections():
    truth = random_case(3, difficult=0)[1]
    assert detection_outcomes(perfect(truth), truth, 2).metric() == pytest.approx(100)
    coco = coco_average_precision(perfect(truth), truth, 2)
    assert (coco.ap, coco.ap50) == pytest.approx((1.0, 1.0))


def test_no_detection_is_zero_and_no_positive_is_nan():
    detections, truth = random_case(3, difficult=0)
    nothing = [images_entry([], [], scores=torch.zeros(0)) for _ in truth]
    assert detection_outcomes(nothing, truth, 2).metric() == 0.0
    assert coco_average_precision(nothing, truth, 2).ap == 0.0
    all_difficult = [{**t, "difficult": torch.ones(len(t["labels"]), dtype=torch.bool)} for t in truth]
    for empty in (all_difficult, [images_entry([], [], difficult=torch.zeros(0)) for _ in truth]):
        assert math.isnan(detection_outcomes(detections, empty, 2).metric())
        assert math.isnan(coco_average_precision(detections, empty, 2).ap)
    assert math.isnan(detection_outcomes([], [], 2).metric())


def test_coco_equals_plain_pycocotools(tmp_path, capsys):
    """The documented way: two JSON files, loadRes, summarize."""
    for seed in range(10):
        detections, truth = random_case(seed)
        annotations = [
            {"image_id": image, "category_id": k, "bbox": xywh(box), "iscrowd": int(hard)}
            for image, t in enumerate(truth)
            for box, k, hard in zip(t["boxes"], t["labels"].tolist(), t["difficult"], strict=True)
        ]
        for number, annotation in enumerate(annotations, start=1):
            annotation |= {"id": number, "area": annotation["bbox"][2] * annotation["bbox"][3]}
        found = [
            {"image_id": image, "category_id": k, "bbox": xywh(box), "score": float(score)}
            for image, d in enumerate(detections)
            for box, k, score in zip(d["boxes"], d["labels"].tolist(), d["scores"], strict=True)
        ]
        if not found or all(a["iscrowd"] for a in annotations):
            continue
        images, categories = [{"id": i} for i in range(len(truth))], [{"id": 1}, {"id": 2}]
        dataset = {"info": {}, "images": images, "categories": categories, "annotations": annotations}
        (tmp_path / "truth.json").write_text(json.dumps(dataset))
        reference = COCO(str(tmp_path / "truth.json"))
        evaluation = COCOeval(reference, reference.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        coco = coco_average_precision(detections, truth, 2)
        assert (coco.ap, coco.ap50) == pytest.approx(tuple(evaluation.stats[:2]), abs=1e-12)
    capsys.readouterr()


def xywh(box):
    x1, y1, x2, y2 = box.tolist()
    return [x1, y1, x2 - x1, y2 - y1]


def test_coco_ap50_equals_the_area_on_the_same_grid():
    """Without difficult boxes or duplicates, COCO's 101 points sample the devkit's interpolated curve."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        boxes = np.array([[50 * i, 0, 50 * i + 40, 40] for i in range(100)], dtype=float)
        found = boxes + np.where(rng.random((100, 1)) < 0.6, 0.0, 30.0)
        truth = [images_entry(boxes, np.ones(100), difficult=torch.zeros(100))]
        detections = [images_entry(found, np.ones(100), scores=torch.from_numpy(rng.random(100)))]
        coco = coco_average_precision(detections, truth, 1)
        area = detection_outcomes(detections, truth, 1, "voc10").metric() / 100
        # 101 recall points against 100 steps: they differ by the point at recall 0.
        assert coco.ap50 == pytest.approx(area, abs=0.01)
        assert coco.ap50 == pytest.approx(coco.ap)


def test_coco_falls_with_loose_boxes_and_is_silent(capfd):
    truth = [images_entry([[0, 0, 100, 100]], [1], difficult=torch.zeros(1))]
    detections = [images_entry([[0, 0, 100, 72]], [1], scores=torch.ones(1))]
    coco = coco_average_precision(detections, truth, 1)
    # IoU 0.72 passes 0.50, 0.55, 0.60, 0.65, 0.70: half of the ten thresholds.
    assert (coco.ap, coco.ap50) == pytest.approx((0.5, 1.0))
    assert capfd.readouterr().out == ""


def test_coco_ignores_difficult_boxes():
    truth = [
        images_entry([[0, 0, 10, 10], [50, 50, 60, 60]], [1, 1], difficult=torch.tensor([False, True])),
    ]
    detections = [
        images_entry([[50, 50, 60, 60], [0, 0, 10, 10]], [1, 1], scores=torch.tensor([0.9, 0.8])),
    ]
    assert coco_average_precision(detections, truth, 1).ap == pytest.approx(1.0)


def test_errors():
    detections, truth = random_case(3)
    with refused("definition", received="voc12", allowed=("sklearn", "voc07", "voc10")):
        detection_outcomes(detections, truth, 2, "voc12")
    with refused(received="2 and 1 images"):
        detection_outcomes([detections[0]] * 2, truth[:1], 2)
    unknown = [images_entry([[0, 0, 1, 1]], [3], scores=torch.ones(1), difficult=torch.zeros(1))]
    broken = [{**unknown[0], "scores": torch.tensor([math.nan])}]
    for function in (detection_outcomes, coco_average_precision):
        with refused("labels", received=[3]):
            function(unknown, unknown, 2)
        with refused("scores", received="1 of 1"):
            function(broken, unknown, 3)


def test_a_class_that_is_not_among_the_detections_counts():
    """The mean is over the classes with a true box, found or not; a class without one does not count."""
    truth = [images_entry([[0, 0, 9, 9], [0, 0, 9, 9]], [1, 2], difficult=torch.zeros(2))]
    detections = [images_entry([[0, 0, 9, 9], [0, 0, 9, 9]], [1, 3], scores=torch.ones(2))]
    assert detection_outcomes(detections, truth, 3).metric() == pytest.approx(50)
