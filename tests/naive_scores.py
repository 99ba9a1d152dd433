"""Average precision written down once more, threshold by threshold and box by box: what scores are tested against."""

import math

import numpy as np


def naive_curve(scores, labels):
    """Precision and recall at every distinct threshold of scores (N,), counted one threshold at a time.

    Labels are 0, 1 and 255 for what is not judged. None without a positive.
    """
    judged = [(s, y) for s, y in zip(scores.tolist(), labels.tolist(), strict=True) if y != 255]
    positives = sum(y == 1 for _, y in judged)
    if not positives:
        return None
    precision, recall = [], []
    for threshold in sorted({s for s, _ in judged}, reverse=True):
        taken = [y for s, y in judged if s >= threshold]
        hits = sum(y == 1 for y in taken)
        precision.append(hits / len(taken))
        recall.append(hits / positives)
    return precision, recall


def naive_area(precision, recall, definition):
    """Area under a curve by the definition ``sklearn``, ``voc07`` (VOCevaldet.m) or ``voc10`` (VOCap.m)."""
    if definition == "voc07":
        at = [
            max([p for p, r in zip(precision, recall, strict=True) if r >= t / 10], default=0)
            for t in range(11)
        ]
        return sum(at) / 11
    recall, precision = [0, *recall, 1], [0, *precision, 0]
    if definition == "voc10":
        for i in reversed(range(len(precision) - 1)):
            precision[i] = max(precision[i], precision[i + 1])
    return sum((recall[i] - recall[i - 1]) * precision[i] for i in range(1, len(recall)))


def naive_average_precision(scores, labels, definition):
    """Mean average precision of scores (N, C), over the classes with a positive; NaN if there is none."""
    curves = [naive_curve(*column) for column in zip(scores.T, labels.T, strict=True)]
    areas = [naive_area(*curve, definition) for curve in curves if curve is not None]
    return float(np.mean(areas)) if areas else math.nan


def devkit_curve(detections, truth, label, extra=0.0):
    """Precision and recall of one class as VOCevaldet.m has them: for each detection, for each true box.

    ``extra`` is 1 where corners are pixels that belong to the box, as in the devkit's files. None without a positive.
    """
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
        return None
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
    return precision, recall


def devkit_precision(detections, truth, num_classes, definition, extra=0.0):
    """Mean over the classes 1..C with a positive of detection's average precision; NaN if there is none."""
    curves = [devkit_curve(detections, truth, k, extra) for k in range(1, num_classes + 1)]
    areas = [naive_area(*curve, definition) for curve in curves if curve is not None]
    return float(np.mean(areas)) if areas else math.nan
