import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mmseg.evaluation import IoUMetric
from PIL import Image
from refusals import refused

from pretext.data.sampling import Draw
from pretext.errors import TrainingDivergedError
from pretext.training.hooks import ShowProgress
from pretext.training.runner import WholeCheckpointRunner
from transfer.data.masks import MaskedPhotos, ScaledCrop, read_masks
from transfer.job import Job
from transfer.protocols.table import load_stage_config
from transfer.run import recorded
from transfer.stages.segmentation import voc_segmentation

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
        ("network=unet", ["network"], {"received": "unet", "allowed": ("head", "fcn32s")}),
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
    with refused(*names, **fields):
        voc_segmentation(job(override))


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
        iou, accuracy = voc_segmentation(job)
        if rank == 0:
            torch.save([iou.value, accuracy.value, torch.from_numpy(iou.outcomes.union)], folder / name)
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_compute_what_one_does(job, tmp_path):
    # Batch norm absorbed, and trained over both processes.
    def jobs(batch_size):
        words = [f"batch_size={batch_size}", "head.dropout_ratio=0.0"]
        return {name: job(*words, f"batch_norm={name}", work_dir="run") for name in ("absorb", "train")}

    torch.multiprocessing.spawn(score_share, (jobs(2), tmp_path), nprocs=2)
    for name, given in jobs(4).items():
        iou, accuracy = voc_segmentation(given)
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
