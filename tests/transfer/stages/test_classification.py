import numpy as np
import pytest
import torch
from refusals import refused
from torch import nn
from torch.nn import functional as F

from pretext.backbones.base import ConvBlock, Layer
from pretext.backbones.checkpoint import LoadedBackbone, Provenance, load_backbone
from pretext.backbones.checkpoint import build as build_backbone
from pretext.backbones.initializers import he_normal_
from pretext.config import build
from pretext.data.crops import VIEWS
from pretext.data.sampling import Draw
from pretext.errors import TrainingDivergedError
from transfer.data.voc import classification_labels, open_voc, read_image
from transfer.job import Job
from transfer.networks.preparation import prepare_backbone
from transfer.protocols.table import PROTOCOLS, load_stage_config
from transfer.stages.classification import (
    ClassificationViews,
    Classifier,
    multi_label_loss,
    predict,
    voc_classification,
)

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = ["view.size=64", "view.resize=64", "fc6_size=3", "fc_channels=64", "batch_size=8", "workers=0"]


@pytest.fixture
def job(voc_tree, tmp_path, small_alexnet):
    def make(*overrides, on=None, seed=0):
        settings = load_stage_config("voc-classification", on, [*SMALL, *overrides])
        return Job(settings, small_alexnet, voc_tree, seed, tmp_path, torch.device("cpu"))

    return make


@pytest.fixture
def views(voc_tree):
    photos = open_voc(voc_tree, 2007).photos("val")
    view = build(load_stage_config("voc-classification", overrides=SMALL).view, VIEWS)
    return lambda crops=1, seed=0: ClassificationViews(
        photos, classification_labels(photos, 2), view, crops, seed
    )


def with_small_fc():
    """An AlexNet with an fc6 and an fc7 of 64 channels."""
    backbone = build_backbone("alexnet", {"norm": "none"})
    backbone.fc6 = ConvBlock(nn.Conv2d, 256, 64, "none", kernel_size=3)
    backbone.fc7 = ConvBlock(nn.Conv2d, 64, 64, "none", kernel_size=1)
    backbone.layers += (Layer("fc6", 64, 16), Layer("fc7", 64, 16))
    he_normal_(backbone, seed=5)
    return backbone.eval()


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_the_config_for_real_photos_runs(job):
    assert len(voc_classification(job("epochs=1", on="voc256"))) > 0


def test_it_learns_to_tell_classes_apart(job):
    measured = voc_classification(job("epochs=8"))
    by_metric = {entry.metric: entry.value for entry in measured}
    assert set(by_metric) == {"mean_ap_sklearn", "mean_ap_voc07", "mean_ap_voc10"}
    # Each class is on half of the photos: chance is 50.
    assert min(by_metric.values()) > 80
    assert {(entry.setting, entry.split) for entry in measured} == {("all", "train->val")}
    assert len({entry.split_fingerprint for entry in measured}) == 1


def test_the_same_seed_gives_the_same_number(job):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = voc_classification(job("epochs=1", "crops=2"))
        torch.manual_seed(2)
        torch.rand(5)
        assert voc_classification(job("epochs=1", "crops=2", "workers=1")) == first
    assert voc_classification(job("epochs=1", "crops=2", seed=1)) != first


@pytest.mark.parametrize(
    ("train", "moving"),
    [("fc8", {"fc8"}), ("fc6-8", {"fully_connected", "fc8"}), ("all", {"conv5", "fully_connected", "fc8"})],
)
def test_a_setting_trains_its_parts_and_no_other(job, monkeypatch, train, moving):
    models = []

    def keep(*args):
        model = Classifier(*args)
        models.append((model, weights(model)))
        return model

    monkeypatch.setattr("transfer.stages.classification.Classifier", keep)
    words = ["epochs=1", f"train={train}", "batch_norm=train"]
    if train == "fc8":
        loaded = LoadedBackbone(with_small_fc(), Provenance("random"), "a" * 64)
        monkeypatch.setattr(Job, "load_backbone", lambda self, geometry, norm: loaded)
    voc_classification(job(*words))
    ((model, before),) = models
    changed = {name for name, value in weights(model).items() if not torch.equal(value, before[name])}
    assert {name.split(".")[0] for name in changed} == moving
    if "conv5" in moving:
        # All of conv1..conv5, their batch norms' statistics among them.
        assert changed >= {name for name in before if name.startswith("conv5")}


def test_a_backbones_own_fc6_and_fc7_are_used(job):
    settings = job("fc6_size=3", "fc_channels=64").settings
    own = with_small_fc()
    weight = own.fc6.conv.weight.clone()
    model = Classifier(own, 2, settings, 0)
    assert torch.equal(model.fully_connected.fc6.conv.weight, weight)
    assert not hasattr(model.conv5.backbone, "fc6")


def test_they_are_new_where_the_config_says_so(job, monkeypatch):
    loaded = LoadedBackbone(with_small_fc(), Provenance("random"), "a" * 64)
    monkeypatch.setattr(Job, "load_backbone", lambda self, geometry, norm: loaded)
    settings = job("fc6_size=3", "fc_channels=64", "reinit_from=fc6").settings
    weight = loaded.backbone.fc6.conv.weight.clone()
    backbone = prepare_backbone(job("reinit_from=fc6"), []).backbone
    model = Classifier(backbone, 2, settings, 0)
    assert not torch.equal(model.fully_connected.fc6.conv.weight, weight)


def test_fc8_alone_needs_a_backbone_with_fc6_and_fc7(job):
    with refused("train=fc8", "fc6", "fc7", "alexnet"):
        voc_classification(job("train=fc8"))


def test_new_layers_are_drawn_as_the_config_says(job):
    settings = job("new_std=0.01", "new_bias=0.1", "fc6_size=6").settings
    model = Classifier(load_backbone("random:alexnet").backbone, 2, settings, 0)
    assert model.fully_connected.fc6.conv.weight.std().item() == pytest.approx(0.01, rel=0.02)
    for bias in (model.fully_connected.fc7.conv.bias, model.fc8.bias):
        torch.testing.assert_close(bias.detach(), torch.full_like(bias, 0.1))


PUBLISHED = [id for id, protocol in PROTOCOLS.items() if protocol.stage == "voc-classification"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_protocol_runs_shortened(voc_tree, tmp_path, small_alexnet, name):
    words = ["scale=1e-5", "train_split=train", "test_split=val", "workers=0", "crops=2", "fc_channels=64"]
    settings = load_stage_config("voc-classification", overrides=words, protocol=name)
    measured = voc_classification(Job(settings, small_alexnet, voc_tree, 0, tmp_path, torch.device("cpu")))
    assert {m.metric for m in measured} == {"mean_ap_sklearn", "mean_ap_voc07", "mean_ap_voc10"}


def test_difficult_objects_give_no_loss_and_no_gradient():
    logits = torch.randn(3, 2, requires_grad=True)
    labels = torch.tensor([[1, 255], [0, 1], [255, 255]], dtype=torch.uint8)
    loss = multi_label_loss(logits, labels)
    judged = torch.stack([logits[0, 0], -logits[1, 0], logits[1, 1]])
    torch.testing.assert_close(loss, -F.logsigmoid(judged).sum() / 3)
    loss.backward()
    assert (logits.grad != 0).tolist() == [[True, False], [True, True], [False, False]]


def test_training_views_depend_on_seed_epoch_and_index_alone(views):
    image, labels = views()[Draw(0, 1)]
    assert image.shape == (3, 64, 64)
    assert labels.tolist() == [0, 1]
    assert torch.equal(image, views()[Draw(0, 1)][0])
    others = [views()[Draw(1, 1)], views()[Draw(0, 2)], views(seed=1)[Draw(0, 1)]]
    assert not any(torch.equal(image, other) for other, _ in others)


def test_test_crops_are_central_or_random(views):
    (center,), _ = views()[0]
    crops, _ = views(crops=3)[0]
    assert crops.shape == (3, 3, 64, 64)
    assert torch.equal(crops, views(crops=3)[0][0])
    assert not torch.equal(crops[0], crops[1])
    assert not torch.equal(crops[0], views()[Draw(0, 0)][0])
    # 80 x 64 pixels: the middle 64 columns.
    assert torch.equal(center, views(seed=5)[0][0][0])


def test_the_papers_test_crops_are_ten_windows(voc_tree):
    """Each drawn as one for training, with a side and a place of its own."""
    photos = open_voc(voc_tree, 2007).photos("val")
    settings = load_stage_config("voc-classification", protocol="krahenbuhl2016")
    view = build(settings.view, VIEWS)
    samples = ClassificationViews(photos, classification_labels(photos, 2), view, settings.crops, seed=3)
    crops, _ = samples[1]
    image, rng = read_image(photos[1].path), np.random.default_rng((3, 0, 1, 1))
    assert crops.shape == (10, 3, 227, 227)
    assert torch.equal(crops, torch.stack([view(image, rng) for _ in range(10)]))
    assert len({crop.sum().item() for crop in crops}) == 10


def test_the_logits_of_all_crops_are_added_up(job, views):
    class Mean(torch.nn.Module):
        def forward(self, photos):
            return photos.float().mean((2, 3))[:, :2]

    samples = views(crops=3)
    expected = [samples[i][0].double().mean((2, 3)).sum(0)[:2].numpy() for i in range(len(samples))]
    logits = predict(Mean(), samples, job("batch_size=5"))
    np.testing.assert_allclose(logits, np.stack(expected), rtol=1e-5)


@pytest.mark.parametrize(
    ("overrides", "names", "fields"),
    [
        (["train=conv5"], ["train"], {"received": "conv5", "allowed": ("fc8", "fc6-8", "all")}),
        (["reinit_from=fc5"], ["reinit_from"], {"received": "fc5", "allowed": ("fc6", "fc8")}),
        (
            ["rescale=True", "batch_norm=train"],
            ["rescale=True"],
            {"received": "batch_norm=train", "allowed": ("batch_norm=absorb",)},
        ),
        (["scale=1.5"], ["scale", 1.5], {}),
        (
            ["batch_norm=keep"],
            ["batch_norm"],
            {"received": "keep", "allowed": ("absorb", "frozen", "train")},
        ),
        (["schedule.type=Linear"], ["schedule"], {"received": "Linear", "allowed": "Cosine"}),
        (["schedule.warmup=1.0"], ["schedule.warmup"], {}),
        (["epochs=0"], ["epochs"], {"received": 0}),
        (["new_std=-1.0"], ["new_std"], {"received": -1.0}),
        *(
            ([f"dropout={n}"], ["dropout"], {"received": n, "allowed": "from 0 to below 1"})
            for n in (1.0, -0.1, 2.0)
        ),
        (["geometry=evaluation", "view.size=20", "view.resize=20"], ["view.size=20"], {}),
        (["max_grad_norm=-1.0"], ["max_grad_norm"], {"received": -1.0}),
        (["checkpoint_interval=0"], ["checkpoint_interval"], {"received": 0}),
        (["crops=0"], ["crops"], {"received": 0}),
        (["batch_size=40"], [40], {}),
        (["year=2012"], [2012], {}),
        (["train_split=test"], ["test"], {}),
    ],
)
def test_bad_input_is_an_error_before_training(job, overrides, names, fields):
    with refused(*names, **fields):
        voc_classification(job(*overrides))


def test_a_diverging_loss_stops_the_run(job):
    with pytest.raises(TrainingDivergedError, match=r"classification.*step \d+; no score is written. Lower"):
        voc_classification(job("optimizer.lr=1e30", "max_grad_norm=1e30", "epochs=2"))


def test_scores_that_are_not_numbers_stop_the_run(job, monkeypatch):
    def break_weights(model, *words, **options):
        model.fc8.bias.data[0] = float("nan")

    monkeypatch.setattr("transfer.stages.classification.fine_tune", break_weights)
    with pytest.raises(TrainingDivergedError, match="VOC classification"):
        voc_classification(job())
