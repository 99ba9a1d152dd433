from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import refused

from pretext.backbones.checkpoint import load_backbone
from pretext.backbones.surgery import absorb_batch_norm
from pretext.data.crops import to_tensor
from pretext.data.sampling import Draw
from pretext.errors import TrainingDivergedError
from transfer.data.proposals import write_proposals
from transfer.data.voc import open_voc, read_image
from transfer.job import Job
from transfer.protocols.table import PROTOCOLS, load_stage_config
from transfer.scores.detection import coco_average_precision, detection_outcomes
from transfer.stages import detection
from transfer.stages.detection import DetectionPhotos, build_detector, voc_detection

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = [
    "min_sizes=(64,)",
    "max_size=96",
    "test_min_size=64",
    "test_max_size=96",
    "anchor_sizes=(36,)",
    "aspect_ratios=(1.0,)",
    "max_train_proposals=20",
    "max_test_proposals=20",
    "rois_per_image=16",
    "fc6_size=3",
    "fc_channels=64",
    "workers=0",
]
#: A small network learns at a high rate, in single precision alike on all machines.
LEARNING = ["optimizer.lr=0.003", "mixed_precision=None"]
#: As little training as there can be.
BRIEF = ["epochs=None", "steps=2"]


@pytest.fixture
def job(voc_tree, tmp_path, small_alexnet):
    def make(*overrides, on=None, seed=0):
        settings = load_stage_config("voc-detection", on, [*SMALL, *overrides])
        return Job(settings, small_alexnet, voc_tree, seed, tmp_path, torch.device("cpu"))

    return make


@pytest.fixture
def backbone(small_alexnet):
    return absorb_batch_norm(load_backbone(small_alexnet, geometry="pretrain").backbone).eval()


@pytest.fixture
def val(voc_tree):
    return open_voc(voc_tree, 2007).photos("val")


def test_the_config_for_real_photos_runs(job):
    assert len(voc_detection(job(*BRIEF, on="voc256"))) > 0


def test_it_learns_to_find_objects(job):
    measured = voc_detection(job(*LEARNING, "epochs=8", seed=1))
    by_metric = {entry.metric: entry.value for entry in measured}
    assert set(by_metric) == {"mean_ap_voc07", "mean_ap_voc10", "coco_ap", "coco_ap50"}
    assert by_metric["mean_ap_voc07"] > 50
    assert by_metric["coco_ap50"] > by_metric["coco_ap"] > 10
    assert {(entry.setting, entry.split) for entry in measured} == {("all", "train->val")}


def test_the_same_seed_gives_the_same_number(job, monkeypatch):
    losses = []

    def losses_of(*args):
        fine_tune = detection_fine_tune
        model, samples, loss_of, *rest = args
        fine_tune(model, samples, lambda *both: losses.append(loss_of(*both)) or losses[-1], *rest)

    detection_fine_tune = detection.fine_tune
    monkeypatch.setattr(detection, "fine_tune", losses_of)
    first = voc_detection(job(*BRIEF))
    half = len(losses)
    assert voc_detection(job(*BRIEF, "workers=1")) == first
    assert losses[:half] == losses[half:]
    voc_detection(job(*BRIEF, seed=1))
    assert losses[2 * half :] != losses[:half]


def test_the_backbone_receives_rgb_from_0_to_255(backbone, job, val):
    received = []
    model = build_detector(backbone, 2, job().settings, 0).eval()
    model.backbone.backbone.register_forward_pre_hook(lambda _, args: received.append(args[0]))
    image = to_tensor(read_image(val[0].path))
    with torch.no_grad():
        model([image.float()])
    (photos,) = received
    # 80 x 64 pixels stay as they are, and are padded to a multiple of 32 with black.
    assert photos.shape == (1, 3, 64, 96)
    assert torch.equal(photos[0, :, :, :80], image.float())
    assert photos[0, :, :, 80:].abs().max() == 0


@pytest.mark.parametrize("train", ["fc6-8", "all"])
def test_the_convolutions_move_only_where_they_are_trained(job, monkeypatch, train):
    models = []

    def keep(*args):
        model = build_detector(*args)
        models.append((model, {name: value.clone() for name, value in model.state_dict().items()}))
        return model

    monkeypatch.setattr(detection, "build_detector", keep)
    voc_detection(job(*BRIEF, f"train={train}"))
    ((model, before),) = models
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    still = {name for name in before if name.startswith("backbone")} if train == "fc6-8" else set()
    assert moved == set(before) - still


def test_new_layers_follow_from_the_seed(small_alexnet, job):
    def new_layers(seed):
        model = build_detector(load_backbone(small_alexnet).backbone, 2, job().settings, seed)
        return {name: value for name, value in model.state_dict().items() if not name.startswith("backbone")}

    first = new_layers(1)
    assert all(torch.equal(value, first[name]) for name, value in new_layers(1).items())
    assert not torch.equal(first["rpn.head.cls_logits.weight"], new_layers(2)["rpn.head.cls_logits.weight"])
    assert first["roi_heads.box_predictor.bbox_pred.weight"].std() == pytest.approx(0.001, rel=0.1)
    assert first["roi_heads.box_predictor.cls_score.weight"].std() == pytest.approx(0.01, rel=0.2)


def test_a_mirrored_photo_has_mirrored_boxes(val):
    mirrored = DetectionPhotos(val, flip=True, seed=0)
    for index in range(8):
        image, target = DetectionPhotos(val, flip=False, seed=0)[Draw(0, index)]
        draws = [mirrored[Draw(epoch, index)] for epoch in range(8)]
        flipped = [torch.equal(drawn, image.flip(2)) for drawn, _ in draws]
        assert 0 < sum(flipped) < 8
        for (drawn, boxes), is_flipped in zip(draws, flipped, strict=True):
            assert torch.equal(drawn, image.flip(2) if is_flipped else image)
            for (x1, y1, x2, y2), (u1, v1, u2, v2) in zip(
                target["boxes"].tolist(), boxes["boxes"].tolist(), strict=True
            ):
                assert (v1, v2) == (y1, y2)
                assert (u1, u2) == ((80 - x2, 80 - x1) if is_flipped else (x1, x2))


def test_difficult_boxes_are_not_trained_on_and_not_judged(val):
    samples = DetectionPhotos(val, flip=False, seed=0)
    last = len(val) - 1
    assert samples[last][1]["difficult"].tolist() == [True]
    trained = samples[Draw(0, last)][1]
    assert trained["boxes"].shape == (0, 4)
    assert trained["labels"].shape == (0,)
    truth = [samples[index][1] for index in range(len(val))]
    perfect = [target | {"scores": torch.ones(len(target["labels"]))} for target in truth]
    without = [*perfect[:-1], {key: value[:0] for key, value in perfect[-1].items()}]
    for detections in (perfect, without):
        for definition in ("voc07", "voc10"):
            assert detection_outcomes(detections, truth, 2, definition).metric() == pytest.approx(100)
        coco = coco_average_precision(detections, truth, 2)
        assert (coco.ap, coco.ap50) == pytest.approx((1, 1))


@pytest.fixture
def proposals(voc_tree, tmp_path):
    """Files with the objects' boxes, moved a little, and as many boxes elsewhere; as overrides."""
    words = []
    for key, split in (("train", "train"), ("test", "val")):
        rng = np.random.default_rng(len(split))
        boxes = {}
        for photo in open_voc(voc_tree, 2007).photos(split):
            near = np.repeat(photo.boxes, 4, axis=0) + rng.normal(0, 2, (4 * len(photo.boxes), 4))
            corner = rng.uniform(0, 40, (20, 2))
            far = np.concatenate([corner, corner + rng.uniform(8, 24, (20, 2))], axis=1)
            limits = [photo.width, photo.height] * 2
            boxes[photo.name] = np.concatenate([near, far]).clip(0, limits).astype(np.float32)
        write_proposals(tmp_path / f"{split}.npz", boxes)
        words.append(f"{key}_proposals={tmp_path / split}.npz")
    return words


def test_with_given_proposals_it_learns_what_they_show(job, proposals):
    measured = {
        m.metric: m.value
        for m in voc_detection(
            job(
                *LEARNING, "epochs=4", "max_train_proposals=100", "max_test_proposals=100", *proposals, seed=3
            )
        )
    }
    # Untrained it has 4.
    assert measured["mean_ap_voc07"] > 50


def test_rois_that_hardly_touch_an_object_are_left_out_in_training(backbone, job):
    settings = job("train_proposals=a.npz", "test_proposals=b.npz", "background_iou=0.1").settings
    heads = build_detector(backbone, 2, settings, 0).get_submodule("roi_heads")
    boxes = torch.tensor([[10.0, 10, 30, 30]])
    targets = [{"boxes": boxes, "labels": torch.tensor([2])}]
    # IoU of 1, 0.25, 0.02 and 0.
    proposals = torch.tensor([[10.0, 10, 30, 30], [10, 10, 30, 15], [28, 28, 38, 38], [50, 50, 60, 60]])
    (sampled,), _, (labels,), _ = heads.select_training_samples([proposals], targets)
    chosen = sorted(zip(sampled.tolist(), labels.tolist(), strict=True))
    # torchvision adds the object itself.
    assert chosen == [([10, 10, 30, 15], 0), ([10, 10, 30, 30], 2), ([10, 10, 30, 30], 2)]


def test_a_photo_without_proposals_trains_and_finds_nothing(backbone, job):
    settings = job("train_proposals=a.npz", "test_proposals=b.npz", "roi_pool=max").settings
    model = build_detector(backbone, 2, settings, 0)
    size, nothing = torch.tensor([64, 80]), torch.zeros(0, 4)
    shown = {"boxes": torch.tensor([[8.0, 8, 40, 40]]), "labels": torch.tensor([1]), "size": size}
    empty = {"boxes": nothing, "labels": torch.zeros(0, dtype=torch.int64), "size": size}
    photos = list(torch.rand(2, 3, 64, 80) * 255)
    targets = [entry | {"proposals": nothing} for entry in (shown, empty)]
    losses = model.train()(photos, targets)
    assert all(torch.isfinite(loss) for loss in losses.values())
    found = model.eval()(photos, targets)
    assert [len(entry["boxes"]) for entry in found] == [0, 0]


def test_given_proposals_are_part_of_the_split(job, proposals, val):
    without, with_them = (voc_detection(job(*BRIEF, *words))[0] for words in ((), proposals))
    assert without.split_fingerprint != with_them.split_fingerprint
    write_proposals(Path(proposals[1].partition("=")[2]), {photo.name: photo.boxes for photo in val})
    assert voc_detection(job(*BRIEF, *proposals))[0].split_fingerprint != with_them.split_fingerprint


def test_given_proposals_are_mirrored_with_their_photo(val):
    given = [np.array([[2, 3, 30, 40]], dtype=np.float32)] * len(val)
    samples = DetectionPhotos(val, flip=True, seed=0, proposals=given)
    seen = {tuple(samples[Draw(epoch, 0)][1]["proposals"][0].tolist()) for epoch in range(8)}
    assert seen == {(2, 3, 30, 40), (50, 3, 78, 40)}
    assert samples[Draw(0, 0)][1]["size"].tolist() == [64, 80]


@pytest.mark.parametrize("name", [i for i, p in PROTOCOLS.items() if p.stage == "voc-detection"])
def test_a_published_protocol_runs_shortened(voc_tree, tmp_path, small_alexnet, proposals, name):
    words = [
        "scale=1e-5",
        "train_split=train",
        "test_split=val",
        "workers=0",
        "fc_channels=64",
        "min_sizes=(96, 128)",
    ]
    words += ["test_min_size=96", "score_threshold=0.0"]
    words += proposals if name.startswith("fastrcnn") else []
    settings = load_stage_config("voc-detection", overrides=words, protocol=name)
    measured = voc_detection(Job(settings, small_alexnet, voc_tree, 0, tmp_path, torch.device("cpu")))
    assert len(measured) == 4


def test_a_batch_of_photos_without_boxes_trains(backbone, job):
    model = build_detector(backbone, 2, job().settings, 0).train()
    target = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    losses = model([torch.full((3, 64, 80), 90.0)], [target])
    assert np.isfinite(sum(losses.values()).item())


@pytest.mark.parametrize(
    ("overrides", "names", "fields"),
    [
        (["train=fc8"], ["train"], {"received": "fc8", "allowed": ("fc6-8", "all")}),
        (
            ["geometry=padded"],
            ["geometry"],
            {"received": "padded", "allowed": ("pretrain", "evaluation")},
        ),
        (["test_split=test"], ["test"], {}),
        (["train_proposals=a.npz"], ["train_proposals", "test_proposals", "a.npz"], {}),
        (["train_proposals=a.npz", "test_proposals=b.npz"], ["a.npz"], {}),
        (["roi_pool=mean"], ["roi_pool"], {"received": "mean", "allowed": ("align", "max")}),
        (["background_iou=0.5"], ["background_iou"], {"received": 0.5}),
        (["min_sizes=(0,)"], ["min_sizes"], {"received": 0}),
        (["anchor_sizes=()"], ["anchor_sizes"], {"received": ()}),
        (["test_min_size=0"], ["test_min_size"], {"received": 0}),
        (["rois_per_image=0"], ["rois_per_image"], {"received": 0}),
        (["nms_threshold=2.0"], ["nms_threshold"], {"received": 2.0}),
        (["train_proposals=1", "test_proposals=2"], ["train_proposals"], {"received": "1"}),
        (["min_sizes=()"], ["min_sizes"], {"received": ()}),
    ],
)
def test_bad_input_is_an_error_before_training(job, overrides, names, fields):
    with refused(*names, **fields):
        voc_detection(job(*overrides))


@pytest.mark.parametrize(
    "broken",
    ["backbone.backbone.conv5.conv", "rpn.head.cls_logits", "roi_heads.box_predictor.cls_score"],
)
def test_scores_that_are_not_numbers_stop_the_run(job, monkeypatch, broken):
    """torchvision drops boxes of NaN, as if nothing had been found."""

    def break_weights(model, *words):
        model.eval().get_submodule(broken).bias.data[0] = float("nan")

    monkeypatch.setattr(detection, "fine_tune", break_weights)
    with pytest.raises(TrainingDivergedError, match="VOC detection"):
        voc_detection(job())
