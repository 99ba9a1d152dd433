"""VOC detection: torchvision's Faster R-CNN around a backbone's conv5, fine-tuned.

In "Colorful Image Colorization" (Zhang et al., ECCV 2016, table 2) it is Fast R-CNN by the recipe of Kraehenbuehl
et al. (ICLR 2016); here proposals come from a region proposal network (Ren et al., NIPS 2015).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor

from pretext.backbones.base import Backbone
from pretext.data.views import Draw, draw_rng, to_tensor
from pretext.distributed import rank_and_world_size
from pretext.initializers import normal_
from transfer.data.voc import VocPhoto, open_voc, read_image, split_fingerprint
from transfer.detection_metrics import coco_average_precision, detection_average_precision
from transfer.finetuning import check_config, fine_tune, gather, loader
from transfer.parts import Conv5, FullyConnected
from transfer.regions import RegionAlign, StridedAnchors
from transfer.stage import Job, Measurement

SETTINGS = ("fc6-8", "all")
"""What is trained: everything, or everything but the convolutions (DeepCluster's fc6-8)."""

DetectionSample = tuple[Tensor, dict[str, Tensor]]


class DetectionPhotos(Dataset[DetectionSample]):
    """Whole photos with their boxes: of a draw, mirrored at random and without the difficult ones.

    Args:
        photos: One split.
        flip: Whether to mirror every other photo of the draws, at random.
        seed: Seed of every draw.
    """

    def __init__(self, photos: Sequence[VocPhoto], flip: bool, seed: int):
        self.photos, self.flip, self.seed = photos, flip, seed

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, which: Any) -> DetectionSample:
        """The photo (3, H, W) uint8 of a Draw or an index; and boxes (G, 4), labels (G,) and difficult (G,).

        Raises:
            InputError: The photo cannot be decoded.
        """
        photo = self.photos[which.index if isinstance(which, Draw) else which]
        image = to_tensor(read_image(photo.path))
        target = {
            "boxes": torch.from_numpy(photo.boxes),
            "labels": torch.from_numpy(photo.labels),
            "difficult": torch.from_numpy(photo.difficult),
        }
        if not isinstance(which, Draw):
            return image, target
        judged = ~target["difficult"]
        target = {key: value[judged] for key, value in target.items()}
        if self.flip and draw_rng(self.seed, which).random() < 0.5:
            x1, y1, x2, y2 = target["boxes"].unbind(1)
            target["boxes"] = torch.stack([photo.width - x2, y1, photo.width - x1, y2], dim=1)
            image = image.flip(2)
        return image, target


def build_detector(backbone: Backbone, num_classes: int, config: Mapping[str, Any], seed: int) -> nn.Module:
    """Faster R-CNN on conv5, with fc6 and fc7 as the head of its second stage.

    It takes photos as float tensors with values 0..255 and hands them, resized, to the backbone, which does its
    own colour conversion.

    Args:
        backbone: Taken over, with its fc6 and fc7 if it has them.
        num_classes: C; label 0 is the background.
        config: The stage's config.
        seed: Seed of the new layers: N(0, 0.01^2), of the boxes' regression N(0, 0.001^2), biases 0, as in
            Fast R-CNN (Girshick, ICCV 2015, section 2.3).
    """
    conv5 = Conv5(backbone, config, trained=config["train"] == "all")
    head = FullyConnected(backbone, conv5.out_channels, config, True, seed)
    detector: nn.Module = FasterRCNN(
        conv5,
        min_size=config["min_size"],
        max_size=config["max_size"],
        image_mean=[0.0, 0.0, 0.0],
        image_std=[1.0, 1.0, 1.0],
        rpn_anchor_generator=StridedAnchors(config["anchor_sizes"], config["aspect_ratios"], conv5.layer),
        rpn_post_nms_top_n_train=config["proposals"],
        rpn_post_nms_top_n_test=config["proposals"],
        box_head=head,
        box_predictor=FastRCNNPredictor(head.out_channels, num_classes + 1),
        box_batch_size_per_image=config["rois_per_image"],
        box_score_thresh=config["score_threshold"],
        box_nms_thresh=config["nms_threshold"],
    )
    detector.get_submodule("roi_heads").box_roi_pool = RegionAlign(head.size, conv5.layer)
    for part in ("rpn.head", "roi_heads.box_predictor"):
        for name, layer in detector.get_submodule(part).named_modules(prefix=part):
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                std = 0.001 if name == "roi_heads.box_predictor.bbox_pred" else 0.01
                normal_(layer.weight, std=std, seed=seed, name=name)
                nn.init.zeros_(layer.get_parameter("bias"))
    return detector


def voc_detection(job: Job) -> list[Measurement]:
    """Fine-tune a detector on one split and score it on another.

    Args:
        job: Its config says in ``train`` what is trained (fc6-8 or all) and in ``batch_norm`` what becomes of
            batch norm (absorb, frozen or train).

    Returns:
        ``mean_ap_voc07`` (11 points) and ``mean_ap_voc10`` (area), both at an IoU of 0.5 and with difficult
        boxes left out; and ``coco_ap`` and ``coco_ap50`` by pycocotools.

    Raises:
        InputError: The config, the data or the backbone cannot be used.
        TrainingDivergedError: The loss is no longer finite.

    Differences from the paper: proposals of a region proposal network, not of selective search; RoIAlign, not
    RoI max pooling; background RoIs are all below an IoU of 0.5, not between 0.1 and 0.5; photos are as large, and
    the schedule as long, as the config says.
    """
    config = job.config
    check_config(config, SETTINGS)
    year = open_voc(job.data, config["year"])
    train, test = year.photos(config["train_split"]), year.photos(config["test_split"])
    norm = "absorb" if config["batch_norm"] == "absorb" else "keep"
    backbone = job.load_backbone(config["geometry"], norm).backbone
    model = build_detector(backbone, len(year.classes), config, job.seed).to(job.device)

    def loss_of(batch: Sequence[DetectionSample]) -> Float[Tensor, ""]:
        photos = [photo.to(job.device).float() for photo, _ in batch]
        targets = [{key: value.to(job.device) for key, value in target.items()} for _, target in batch]
        losses: dict[str, Tensor] = model(photos, targets)
        return torch.stack(list(losses.values())).sum()

    samples = DetectionPhotos(train, config["flip"], job.seed)
    fine_tune(model, samples, loss_of, job, f"VOC detection ({config['train']})", list)
    detections, truth = detect(model, DetectionPhotos(test, False, job.seed), job)
    split = f"{config['train_split']}->{config['test_split']}"
    names = split_fingerprint({config["train_split"]: train, config["test_split"]: test})
    return [
        Measurement(config["train"], metric, 100 * value, split, names)
        for metric, value in average_precisions(detections, truth, len(year.classes)).items()
    ]


@torch.no_grad()
def detect(
    model: nn.Module, samples: DetectionPhotos, job: Job
) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    """What the detector finds in each photo (boxes, scores, labels), and what is there, in order of the photos."""
    rank, world_size = rank_and_world_size()
    indices = range(rank, len(samples), world_size)
    found: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []
    for batch in loader(samples, job, indices, list):
        detections = model([photo.to(job.device).float() for photo, _ in batch])
        found += [
            ({key: value.cpu() for key, value in detected.items()}, target)
            for detected, (_, target) in zip(detections, batch, strict=True)
        ]
    ordered = sorted(gather(list(zip(indices, found, strict=True))), key=lambda entry: entry[0])
    return [pair[0] for _, pair in ordered], [pair[1] for _, pair in ordered]


def average_precisions(
    detections: Sequence[Mapping[str, Tensor]], truth: Sequence[Mapping[str, Tensor]], num_classes: int
) -> dict[str, float]:
    """VOC's and COCO's AP in [0, 1] by the names of their metrics."""
    coco = coco_average_precision(detections, truth, num_classes)
    return {
        "mean_ap_voc07": detection_average_precision(
            detections, truth, num_classes, definition="voc07_11point"
        ).mean,
        "mean_ap_voc10": detection_average_precision(detections, truth, num_classes, definition="area").mean,
        "coco_ap": coco.ap,
        "coco_ap50": coco.ap50,
    }
