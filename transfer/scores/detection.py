"""Detection AP by the rules of the VOC devkit, and COCO's through pycocotools."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from pretext.checks import check_choice
from pretext.errors import InputError
from transfer.scores.metrics import AVERAGE_PRECISIONS
from transfer.scores.outcomes import DetectionPrecision

#: A detection and a true box match from this IoU on, as in the devkit.
IOU_THRESHOLD = 0.5


def box_iou(boxes: Float[np.ndarray, "m 4"], others: Float[np.ndarray, "g 4"]) -> Float[np.ndarray, "m g"]:
    """Compute the intersection over union of boxes x1, y1, x2, y2 (NumPy).

    Corners are continuous and 0-based: a box is x2 - x1 wide. In the devkit's files they are 1-based indices of pixels
    that belong to the box, which is x2 - x1 + 1 wide. The devkit's (x1, y1, x2, y2) is our (x1 - 1, y1 - 1, x2, y2),
    and gives the same IoU.

    Args:
        boxes: (M, 4) in pixels.
        others: (G, 4) in pixels.
    """
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    intersection = np.prod(np.clip(high - low, 0.0, None), axis=2)
    areas, other_areas = (np.prod(b[:, 2:] - b[:, :2], axis=1) for b in (boxes, others))
    union = areas[:, None] + other_areas[None, :] - intersection
    iou: np.ndarray = intersection / np.where(union > 0, union, 1.0)
    return iou


def _numpy(values: Mapping[str, Tensor], key: str, num_classes: int) -> np.ndarray:
    array: np.ndarray = values[key].detach().cpu().numpy()
    if not np.isfinite(array).all():
        raise InputError(
            f"{key} of an image are NaN or infinite",
            received=f"{int((~np.isfinite(array)).sum())} of {array.size}",
            allowed="every number must be finite",
        )
    if key == "labels" and array.size and (array.min() < 1 or array.max() > num_classes):
        raise InputError(
            "labels of an image hold an unknown class",
            received=np.unique(array)[:10].tolist(),
            allowed=f"allowed are 1 to {num_classes}; 0 is the background",
        )
    return array.astype(np.float64) if key in ("boxes", "scores") else array


def _match(
    detections: Sequence[Mapping[str, Tensor]],
    truth: Sequence[Mapping[str, Tensor]],
    num_classes: int,
) -> dict[str, np.ndarray]:
    """Return for each detection its image, score, class, and the true box of its class with the highest IoU."""
    keys = ("image", "score", "label", "iou", "box", "difficult")
    found: dict[str, list[np.ndarray]] = {key: [] for key in keys}
    first_box = 0
    for number, (image_detections, image_truth) in enumerate(zip(detections, truth, strict=True)):
        labels, true_labels = (_numpy(v, "labels", num_classes) for v in (image_detections, image_truth))
        boxes, true_boxes = (_numpy(v, "boxes", num_classes) for v in (image_detections, image_truth))
        iou = box_iou(boxes.reshape(-1, 4), true_boxes.reshape(-1, 4))
        # A column of zeros stands for "no box", so that argmax is defined in an image without objects.
        iou = np.pad(np.where(labels[:, None] == true_labels[None, :], iou, 0.0), ((0, 0), (0, 1)))
        best = iou.argmax(axis=1)
        found["image"].append(np.full(len(labels), number))
        found["score"].append(_numpy(image_detections, "scores", num_classes))
        found["label"].append(labels)
        found["iou"].append(iou[np.arange(len(best)), best])
        found["box"].append(best + first_box)
        found["difficult"].append(np.append(_numpy(image_truth, "difficult", num_classes) != 0, False)[best])
        first_box += len(true_labels) + 1
    return {key: np.concatenate(parts) if parts else np.zeros(0) for key, parts in found.items()}


def detection_outcomes(
    detections: Sequence[Mapping[str, Tensor]],
    ground_truth: Sequence[Mapping[str, Tensor]],
    num_classes: int,
    definition: str = "voc07",
) -> DetectionPrecision:
    """Decide which detections are right by the rules of the VOC devkit (`VOCevaldet.m`; torch tensors in, NumPy out).

    Detections of a class are taken by falling score (equal scores in the order given); each goes to the true box of
    its class and image with the highest IoU. Below `IOU_THRESHOLD` it is a false positive; on a difficult box it
    counts neither way; on a box already found it is a false positive; otherwise it is a true positive. Positives are
    the boxes that are not difficult.

    Args:
        detections: One mapping per image, as torchvision's detectors return: boxes (M, 4) xyxy in pixels,
            scores (M,), labels (M,) in 1..C.
        ground_truth: The same images: boxes (G, 4), labels (G,) in 1..C, difficult (G,) bool or 0/1.
        num_classes: C, without the background.
        definition: "voc07" (VOC 2007, 11 points) or "voc10" (area, VOC 2010 and later); see `AVERAGE_PRECISIONS`.

    Raises:
        InputError: An unknown definition, a label outside 1..C, a number that is not finite, or lists of different
            length.
    """
    check_choice("definition of average precision", definition, AVERAGE_PRECISIONS)
    _check_same_images(detections, ground_truth)
    matches = _match(detections, ground_truth, num_classes)
    positives = np.zeros((len(ground_truth), num_classes), dtype=np.int64)
    for row, truth in zip(positives, ground_truth, strict=True):
        judged = _numpy(truth, "labels", num_classes)[_numpy(truth, "difficult", num_classes) == 0]
        row += np.bincount(judged, minlength=num_classes + 1)[1:]
    order = np.argsort(-matches["score"], kind="stable")
    overlaps = matches["iou"][order] >= IOU_THRESHOLD
    on_difficult = overlaps & matches["difficult"][order].astype(bool)
    candidates = np.flatnonzero(overlaps & ~on_difficult)
    hit = np.where(on_difficult, -1, 0)
    # np.unique gives the first detection of each true box, which has the highest score.
    hit[candidates[np.unique(matches["box"][order][candidates], return_index=True)[1]]] = 1
    return DetectionPrecision(
        positives=positives,
        image=matches["image"][order].astype(np.int64),
        label=matches["label"][order].astype(np.int64),
        hit=hit,
        definition=np.array([definition]),
    )


def _check_same_images(
    detections: Sequence[Mapping[str, Tensor]], ground_truth: Sequence[Mapping[str, Tensor]]
) -> None:
    if len(detections) != len(ground_truth):
        raise InputError(
            "detections and ground truth must be of the same images",
            received=f"{len(detections)} and {len(ground_truth)} images",
        )


@dataclass(frozen=True)
class CocoAp:
    """COCO's AP in [0, 1]; NaN without a positive.

    Attributes:
        ap: The mean over the IoU thresholds 0.50, 0.55, ..., 0.95.
        ap50: At an IoU of 0.50.
    """

    ap: float
    ap50: float


_COCO_KEYS = ("boxes", "labels", "scores", "difficult")


def _coco_index(annotations: list[dict[str, Any]], num_images: int, num_classes: int) -> Any:
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i} for i in range(num_images)],
        "categories": [{"id": k} for k in range(1, num_classes + 1)],
        # To pycocotools the id 0 means "no match", so ids start at 1.
        "annotations": [annotation | {"id": i} for i, annotation in enumerate(annotations, start=1)],
    }
    coco.createIndex()
    return coco


def _coco_annotations(images: Sequence[Mapping[str, Tensor]], num_classes: int) -> list[dict[str, Any]]:
    annotations: list[dict[str, Any]] = []
    for image_id, image in enumerate(images):
        arrays = {key: _numpy(image, key, num_classes) for key in image if key in _COCO_KEYS}
        arrays["boxes"] = arrays["boxes"].reshape(-1, 4)
        for values in zip(*arrays.values(), strict=True):
            box = dict(zip(arrays, values, strict=True))
            x1, y1, x2, y2 = box["boxes"].tolist()
            annotations.append(
                {
                    "image_id": image_id,
                    "category_id": int(box["labels"]),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "score": float(box.get("scores", 1.0)),
                    "iscrowd": int(box.get("difficult", 0)),
                }
            )
    return annotations


def coco_average_precision(
    detections: Sequence[Mapping[str, Tensor]], ground_truth: Sequence[Mapping[str, Tensor]], num_classes: int
) -> CocoAp:
    """Compute COCO's box AP through pycocotools: all areas, at most 100 detections per image (torch tensors in).

    A difficult box becomes a crowd, which pycocotools ignores: it is not a positive, and no detection on it is false.

    Args:
        detections: See `detection_outcomes`.
        ground_truth: See `detection_outcomes`.
        num_classes: C, without the background.

    Returns:
        The means over the classes with a box that is not difficult.

    Raises:
        InputError: A label outside 1..C, a number that is not finite, or lists of different length.
    """
    _check_same_images(detections, ground_truth)
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = (
            _coco_index(_coco_annotations(images, num_classes), len(images), num_classes)
            for images in (ground_truth, detections)
        )
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    # (IoU threshold, recall, class, area range, detection limit): all areas, 100 detections.
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    # A class without a positive has -1 at every threshold and recall.
    precision = precision[:, :, (precision >= 0).all(axis=(0, 1))]
    if precision.size == 0:
        return CocoAp(float("nan"), float("nan"))
    return CocoAp(float(precision.mean()), float(precision[0].mean()))
