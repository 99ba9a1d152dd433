import numpy as np
import pytest
import torch

from pretext.backbones.checkpoint import load_backbone
from pretext.config import load_config
from pretext.data.views import Draw, to_tensor
from pretext.errors import InputError
from transfer import detection
from transfer.data.voc import open_voc, read_image
from transfer.detection import DetectionPhotos, average_precisions, build_detector, voc_detection
from transfer.stage import Job

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = [
    "min_size=64",
    "max_size=96",
    "anchor_sizes=(36,)",
    "aspect_ratios=(1.0,)",
    "proposals=20",
    "rois_per_image=16",
    "fc6_size=3",
    "fc_channels=64",
    "workers=0",
]


@pytest.fixture
def job(voc_tree, tmp_path):
    def make(*overrides, config="voc_detection", seed=0):
        config = load_config(f"transfer/{config}", [*SMALL, *overrides])
        return Job(config, "random:alexnet", voc_tree, seed, tmp_path, torch.device("cpu"))

    return make


@pytest.fixture
def backbone():
    return load_backbone("random:alexnet", geometry="pretrain", norm="absorb").backbone


@pytest.fixture
def val(voc_tree):
    return open_voc(voc_tree, 2007).photos("val")


def test_the_config_for_real_photos_runs(job):
    assert len(voc_detection(job("epochs=1", config="voc_detection_voc256"))) > 0


def test_it_learns_to_find_objects(job):
    measured = voc_detection(job("epochs=12"))
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
        fine_tune(model, samples, lambda batch: losses.append(loss_of(batch)) or losses[-1], *rest)

    detection_fine_tune = detection.fine_tune
    monkeypatch.setattr(detection, "fine_tune", losses_of)
    first = voc_detection(job("epochs=1"))
    half = len(losses)
    assert voc_detection(job("epochs=1", "workers=1")) == first
    assert losses[:half] == losses[half:]
    voc_detection(job("epochs=1", seed=1))
    assert losses[2 * half :] != losses[:half]


def test_the_backbone_receives_rgb_from_0_to_255(backbone, job, val):
    received = []
    backbone.register_forward_pre_hook(lambda _, args: received.append(args[0]))
    model = build_detector(backbone, 2, job().config, 0).eval()
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
    voc_detection(job("epochs=1", f"train={train}"))
    ((model, before),) = models
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    still = {name for name in before if name.startswith("backbone")} if train == "fc6-8" else set()
    assert moved == set(before) - still


def test_new_layers_follow_from_the_seed(backbone, job):
    def new_layers(seed):
        model = build_detector(load_backbone("random:alexnet").backbone, 2, job().config, seed)
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
        assert list(average_precisions(detections, truth, 2).values()) == pytest.approx([1, 1, 1, 1])


def test_a_batch_of_photos_without_boxes_trains(backbone, job):
    model = build_detector(backbone, 2, job().config, 0).train()
    target = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    losses = model([torch.full((3, 64, 80), 90.0)], [target])
    assert np.isfinite(sum(losses.values()).item())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train=fc8"], "unknown train: received 'fc8', allowed are fc6-8, all"),
        (
            ["geometry=padded"],
            "unknown geometry: received 'padded', allowed are pretrain, evaluation",
        ),
        (["test_split=test"], "no list of the split 'test'"),
    ],
)
def test_bad_input_is_an_error_before_training(job, overrides, message):
    with pytest.raises(InputError, match=message):
        voc_detection(job(*overrides))
