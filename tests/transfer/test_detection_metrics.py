import json
import math

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pretext.errors import InputError
from transfer.detection_metrics import box_iou, coco_average_precision, detection_average_precision


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


def devkit_ap(detections, truth, label, extra, eleven_points):
    """VOCevaldet.m and VOCap.m, line by line: for each detection, for each true box."""
    lines = [
        (float(score), image, box)
        for image, d in enumerate(detections)
        for score, box, k in zip(d["scores"], d["boxes"].tolist(), d["labels"].tolist(), strict=True)
        if k == label
    ]
    lines.sort(key=lambda line: -line[0])
    true_boxes = [
        [
            {"box": box, "difficult": bool(hard), "found": False}
            for box, k, hard in zip(t["boxes"].tolist(), t["labels"], t["difficult"], strict=True)
            if k == label
        ]
        for t in truth
    ]
    positives = sum(not g["difficult"] for image in true_boxes for g in image)
    if positives == 0:
        return math.nan
    true_positives = false_positives = 0
    recall, precision = [], []
    for _, image, box in lines:
        best_overlap, best = -math.inf, None
        for g in true_boxes[image]:
            gt = g["box"]
            width = min(box[2], gt[2]) - max(box[0], gt[0]) + extra
            height = min(box[3], gt[3]) - max(box[1], gt[1]) + extra
            if width > 0 and height > 0:
                area = (box[2] - box[0] + extra) * (box[3] - box[1] + extra)
                gt_area = (gt[2] - gt[0] + extra) * (gt[3] - gt[1] + extra)
                overlap = width * height / (area + gt_area - width * height)
                if overlap > best_overlap:
                    best_overlap, best = overlap, g
        if best_overlap >= 0.5:
            if not best["difficult"]:
                if not best["found"]:
                    true_positives += 1
                    best["found"] = True
                else:
                    false_positives += 1
        else:
            false_positives += 1
        recall.append(true_positives / positives)
        precision.append(true_positives / max(true_positives + false_positives, 1))
    return voc_ap(recall, precision, eleven_points)


def voc_ap(recall, precision, eleven_points):
    if eleven_points:
        at = [
            max([p for p, r in zip(precision, recall, strict=True) if r >= t / 10], default=0)
            for t in range(11)
        ]
        return sum(at) / 11
    recall, precision = [0, *recall, 1], [0, *precision, 0]
    for i in reversed(range(len(precision) - 1)):
        precision[i] = max(precision[i], precision[i + 1])
    return sum((recall[i] - recall[i - 1]) * precision[i] for i in range(1, len(recall)))


@pytest.mark.parametrize("definition", ["voc07_11point", "area"])
@pytest.mark.parametrize("inclusive", [False, True])
def test_equals_the_devkit_on_1000_random_cases(definition, inclusive):
    judged = 0
    for seed in range(1000):
        detections, truth = random_case(seed, tied=seed % 2 == 0)
        result = detection_average_precision(detections, truth, 2, definition=definition, inclusive=inclusive)
        expected = [
            devkit_ap(detections, truth, k, int(inclusive), definition == "voc07_11point") for k in (1, 2)
        ]
        np.testing.assert_allclose(result.per_class, expected, rtol=0, atol=1e-12)
        judged += sum(not math.isnan(e) for e in expected)
    assert judged > 250


def test_both_box_conventions_agree_on_converted_boxes():
    rng = np.random.default_rng(0)
    boxes, others = random_boxes(rng, 9), random_boxes(rng, 7)
    devkit = [b + np.array([1, 1, 0, 0]) for b in (boxes, others)]
    np.testing.assert_allclose(box_iou(*devkit, inclusive=True), box_iou(boxes, others))


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
    area = detection_average_precision(detections, truth, 1, definition="area").mean
    assert area == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)
    eleven = detection_average_precision(detections, truth, 1).mean
    assert eleven == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)


def perfect(truth):
    return [{**t, "scores": torch.ones(len(t["labels"]))} for t in truth]


def test_perfect_detections():
    truth = random_case(3, difficult=0)[1]
    assert detection_average_precision(perfect(truth), truth, 2).mean == pytest.approx(1.0)
    coco = coco_average_precision(perfect(truth), truth, 2)
    assert (coco.ap, coco.ap50, coco.ap75) == pytest.approx((1.0, 1.0, 1.0))


def test_no_detection_is_zero_and_no_positive_is_nan():
    detections, truth = random_case(3, difficult=0)
    nothing = [images_entry([], [], scores=torch.zeros(0)) for _ in truth]
    assert detection_average_precision(nothing, truth, 2).mean == 0.0
    assert coco_average_precision(nothing, truth, 2).ap == 0.0
    all_difficult = [{**t, "difficult": torch.ones(len(t["labels"]), dtype=torch.bool)} for t in truth]
    for empty in (all_difficult, [images_entry([], [], difficult=torch.zeros(0)) for _ in truth]):
        result = detection_average_precision(detections, empty, 2)
        assert math.isnan(result.mean)
        assert result.left_out == (0, 1)
        assert math.isnan(coco_average_precision(detections, empty, 2).ap)
    assert math.isnan(detection_average_precision([], [], 2).mean)


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
        assert (coco.ap, coco.ap50, coco.ap75) == pytest.approx(tuple(evaluation.stats[:3]), abs=1e-12)
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
        area = detection_average_precision(detections, truth, 1, definition="area").mean
        # 101 recall points against 100 steps: they differ by the point at recall 0.
        assert coco.ap50 == pytest.approx(area, abs=0.01)
        assert coco.ap50 == pytest.approx(coco.ap75) == pytest.approx(coco.ap)


def test_coco_falls_with_loose_boxes_and_is_silent(capfd):
    truth = [images_entry([[0, 0, 100, 100]], [1], difficult=torch.zeros(1))]
    detections = [images_entry([[0, 0, 100, 72]], [1], scores=torch.ones(1))]
    coco = coco_average_precision(detections, truth, 1)
    # IoU 0.72 passes 0.50, 0.55, 0.60, 0.65, 0.70: half of the ten thresholds.
    assert (coco.ap, coco.ap50, coco.ap75) == pytest.approx((0.5, 1.0, 0.0))
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
    with pytest.raises(InputError, match="got 'voc12'; allowed: voc07_11point, area"):
        detection_average_precision(detections, truth, 2, definition="voc12")
    with pytest.raises(InputError, match="got 2 and 1 images"):
        detection_average_precision([detections[0]] * 2, truth[:1], 2)
    unknown = [images_entry([[0, 0, 1, 1]], [3], scores=torch.ones(1), difficult=torch.zeros(1))]
    for function in (detection_average_precision, coco_average_precision):
        with pytest.raises(InputError, match="got labels from 3 to 3; allowed are 1 to 2"):
            function(unknown, unknown, 2)
    broken = [{**unknown[0], "scores": torch.tensor([math.nan])}]
    with pytest.raises(InputError, match="scores of an image hold NaN"):
        detection_average_precision(broken, unknown, 3)
