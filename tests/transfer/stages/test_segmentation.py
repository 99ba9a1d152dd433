import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.runner import ValLoop
from mmengine.structures import PixelData
from mmseg.evaluation import IoUMetric
from mmseg.structures import SegDataSample
from PIL import Image
from refusals import refused
from small_alexnet import small_alexnet as with_few_channels

from pretext.backbones import AlexNet
from pretext.backbones.checkpoint import Provenance, save_backbone
from pretext.backbones.initializers import he_normal_
from pretext.color.lab import rgb_to_lab
from pretext.data.sampling import Draw
from pretext.errors import TrainingDivergedError
from pretext.training.hooks import ShowProgress
from pretext.training.runner import WholeCheckpointRunner
from transfer.data.masks import MaskedPhotos, ScaledCrop, read_masks
from transfer.job import Job
from transfer.networks.hypercolumn import PointLogits
from transfer.networks.segmentor import CrossEntropyLoss, GrayPhotos, PointsHead
from transfer.protocols.table import load_stage_config
from transfer.run import recorded
from transfer.stages.segmentation import voc_segmentation
from transfer.training.early_stopping import KeepScores, best_step, parted

CLASSES = ("stripes", "plain")
SMALL = [
    "crop=32",
    "batch_size=4",
    "steps=None",
    "epochs=2",
    "workers=0",
    "head.channels=32",
    "mixed_precision=None",
]
#: A small hypercolumn.
HYPERCOLUMN = "network=hypercolumn head={'channels':32,'points':48,'edge':2,'stride':4,'dropout':0.5}"
STOPPING = "early_stopping={'share':0.3,'evaluations':4}"
#: Colours of background and objects: none is gray, so that swapped channels show.
COLORS = ((40, 70, 100), (230, 200, 30), (200, 240, 250))


def write_sample(folder, name):
    """A dark photo of 72 x 56 pixels with one bright square, striped or plain, and its palette mask."""
    rng = np.random.default_rng(int(name))
    mask = np.zeros((56, 72), dtype=np.uint8)
    label = int(name) % 2 + 1
    top, left = (int(value) for value in rng.integers(4, 20, 2))
    mask[top : top + 32, left : left + 32] = label
    pixels = np.array(COLORS)[mask] + rng.normal(0, 6, (56, 72, 1))
    if label == 1:
        pixels[(mask == 1) & (np.arange(72) % 8 < 4)] = 10
    # JPEGImages/*.jpg, written without loss so that a test knows the pixels.
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(
        folder / "JPEGImages" / f"{name}.jpg", format="PNG"
    )
    mask[top - 1, left : left + 32] = 255
    image = Image.fromarray(mask, mode="P")
    image.putpalette([*range(256)] * 3)
    image.save(folder / "SegmentationClass" / f"{name}.png")


def write_tree(root, train=12, val=7):
    folder = root / "VOCdevkit" / "VOC2012"
    for name in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (folder / name).mkdir(parents=True)
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    names = [f"{number:06d}" for number in range(train + val)]
    for name in names:
        write_sample(folder, name)
    for split, listed in {"train": names[:train], "val": names[train:]}.items():
        (folder / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(listed) + "\n")
    return folder


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The year's folder of a tree that tests share and leave as it is."""
    return write_tree(tmp_path_factory.mktemp("seg"))


@dataclasses.dataclass(frozen=True)
class SpyJob(Job):
    """A job that keeps the backbones it loads: they are trained in place."""

    loaded: list = dataclasses.field(default_factory=list)

    def load_backbone(self, geometry, norm):
        loaded = super().load_backbone(geometry, norm)
        self.loaded.append(loaded.backbone)
        return loaded


@pytest.fixture
def job(tree, tmp_path, small_alexnet):
    def make(*overrides, on=None, seed=0, data=tree, work_dir="run"):
        settings = load_stage_config("voc-segmentation", on, [*SMALL, *overrides])
        return SpyJob(settings, small_alexnet, data, seed, tmp_path / work_dir, torch.device("cpu"))

    return make


def test_the_config_for_real_photos_runs(job):
    assert len(voc_segmentation(job("epochs=1", on="voc256"))) > 0


@pytest.fixture
def predictions(monkeypatch):
    """Fills with (predicted, true) classes of every scored photo, void as 255."""
    seen = []
    process = IoUMetric.process

    def spy(self, data_batch, data_samples):
        for sample in data_samples:
            pairs = (sample[key]["data"].squeeze(0).numpy() for key in ("pred_sem_seg", "gt_sem_seg"))
            seen.append(tuple(pairs))
        process(self, data_batch, data_samples)

    monkeypatch.setattr(IoUMetric, "process", spy)
    return seen


def weights(job):
    return {name: value.clone() for name, value in job.loaded[-1].state_dict().items()}


def assert_equal(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def naive_scores(pairs, num_classes):
    """Mean IoU and pixel accuracy in percent, pixel by pixel."""
    inter, union = [0] * num_classes, [0] * num_classes
    right = judged = 0
    for predicted, true in pairs:
        for p, t in zip(predicted.ravel().tolist(), true.ravel().tolist(), strict=True):
            if t == 255:
                continue
            judged += 1
            right += p == t
            for label in {p, t}:
                union[label] += 1
                inter[label] += p == t
    ious = [i / u for i, u in zip(inter, union, strict=True) if u]
    return 100 * sum(ious) / len(ious), 100 * right / judged


def test_it_learns_and_scores_as_a_naive_count_does(job, tree, predictions):
    given = job("epochs=14", "optimizer.lr=0.003", "scales=(0.8,1.2)")
    measured = voc_segmentation(given)
    by_metric = {entry.metric: entry.value for entry in measured}
    # All background is 70 % right, which is a mean IoU of 24 over three classes.
    assert by_metric["mean_iou"] > 45
    names = (tree / "ImageSets" / "Segmentation" / "val.txt").read_text().split()
    assert len(predictions) == len(names)
    for (_, true), name in zip(predictions, names, strict=True):
        assert np.array_equal(true, np.array(Image.open(tree / "SegmentationClass" / f"{name}.png")))
    expected = naive_scores(predictions, 3)
    assert (by_metric["mean_iou"], by_metric["pixel_accuracy"]) == pytest.approx(expected, abs=0.006)
    assert {(entry.setting, entry.split) for entry in measured} == {("all", "train->val")}
    assert not list(given.work_dir.iterdir())


def test_the_log_has_losses_and_classes_once(job, tmp_path):
    with recorded(tmp_path / "runs", "run", {}):
        voc_segmentation(job("steps=10", "epochs=None"))
    (folder,) = (tmp_path / "runs").iterdir()
    log = (folder / "log.txt").read_text()
    assert log.count("loss ") == 1
    assert log.count("|  stripes   |") == 1


def test_the_backbone_sees_rgb_from_0_to_255(job, tree, monkeypatch):
    given, seen = job("epochs=1"), []
    load = SpyJob.load_backbone

    def load_and_watch(self, geometry, norm):
        loaded = load(self, geometry, norm)
        loaded.backbone.register_forward_pre_hook(
            lambda module, arguments: seen.append((module.training, arguments[0].clone()))
        )
        return loaded

    monkeypatch.setattr(SpyJob, "load_backbone", load_and_watch)
    voc_segmentation(given)
    names = (tree / "ImageSets" / "Segmentation" / "val.txt").read_text().split()
    tested = [photos for training, photos in seen if not training]
    for photos, name in zip(tested, names, strict=True):
        pixels = np.array(Image.open(tree / "JPEGImages" / f"{name}.jpg"))
        assert torch.equal(photos, torch.from_numpy(pixels).permute(2, 0, 1)[None].float())
    trained = torch.cat([photos for training, photos in seen if training])
    assert trained.shape[1:] == (3, 32, 32)
    assert trained.min() >= 0
    assert 150 < trained.max() <= 255
    # The background is blue: 40, 70, 100.
    assert (trained[:, 2] > trained[:, 0]).float().mean() > 0.4


def test_photo_and_mask_are_cropped_alike():
    mask = np.zeros((60, 90), dtype=np.uint8)
    mask[20:50, 10:60] = 200
    photo = Image.fromarray(np.repeat(mask[..., None], 3, axis=2))
    view = ScaledCrop(40, (0.5, 2.0), True)
    sizes = set()
    for number in range(40):
        seen, cut = view(photo, Image.fromarray(mask), np.random.default_rng(number))
        assert seen.size == cut.size
        sizes.add(cut.size)
        # Only edges, which are interpolated in the photo, may differ.
        differing = abs(np.array(seen)[..., 0].astype(int) - np.array(cut)) > 110
        assert differing.mean() < 0.02
    assert (40, 40) in sizes
    assert min(min(size) for size in sizes) < 40


def test_views_depend_on_seed_epoch_and_index_alone(tree):
    def view(seed, epoch, index):
        photos = read_masks(tree, 2012, ["train"], ScaledCrop(48, (0.5, 2.0), True), seed)[0]
        return photos[Draw(epoch, index)]["inputs"]

    assert torch.equal(view(0, 1, 3), view(0, 1, 3))
    assert not any(
        first.shape == second.shape and torch.equal(first, second)
        for first, second in [(view(0, 1, 3), view(0, 2, 3)), (view(0, 1, 3), view(1, 1, 3))]
    )


def test_the_same_seed_gives_the_same_weights_and_score_whatever_the_workers(job):
    first, second, third = job(work_dir="a"), job("workers=1", work_dir="b"), job(seed=1, work_dir="c")
    measured = voc_segmentation(first)
    torch.rand(5)
    assert voc_segmentation(second) == measured
    assert_equal(weights(first), weights(second))
    voc_segmentation(third)
    assert any(not torch.equal(weights(first)[name], value) for name, value in weights(third).items())


@pytest.mark.parametrize(
    ("accumulate", "done"),
    # Five steps, of which three were kept, then the rest of the six; with two batches an update, four were.
    [(1, [0, 1, 2, 3, 4, 3, 4, 5]), (2, [0, 1, 2, 3, 4, 4, 5])],
)
def test_an_interrupted_run_goes_on_and_ends_alike(job, monkeypatch, accumulate, done):
    words = ["checkpoint_interval=3", f"accumulate={accumulate}"]
    whole = job(*words, work_dir="whole")
    measured = voc_segmentation(whole)
    steps, step = [], ShowProgress.after_train_iter

    def counting(self, runner, batch_idx, data_batch=None, outputs=None):
        steps.append(batch_idx)
        if len(steps) == 5:
            raise KeyboardInterrupt
        step(self, runner, batch_idx, data_batch, outputs)

    monkeypatch.setattr(ShowProgress, "after_train_iter", counting)
    with pytest.raises(KeyboardInterrupt):
        voc_segmentation(job(*words, work_dir="broken"))
    resumed = job(*words, work_dir="broken")
    assert voc_segmentation(resumed) == measured
    assert_equal(weights(whole), weights(resumed))
    assert steps == done


def test_another_recipe_does_not_go_on_from_a_checkpoint(job, monkeypatch):
    def interrupt(self, runner, batch_idx, data_batch=None, outputs=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(ShowProgress, "after_train_iter", interrupt)
    for override in ("optimizer.lr=0.03", "optimizer.lr=0.01"):
        given = job(override, "steps=1", "epochs=None")
        with pytest.raises(KeyboardInterrupt):
            voc_segmentation(given)
    assert len(list(given.work_dir.iterdir())) == 2


@pytest.mark.parametrize("norm", ["absorb", "frozen"])
def test_a_frozen_backbone_stays_as_it_is(job, norm):
    given = job("train=head", f"batch_norm={norm}")
    before = given.load_backbone("pretrain", "absorb" if norm == "absorb" else "keep").backbone.state_dict()
    measured = voc_segmentation(given)
    assert_equal(before, weights(given))
    assert {entry.setting for entry in measured} == {"frozen"}


def test_only_the_policy_train_changes_batch_norm(job):
    for policy, changes in (("frozen", False), ("train", True)):
        given = job(f"batch_norm={policy}", "steps=2", "epochs=None", work_dir=policy)
        before = given.load_backbone("pretrain", "keep").backbone.state_dict()
        voc_segmentation(given)
        after = weights(given)
        assert torch.equal(before["conv5.norm.running_mean"], after["conv5.norm.running_mean"]) != changes
        assert not torch.equal(before["conv5.conv.weight"], after["conv5.conv.weight"])


class TestHypercolumn:
    def test_it_learns(self, job):
        given = job(*HYPERCOLUMN.split(), "epochs=14", "optimizer.lr=0.003", "scales=(0.8,1.2)")
        by_metric = {entry.metric: entry.value for entry in voc_segmentation(given)}
        # All background is a mean IoU of 24 over three classes.
        assert by_metric["mean_iou"] > 40
        assert by_metric.keys() == {"mean_iou", "pixel_accuracy"}

    def test_a_frozen_backbone_stays_as_it_is(self, job):
        given = job(*HYPERCOLUMN.split(), "train=head")
        before = given.load_backbone("pretrain", "absorb").backbone.state_dict()
        voc_segmentation(given)
        assert_equal(before, weights(given))

    def test_the_loss_is_that_of_points_that_are_not_void(self):
        head = PointsHead(
            in_channels=3,
            channels=3,
            num_classes=3,
            out_channels=3,
            ignore_index=255,
            loss_decode={"type": CrossEntropyLoss, "avg_non_ignore": True},
            init_cfg=None,
        )
        generator = torch.Generator().manual_seed(0)
        masks = torch.randint(0, 3, (2, 1, 8, 9), generator=generator)
        masks[0, 0, :, 4:] = 255
        points = torch.stack([torch.randint(0, side, (2, 20), generator=generator) for side in (8, 9)], dim=2)
        logits = torch.randn(2, 3, 20, generator=generator)
        samples = [SegDataSample(gt_sem_seg=PixelData(data=mask)) for mask in masks]
        found = head.loss((PointLogits(logits, points),), samples, None)["loss_ce"]
        naive = [
            float(torch.logsumexp(logits[n, :, p], 0) - logits[n, label, p])
            for n in range(2)
            for p, (row, column) in enumerate(points[n].tolist())
            if (label := int(masks[n, 0, row, column])) != 255
        ]
        assert 20 < len(naive) < 40
        assert float(found) == pytest.approx(np.mean(naive), rel=1e-5)
        void = [SegDataSample(gt_sem_seg=PixelData(data=torch.full_like(mask, 255))) for mask in masks]
        assert head.loss((PointLogits(logits, points),), void, None)["loss_ce"] == 0


class TestGray:
    def test_photos_keep_their_lightness_alone(self):
        photos = torch.randint(0, 256, (2, 3, 9, 7), dtype=torch.uint8)
        samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.zeros(1, 9, 7))) for _ in photos]
        given = {"inputs": list(photos), "data_samples": samples}
        gray = GrayPhotos(size=(9, 7))(given, training=True)["inputs"]
        assert torch.equal(gray[:, 0], gray[:, 1])
        assert torch.equal(gray[:, 0], gray[:, 2])
        lab = rgb_to_lab(gray / 255)
        torch.testing.assert_close(lab[:, 0], rgb_to_lab(photos)[:, 0], atol=0.01, rtol=0)
        assert lab[:, 1:].abs().max() < 0.02

    def test_what_sees_rgb_sees_gray_photos_where_asked(self, tree, tmp_path, monkeypatch):
        backbone, seen = with_few_channels("rgb"), []
        he_normal_(backbone, 0)
        save_backbone(backbone, tmp_path / "rgb.safetensors", Provenance("supervised"))

        def watch(self, photos, layers, forward=AlexNet.forward):
            seen.append(photos)
            return forward(self, photos, layers)

        monkeypatch.setattr(AlexNet, "forward", watch)
        for gray in (False, True):
            settings = load_stage_config("voc-segmentation", None, [*SMALL, "epochs=1", f"gray={gray}"])
            seen.clear()
            voc_segmentation(
                Job(settings, str(tmp_path / "rgb.safetensors"), tree, 0, tmp_path, torch.device("cpu"))
            )
            assert all(torch.equal(photos[:, 0], photos[:, 2]) for photos in seen) == gray

    def test_lightness_is_all_the_same_to_what_sees_it(self, job):
        color, gray = (voc_segmentation(job(f"gray={gray}", work_dir=str(gray))) for gray in (False, True))
        assert [each.value for each in gray] == pytest.approx([each.value for each in color], abs=1.5)


class TestEarlyStopping:
    @pytest.fixture
    def held_out(self, monkeypatch):
        """Gives what is held out these scores, in turn; says how often it was asked."""
        asked = []

        def make(*values):
            def after(self, runner, metrics=None, write=KeepScores.after_val_epoch):
                asked.append(runner.iter)
                write(self, runner, {"voc/mIoU": values[runner.iter // self.every - 1]})

            monkeypatch.setattr(KeepScores, "after_val_epoch", after)
            return asked

        return make

    def test_it_trains_anew_on_all_photos_up_to_the_best_step(self, job, held_out, capsys):
        asked = held_out(10.0, 40.0, 40.0, 20.0)
        steps = ("epochs=None", "steps=8")
        given = job(STOPPING, *steps, work_dir="stopped")
        measured = voc_segmentation(given)
        assert asked == [2, 4, 6, 8]
        assert {each.metric: each.value for each in measured}["stopped_at"] == 4
        assert "early stopping after step 4 of 8: mean IoU 40.00 on 4 photos" in capsys.readouterr().err
        assert not list(given.work_dir.iterdir())
        # The same steps of the whole schedule, on the same photos.
        ends = []
        monkeypatch = pytest.MonkeyPatch()
        make = WholeCheckpointRunner.__init__
        monkeypatch.setattr(
            WholeCheckpointRunner,
            "__init__",
            lambda self, *args, until=None, **kwargs: (
                ends.append(until) or make(self, *args, until=4, **kwargs)
            ),
        )
        whole = job(*steps, work_dir="whole")
        assert voc_segmentation(whole) == measured[:2]
        monkeypatch.undo()
        assert ends == [8]
        assert_equal(weights(whole), weights(given))

    # While the steps are chosen, and while they are trained.
    @pytest.mark.parametrize(("at", "done"), [(5, 15), (12, 16)])
    def test_an_interrupted_run_goes_on_and_ends_alike(self, job, held_out, monkeypatch, at, done):
        held_out(10.0, 20.0, 40.0, 30.0)
        words = [STOPPING, "epochs=None", "steps=8", "checkpoint_interval=2"]
        whole = job(*words, work_dir="whole")
        measured = voc_segmentation(whole)
        steps, step = [], ShowProgress.after_train_iter

        def counting(self, runner, batch_idx, data_batch=None, outputs=None):
            steps.append(batch_idx)
            if len(steps) == at:
                raise KeyboardInterrupt
            step(self, runner, batch_idx, data_batch, outputs)

        monkeypatch.setattr(ShowProgress, "after_train_iter", counting)
        with pytest.raises(KeyboardInterrupt):
            voc_segmentation(job(*words, work_dir="broken"))
        resumed = job(*words, work_dir="broken")
        assert voc_segmentation(resumed) == measured
        assert_equal(weights(whole), weights(resumed))
        # 8 to choose among, then 6; that which was interrupted is done again.
        assert (measured[-1].value, len(steps)) == (6, done)

    def test_what_was_not_validated_before_an_interruption_is_validated(self, job, held_out, monkeypatch):
        asked, words = (
            held_out(10.0, 20.0, 40.0, 30.0),
            [STOPPING, "epochs=None", "steps=8", "checkpoint_interval=2"],
        )
        run = ValLoop.run

        def interrupted(self):
            if self.runner.iter == 6:
                raise KeyboardInterrupt
            return run(self)

        with monkeypatch.context() as patched:
            patched.setattr(ValLoop, "run", interrupted)
            with pytest.raises(KeyboardInterrupt):
                voc_segmentation(job(*words, work_dir="broken"))
        measured = voc_segmentation(job(*words, work_dir="broken"))
        assert measured[-1].value == 6
        assert asked == [2, 4, 6, 8]


def test_photos_are_parted_at_random_by_the_seed():
    kept, held = parted(20, 0.25, seed=1)
    assert (len(kept), len(held)) == (15, 5)
    assert sorted([*kept, *held]) == list(range(20))
    assert held.tolist() != list(range(5))
    assert not np.array_equal(held, parted(20, 0.25, seed=2)[1])
    assert len(parted(20, 0.001, seed=1)[1]) == 1


def test_of_equal_scores_the_earliest_counts():
    assert best_step({20: 5.0, 10: 5.0, 30: 4.0}) == 10


def damage_list(folder):
    (folder / "ImageSets" / "Segmentation" / "train.txt").unlink()


def damage_mask(folder):
    (folder / "SegmentationClass" / "000001.png").unlink()


def damage_photo(folder):
    (folder / "JPEGImages" / "000001.jpg").write_bytes(b"no photo")


def damage_class(folder):
    Image.fromarray(np.full((56, 72), 7, dtype=np.uint8)).save(folder / "SegmentationClass" / "000001.png")


def damage_mode(folder):
    Image.new("RGB", (72, 56)).save(folder / "SegmentationClass" / "000001.png")


def damage_size(folder):
    Image.new("L", (70, 56)).save(folder / "SegmentationClass" / "000001.png")


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (damage_list, ["train"]),
        (damage_mask, ["SegmentationClass", "000001"]),
        (damage_photo, ["000001.jpg"]),
        (damage_class, ["000001.png", 7, "background, stripes, plain", 255]),
        (damage_mode, ["000001.png", "RGB"]),
        (damage_size, ["000001.png", "70 x 56", "72 x 56"]),
    ],
)
def test_a_damaged_tree_is_told_before_training(job, tmp_path, damage, named):
    folder = write_tree(tmp_path / "data", train=4, val=2)
    damage(folder)
    with refused() as info:
        voc_segmentation(job(data=tmp_path / "data"))
    assert all(str(name) in str(info.value) for name in named)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "names", "fields"),
    [
        ("train=conv5", ["train"], {"received": "conv5", "allowed": ("all", "head")}),
        (
            "batch_norm=none",
            ["batch_norm"],
            {"received": "none", "allowed": ("absorb", "frozen", "train")},
        ),
        (
            "network=unet",
            ["network"],
            {"received": "unet", "allowed": ("head", "fcn32s", "hypercolumn")},
        ),
        ("gray=True color=True", ["gray", "color"], {"received": "gray=True and color=True"}),
        ("early_stopping.share=1.0", ["early_stopping.share"], {"received": 1.0}),
        ("early_stopping.evaluations=0", ["early_stopping.evaluations"], {"received": 0}),
        ("early_stopping={'share':0.5}", ["early_stopping"], {"received": "share"}),
        ("early_stopping.share=0.8", [4, 2], {}),
        (f"{HYPERCOLUMN} head.points=0", ["head.points"], {"received": 0}),
        (f"{HYPERCOLUMN} head.dropout=1.0", ["head.dropout"], {"received": 1.0}),
        (f"{HYPERCOLUMN} head.edge=16", ["hypercolumn"], {"received": "crop=32, head.edge=16"}),
        ("network=hypercolumn head.points=4 head.edge=2 head.stride=4", ["head.points"], {}),
        ("steps=3", ["steps", "epochs", 3, 2], {}),
        ("schedule.power=-1.0", ["schedule.power"], {"received": -1.0}),
        ("head.channels=0", ["head.channels"], {"received": 0}),
        ("checkpoint_interval=0", ["checkpoint_interval"], {"received": 0}),
        ("schedule.warmup=1.0", ["warmup", 1.0], {}),
        ("scales=(2.0,1.0)", ["crop", "scales", "(2.0, 1.0)"], {}),
        ("batch_size=64", [64], {}),
    ],
)
def test_a_bad_config_is_told(job, override, names, fields):
    stopping = ["early_stopping={'share':0.3,'evaluations':2}"] if "early_stopping." in override else []
    with refused(*names, **fields):
        voc_segmentation(job(*stopping, *override.split()))


@pytest.mark.parametrize(
    ("words", "layer"),
    [([], "decode_head.conv_seg"), (["network=fcn32s", "geometry=evaluation"], "backbone.score")],
)
def test_scores_that_are_not_numbers_stop_the_run(job, monkeypatch, words, layer):
    """The highest of logits that are NaN would be the background."""

    def break_weights(runner):
        runner.model.get_submodule(layer).bias.data[0] = float("nan")

    monkeypatch.setattr(WholeCheckpointRunner, "train", break_weights)
    with pytest.raises(TrainingDivergedError, match="VOC segmentation"):
        voc_segmentation(job(*words))


def test_masks_keep_their_values_at_test_time(tree):
    photos = read_masks(tree, 2012, ["val"], ScaledCrop(48, (1.0, 1.0), False), 0)[0]
    assert isinstance(photos, MaskedPhotos)
    sample = photos[0]
    assert sample["inputs"].shape == (3, 56, 72)
    assert set(sample["data_samples"].gt_sem_seg.data.unique().tolist()) == {0, 1, 255}


def score_share(rank, jobs, folder):
    """One of two processes; the first writes the scores and the pixels of each photo."""
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    for name, job in jobs.items():
        iou, accuracy, *_ = voc_segmentation(job)
        if rank == 0:
            torch.save([iou.value, accuracy.value, torch.from_numpy(iou.outcomes.union)], folder / name)
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_compute_what_one_does(job, tmp_path):
    # Batch norm absorbed, and trained over both processes.
    def jobs(batch_size):
        words = [f"batch_size={batch_size}", "head.dropout_ratio=0.0"]
        given = {name: job(*words, f"batch_norm={name}", work_dir="run") for name in ("absorb", "train")}
        return given | {"stopped": job(*words, STOPPING, work_dir="run")}

    torch.multiprocessing.spawn(score_share, (jobs(2), tmp_path), nprocs=2)
    for name, given in jobs(4).items():
        iou, accuracy, *_ = voc_segmentation(given)
        *two, union = torch.load(tmp_path / name)
        assert two == pytest.approx([iou.value, accuracy.value], abs=0.05)
        # Seven photos are scored: with two processes one of them is scored twice, and must count once.
        assert len(iou.outcomes) == len(union) == 7
        np.testing.assert_allclose(iou.outcomes.union, union, atol=20)


@pytest.mark.slow
def test_it_trains_on_real_photos(tmp_path):
    root = Path(os.environ.get("PRETEXT_DATA", ""), "voc256")
    if not os.environ.get("PRETEXT_DATA") or not root.is_dir():
        pytest.skip("PRETEXT_DATA does not hold voc256")
    settings = load_stage_config("voc-segmentation", overrides=["epochs=None", "steps=80"])
    measured = voc_segmentation(Job(settings, "random:alexnet", root, 0, tmp_path, torch.device("cpu")))
    by_metric = {entry.metric: entry.value for entry in measured}
    # All background is 72.5 % of the pixels.
    assert 0 < by_metric["mean_iou"] < 100
    assert by_metric["pixel_accuracy"] > 60
