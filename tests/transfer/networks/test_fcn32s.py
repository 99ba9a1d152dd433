import numpy as np
import pytest
import torch
from PIL import Image
from refusals import refused
from scipy.io import savemat
from torch import nn
from torch.nn import functional as F

from pretext.backbones import vgg
from pretext.backbones.checkpoint import build, load_backbone
from pretext.backbones.surgery import absorb_batch_norm
from transfer.data.masks import read_masks
from transfer.data.sbd import sbd_split
from transfer.job import Job
from transfer.networks.fcn32s import FCN32s
from transfer.protocols.table import load_stage_config
from transfer.stages.segmentation import voc_segmentation

pytestmark = pytest.mark.usefixtures("one_thread")


def fcn32s_config(*words):
    return load_stage_config("voc-segmentation", overrides=words, protocol="fcn32s_zhang2016")


@pytest.fixture
def config():
    return fcn32s_config("fc_channels=16", "dropout=0.0")


@pytest.fixture
def backbone(small_alexnet):
    return absorb_batch_norm(load_backbone(small_alexnet, geometry="evaluation").backbone).eval()


@pytest.fixture
def thin_vgg16(monkeypatch):
    """The spec of a VGG-16 with few channels: where its layers look is what counts here."""
    monkeypatch.setattr(vgg, "BLOCKS", tuple((depth, 4) for depth, _ in vgg.BLOCKS))
    return "random:vgg16"


@pytest.fixture
def network(backbone, config):
    return FCN32s(backbone, 3, config, seed=0).eval()


def test_the_crop_is_that_of_the_published_network(network, thin_vgg16):
    # voc-fcn-alexnet has crop_param { offset: 18 }, voc-fcn32s (of VGG-16) 19.
    assert network.start == 18
    backbone = load_backbone(thin_vgg16, geometry="evaluation").backbone
    assert FCN32s(backbone, 3, fcn32s_config("fc_channels=16", "fc6_size=7"), seed=0).start == 19


def test_the_backbone_it_is_given_stays_as_it_is(backbone, network):
    assert backbone.conv1.conv.padding == (0, 0)
    assert network.conv5.backbone.conv1.conv.padding == (100, 100)


@pytest.mark.parametrize("name", ["alexnet", "vgg16"])
def test_every_pixel_gets_logits_whatever_the_size(name, small_alexnet, thin_vgg16):
    spec = thin_vgg16 if name == "vgg16" else small_alexnet
    backbone = load_backbone(spec, geometry="evaluation").backbone
    words = ["fc_channels=16", "fc6_size=7"] if name == "vgg16" else ["fc_channels=16"]
    network = FCN32s(backbone, 3, fcn32s_config(*words), seed=0).eval()
    with torch.no_grad():
        for height, width in ((1, 1), (64, 80), (97, 33), (55, 45)):
            (logits,) = network(torch.zeros(1, 3, height, width, dtype=torch.uint8))
            assert logits.shape == (1, 3, height, width)


def test_the_crop_follows_the_size_of_the_backbones_own_fc6(thin_vgg16):
    backbone = build("vgg16", {"fully_connected": True, "geometry": "evaluation"})
    # The config's size of new layers is AlexNet's.
    network = FCN32s(backbone, 3, fcn32s_config(), seed=0)
    assert network.start == 19
    assert not any("fc" in name for name, _ in network.conv5.named_parameters())


def test_upsampling_is_bilinear_between_the_centres_of_the_windows(network):
    scores = torch.randn(1, 3, 5, 6)
    network.score = nn.Identity()
    network.fully_connected.slide = lambda maps: scores
    (logits,) = network(torch.zeros(1, 3, 96, 128, dtype=torch.uint8))
    # Position j of the scores looks at pixel 32 j + 13.
    for row, column in ((13, 13), (45, 77), (77, 109)):
        torch.testing.assert_close(
            logits[0, :, row, column], scores[0, :, (row - 13) // 32, (column - 13) // 32]
        )
    halfway = (scores[0, :, 1, 1] + scores[0, :, 1, 2]) / 2
    torch.testing.assert_close(logits[0, :, 45, 61], halfway)


def test_scores_look_where_the_crop_puts_them(network):
    """The gradient of the score at position (6, 6) is centred on pixel 6 * 32 + 13."""
    network.score.weight.data.normal_(0, 1, generator=torch.Generator().manual_seed(0))
    photos = torch.rand(1, 3, 416, 416, generator=torch.Generator().manual_seed(0)) * 255
    photos.requires_grad_()
    scores = network.score(network.fully_connected.slide(network.conv5(photos)))
    (gradient,) = torch.autograd.grad(scores[0, :, 6, 6].square().sum(), photos)
    seen = gradient.abs().sum((0, 1))
    centre = [float((seen.sum(axis) * torch.arange(416)).sum() / seen.sum()) for axis in (0, 1)]
    assert centre == pytest.approx([205, 205], abs=8)


def test_the_scores_begin_at_zero_and_learn(network):
    photos = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    (logits,) = network(photos)
    assert logits.abs().max() == 0
    F.cross_entropy(logits, torch.ones(1, 64, 64, dtype=torch.int64)).backward()
    assert network.score.weight.grad.abs().max() > 0
    assert "kernel" not in network.state_dict()


def test_the_padded_geometry_is_refused(config):
    backbone = build("alexnet", {"geometry": "pretrain"})
    with refused("fcn32s", received="geometry=pretrain", allowed="geometry=evaluation"):
        FCN32s(backbone, 3, config, seed=0)


@pytest.fixture
def trees(tmp_path):
    """VOC2011 and VOC2012 with four photos in val each, one of which SBD trains on; SBD with three and two."""
    rng = np.random.default_rng(0)

    def write(photos, masks, name, as_mat):
        mask = np.zeros((48, 64), dtype=np.uint8)
        mask[8:40, 16:48] = 1 + int(name[-1]) % 2
        pixels = (
            np.array([[60, 60, 60], [220, 40, 40], [40, 40, 220]])[mask] + rng.normal(0, 4, (48, 64, 3))
        ).clip(0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(photos / f"{name}.jpg", quality=95)
        if as_mat:
            truth = np.zeros((1, 1), dtype=[("Segmentation", object)])
            truth["Segmentation"][0, 0] = mask
            savemat(masks / f"{name}.mat", {"GTcls": truth})
        else:
            Image.fromarray(mask).save(masks / f"{name}.png")

    for year in (2011, 2012):
        folder = tmp_path / "VOCdevkit" / f"VOC{year}"
        for part in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
            (folder / part).mkdir(parents=True)
        (folder / "labels.txt").write_text("red\nblue\n")
        lists = {"train": ["a1", "a2"], "val": ["b1", "b2", "b3", "s1"]}
        for split, names in lists.items():
            (folder / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(names))
            for name in names:
                write(folder / "JPEGImages", folder / "SegmentationClass", name, as_mat=False)
    folder = tmp_path / "benchmark_RELEASE" / "dataset"
    for part in ("img", "cls"):
        (folder / part).mkdir(parents=True)
    for split, names in {"train": ["s1", "s2", "s3"], "val": ["a1", "s4"]}.items():
        (folder / f"{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            write(folder / "img", folder / "cls", name, as_mat=True)
    return tmp_path


def names(photos):
    return [entry.name for entry in photos]


class TestLists:
    def test_they_are_computed_from_both_trees(self, trees):
        assert names(sbd_split(trees, "sbd_train", check_counts=False)) == ["s1", "s2", "s3"]
        assert names(sbd_split(trees, "seg11valid", check_counts=False)) == ["b1", "b2", "b3"]
        # s1 is in VOC2012's val, a1 has a finer mask in VOC.
        added = sbd_split(trees, "train_aug", check_counts=False)
        assert names(added) == ["a1", "a2", "s2", "s3", "s4"]
        assert [entry.mask.suffix for entry in added] == [".png", ".png", ".mat", ".mat", ".mat"]

    @pytest.mark.parametrize(
        ("split", "count"), [("sbd_train", 8498), ("seg11valid", 736), ("train_aug", 10582)]
    )
    def test_their_lengths_are_those_of_the_papers(self, trees, split, count):
        with refused(split) as info:
            sbd_split(trees, split)
        assert str(count) in str(info.value)

    def test_a_missing_file_is_named(self, trees):
        (trees / "benchmark_RELEASE" / "dataset" / "cls" / "s2.mat").unlink()
        with refused("s2.mat"):
            sbd_split(trees, "sbd_train", check_counts=False)

    def test_a_missing_tree_is_named(self, tmp_path):
        with refused(tmp_path) as info:
            sbd_split(tmp_path, "sbd_train")
        assert all(name in str(info.value) for name in ("train.txt", "img", "cls"))

    @pytest.mark.parametrize("content", [{}, {"GTcls": np.zeros(3)}])
    def test_another_mat_is_refused(self, trees, content):
        path = trees / "benchmark_RELEASE" / "dataset" / "cls" / "s2.mat"
        savemat(path, content)
        with refused("s2.mat"):
            read_masks(trees, 2012, ["sbd_train"], None, 0, check_counts=False)


@pytest.fixture
def job(trees, tmp_path, small_alexnet):
    def make(name, *words):
        small = ["check_counts=False", "workers=0", *words]
        settings = load_stage_config("voc-segmentation", overrides=small, protocol=name)
        return Job(settings, small_alexnet, trees, 0, tmp_path / "run", torch.device("cpu"))

    return make


def test_fcn32s_learns(job):
    words = [
        "scale=3e-5",
        "accumulate=1",
        "schedule={'type': 'Constant'}",
        "optimizer={'type': 'Adam', 'lr': 0.001, 'weight_decay': 5e-4}",
        "fc_channels=64",
        "dropout=0.0",
        "new_std=None",
    ]
    words += ["new_bias=0.0", "bias_lr_factor=1.0"]
    scores = {m.metric: m.value for m in voc_segmentation(job("fcn32s_zhang2016", *words))}
    # All background has its own two thirds of the pixels right, of three classes: 22. Small photos hold few of the 32
    # pixels between two scores.
    assert scores["mean_iou"] > 35


@pytest.mark.parametrize("name", ["fcn32s_zhang2016", "voc12_modern"])
def test_a_published_protocol_runs_shortened(job, name):
    words = {
        "fcn32s_zhang2016": ["fc_channels=64"],
        "voc12_modern": ["batch_size=2", "crop=64", "head.channels=16"],
    }
    measured = voc_segmentation(job(name, "scale=1e-6", *words[name]))
    assert {m.metric for m in measured} == {"mean_iou", "pixel_accuracy"}
