"""VOC detection: torchvision's Fast or Faster R-CNN around a backbone's conv5, fine-tuned.

"Colorful Image Colorization" (Zhang et al., ECCV 2016, table 2) uses Fast R-CNN by the recipe of Kraehenbuehl et al.
(ICLR 2016), with proposals from a file. Without a file, a region proposal network makes them (Ren et al., NIPS 2015).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor

from pretext.backbones.base import Backbone
from pretext.backbones.initializers import normal_
from pretext.backbones.surgery import drop_fully_connected
from pretext.data.crops import to_tensor
from pretext.data.sampling import Draw, draw_rng
from pretext.distributed import rank_and_world_size
from pretext.progress import LOG
from transfer.data.identity import names_fingerprint
from transfer.data.orientation import tell_assumed
from transfer.data.overlap import tell_overlap
from transfer.data.proposals import Boxes, check_inside, read_proposals
from transfer.data.voc import VocPhoto, open_voc, read_image, split_fingerprint
from transfer.job import Job, Measurement
from transfer.networks.parts import Conv5, FullyConnected
from transfer.networks.preparation import prepare_backbone
from transfer.networks.regions import (
    FlooredMatcher,
    GivenProposals,
    RegionAlign,
    RegionMaxPool,
    ScaleAugmentation,
    StridedAnchors,
)
from transfer.protocols.settings import DetectionSettings
from transfer.scores.detection import coco_average_precision, detection_outcomes
from transfer.scores.metrics import check_scores
from transfer.training.finetuning import fine_tune, gather, loader
from transfer.training.resume import resumable

#: Parts of a detector whose outputs must be finite: torchvision silently drops regions and boxes that are NaN.
SCORING = (
    "backbone",
    "rpn.head.cls_logits",
    "rpn.head.bbox_pred",
    "roi_heads.box_predictor.cls_score",
    "roi_heads.box_predictor.bbox_pred",
)

DetectionSample = tuple[Tensor, dict[str, Tensor]]


class DetectionPhotos(Dataset[DetectionSample]):
    """Whole photos with their boxes; for a draw mirrored at random and without difficult boxes.

    Args:
        photos: One split.
        flip: Whether to mirror each draw with probability one half.
        seed: Seed of every draw.
        proposals: (R, 4) for each photo; None for a region proposal network.
    """

    def __init__(
        self,
        photos: Sequence[VocPhoto],
        flip: bool,
        seed: int,
        proposals: Sequence[Boxes] | None = None,
    ):
        self.photos, self.flip, self.seed, self.proposals = photos, flip, seed, proposals

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, which: Any) -> DetectionSample:
        """Return the photo (3, H, W) uint8 of a Draw or an index, and its target.

        Returns:
            The photo; and its ``boxes`` (G, 4), ``labels`` (G,) and ``difficult`` (G,), with given proposals also
            ``proposals`` (R, 4) and ``size`` (2,), height and width.

        Raises:
            InputError: The photo cannot be decoded.
        """
        index = which.index if isinstance(which, Draw) else which
        photo = self.photos[index]
        image = to_tensor(read_image(photo.path, upright=photo.upright))
        given = {}
        if self.proposals is not None:
            proposals, size = torch.from_numpy(self.proposals[index]), torch.tensor(image.shape[1:])
            given = {"proposals": proposals, "size": size}
        target = {
            "boxes": torch.from_numpy(photo.boxes),
            "labels": torch.from_numpy(photo.labels),
            "difficult": torch.from_numpy(photo.difficult),
        }
        if not isinstance(which, Draw):
            return image, target | given
        judged = ~target["difficult"]
        target = {key: value[judged] for key, value in target.items()}
        if self.flip and draw_rng(self.seed, which).random() < 0.5:
            target["boxes"] = _mirrored(target["boxes"], photo.width)
            if given:
                given["proposals"] = _mirrored(given["proposals"], photo.width)
            image = image.flip(2)
        return image, target | given


def _mirrored(boxes: Float[Tensor, "r 4"], width: int) -> Float[Tensor, "r 4"]:
    x1, y1, x2, y2 = boxes.unbind(1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=1)


def build_detector(backbone: Backbone, num_classes: int, settings: DetectionSettings, seed: int) -> nn.Module:
    """Build Fast or Faster R-CNN on conv5, with fc6 and fc7 as the head of its second stage.

    The detector takes photos as float tensors with values 0..255 and passes them, resized, to the backbone, which
    converts colours itself.

    Args:
        backbone: Becomes part of the detector, with its fc6 and fc7 if it has them.
        num_classes: C, without the background, whose label is 0.
        settings: The stage's; with ``train_proposals`` there is no region proposal network.
        seed: Seed of the new layers: weights from N(0, 0.01^2), those of the box regression from N(0, 0.001^2),
            biases 0, as in Fast R-CNN (Girshick, ICCV 2015, section 2.3).
    """
    conv5 = Conv5(drop_fully_connected(backbone), settings, trained=settings.train == "all")
    head = FullyConnected(backbone, conv5.out_channels, settings, True, seed)
    detector: nn.Module = FasterRCNN(
        conv5,
        rpn_anchor_generator=StridedAnchors(settings.anchor_sizes, settings.aspect_ratios, conv5.layer),
        rpn_post_nms_top_n_train=settings.max_train_proposals,
        rpn_post_nms_top_n_test=settings.max_test_proposals,
        box_head=head,
        box_predictor=FastRCNNPredictor(head.out_channels, num_classes + 1),
        box_batch_size_per_image=settings.rois_per_image,
        box_positive_fraction=0.25,
        box_score_thresh=settings.score_threshold,
        box_nms_thresh=settings.nms_threshold,
    )
    pool = {"align": RegionAlign, "max": RegionMaxPool}[settings.roi_pool]
    heads = detector.get_submodule("roi_heads")
    heads.box_roi_pool = pool(head.size, conv5.layer)
    heads.proposal_matcher = FlooredMatcher(0.5, settings.background_iou)
    detector.transform = ScaleAugmentation(
        settings.min_sizes, settings.max_size, settings.test_min_size, settings.test_max_size
    )
    new = ["roi_heads.box_predictor"]
    if settings.train_proposals is None:
        new.append("rpn.head")
    else:
        detector.rpn = GivenProposals()
    for part in new:
        for name, layer in detector.get_submodule(part).named_modules(prefix=part):
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                std = 0.001 if name == "roi_heads.box_predictor.bbox_pred" else 0.01
                normal_(layer.weight, std=std, seed=seed, name=name)
                nn.init.zeros_(layer.get_parameter("bias"))
    return detector


def voc_detection(job: Job[DetectionSettings]) -> list[Measurement]:
    """Fine-tune a detector on one split and score it on another; an interrupted run goes on.

    Returns:
        ``mean_ap_voc07`` (11 points) and ``mean_ap_voc10`` (area), both at an IoU of 0.5 without difficult boxes;
        and ``coco_ap`` and ``coco_ap50`` by pycocotools. Their split's fingerprint includes the files of proposals.

    Raises:
        InputError: The data or the backbone cannot be used.
        TrainingDivergedError: The loss or a score is not a finite number.
    """
    settings = job.settings
    year = open_voc(job.data, settings.year)
    train, test = year.photos(settings.train_split), year.photos(settings.test_split)
    tell_overlap([photo.path for photo in train], [photo.path for photo in test])
    tell_assumed(photo.header for photo in (*train, *test))
    proposals, hashes = _read_proposals(settings, (train, test))
    loaded = prepare_backbone(job, [photo.path for photo in train])
    model = build_detector(loaded.backbone, len(year.classes), settings, job.seed).to(job.device)

    def loss_of(network: nn.Module, batch: Sequence[DetectionSample]) -> Float[Tensor, ""]:
        losses: dict[str, Tensor] = network(*_moved(batch, job))
        return torch.stack(list(losses.values())).sum()

    samples = DetectionPhotos(train, settings.flip, job.seed, proposals[0])
    names = split_fingerprint({settings.train_split: train, settings.test_split: test})
    if hashes:
        LOG.info(f"proposals: {', '.join(hashes)}")
        names = names_fingerprint([names, *hashes])
    with resumable(job, loaded.sha256, names) as unfinished:
        fine_tune(model, samples, loss_of, job, f"VOC detection ({settings.train})", list, unfinished)
        detections, truth = detect(model, DetectionPhotos(test, False, job.seed, proposals[1]), job)
    coco = coco_average_precision(detections, truth, len(year.classes))
    measurements = []
    for definition in ("voc07", "voc10"):
        outcomes = detection_outcomes(detections, truth, len(year.classes), definition)
        value = outcomes.metric()
        metric = f"mean_ap_{definition}"
        measurements.append(Measurement(settings.train, metric, value, settings.split, names, outcomes))
    for metric, value in (("coco_ap", coco.ap), ("coco_ap50", coco.ap50)):
        measurements.append(Measurement(settings.train, metric, 100 * value, settings.split, names))
    return measurements


def _read_proposals(
    settings: DetectionSettings, splits: Sequence[Sequence[VocPhoto]]
) -> tuple[list[list[Boxes] | None], list[str]]:
    """Return the proposals of both splits, or None for each, and the hashes of their files."""
    if settings.train_proposals is None or settings.test_proposals is None:
        return [None, None], []
    files = (settings.train_proposals, settings.test_proposals)
    limits = (settings.max_train_proposals, settings.max_test_proposals)
    read = [
        read_proposals(Path(file), [photo.name for photo in photos], limit)
        for file, photos, limit in zip(files, splits, limits, strict=True)
    ]
    for photos, (boxes, _) in zip(splits, read, strict=True):
        for photo, proposed in zip(photos, boxes, strict=True):
            check_inside(photo.name, proposed, photo.width, photo.height)
    return [boxes for boxes, _ in read], [digest for _, digest in read]


def _moved(
    batch: Sequence[DetectionSample], job: Job[DetectionSettings]
) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    photos = [photo.to(job.device).float() for photo, _ in batch]
    return photos, [{key: value.to(job.device) for key, value in target.items()} for _, target in batch]


@torch.no_grad()
def detect(
    model: nn.Module, samples: DetectionPhotos, job: Job[DetectionSettings]
) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    """Return each photo's detections (boxes, scores, labels) and its target, in order of the photos."""
    rank, world_size = rank_and_world_size()
    indices = range(rank, len(samples), world_size)
    found: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []
    with _finite_scores(model, f"VOC detection ({job.settings.train})"):
        for batch in loader(samples, job, indices, list):
            detections = model(*_moved(batch, job))
            found += [
                ({key: value.cpu() for key, value in detected.items()}, target)
                for detected, (_, target) in zip(detections, batch, strict=True)
            ]
    ordered = sorted(gather(list(zip(indices, found, strict=True))), key=lambda entry: entry[0])
    return [pair[0] for _, pair in ordered], [pair[1] for _, pair in ordered]


@contextmanager
def _finite_scores(model: nn.Module, title: str) -> Iterator[None]:
    """Check what the parts in `SCORING` give as long as the context lasts."""

    def check(module: nn.Module, arguments: Any, output: Tensor) -> None:
        check_scores(title, [output])

    hooks = [part.register_forward_hook(check) for name, part in model.named_modules() if name in SCORING]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
