import shutil

import pytest
import torch
from made_photos import gray_folder, smooth_photos
from mmengine.runner import checkpoint
from refusals import refused
from small_alexnet import CHANNELS, small_alexnet
from torch.nn import functional as F

from pretext.backbones import VGG16, ColorNet
from pretext.backbones.initializers import he_normal_
from pretext.color.bins import ab_bins
from pretext.color.lab import rgb_to_lab
from pretext.color.prior import imagenet_prior
from pretext.color.rebalance import rebalance_weights
from pretext.color.spaces import AbBins, RebalancedAbBins
from pretext.colorize.heads import grid_over
from pretext.config import load_config
from pretext.data.sources import open_photos
from pretext.methods import Colorization
from pretext.methods.parts.photo_prior import prior_of_photos
from pretext.methods.parts.targets import at_targets
from pretext.training.engine import build_method, pretrain
from pretext.training.settings import PretrainingSettings


@pytest.fixture
def photos(photo_folder):
    return open_photos(photo_folder)


@pytest.fixture
def method(photos, tmp_path):
    def make(backbone=None, **arguments):
        built = Colorization(backbone or small_alexnet("lightness"), **({"prior": "imagenet"} | arguments))
        he_normal_(built, 0)
        built.setup(photos, tmp_path)
        return built.eval()

    return make


@pytest.fixture(scope="module")
def image():
    return smooth_photos(3)


INDEX = torch.arange(3)


def test_the_rebalanced_loss_is_that_of_the_equations(method, image):
    colorization = method(neighbors=5)
    loss = colorization(image, INDEX).losses["loss_color"]
    # Equations 2 to 4, pixel by pixel and bin by bin.
    ab = rgb_to_lab(image)[:, 1:, ::8, ::8]
    lightness = rgb_to_lab(image)[:, :1]
    logits = at_targets(colorization.predict(lightness), ab.shape[-2:], grid_over(colorization.layer), 8)
    log_p = F.log_softmax(logits.double(), 1)
    bins, weights = ab_bins(), rebalance_weights(imagenet_prior().probabilities)
    total = 0.0
    for n in range(3):
        colorful = bool((ab[n].abs() > 5).any())
        for i in range(8):
            for j in range(8):
                distance = (bins - ab[n, :, i, j]).square().sum(1)
                nearest = distance.argsort()[:5]
                target = torch.exp(-distance[nearest].double() / 50)
                target /= target.sum()
                entropy = -(target * log_p[n, nearest, i, j]).sum()
                total += colorful * weights[nearest[0]].item() * entropy.item()
    assert loss.item() == pytest.approx(total / (3 * 64), rel=1e-4)


def test_without_weights_rare_colours_count_as_others(method, image):
    plain = method(loss="classification")
    assert isinstance(plain.space, AbBins)
    assert not isinstance(plain.space, RebalancedAbBins)
    assert plain(image, INDEX).losses["loss_color"].item() == pytest.approx(5.75, abs=2.5)


@pytest.mark.parametrize("data", ["imagenette128", "toyworld"])
def test_l_to_ab_is_plain_cross_entropy_with_the_nearest_bin(data, image, photos, tmp_path):
    # "Split-Brain Autoencoders" (Zhang et al., CVPR 2017), L -> ab(cl): one-hot, not rebalanced.
    settings = PretrainingSettings.from_config(load_config("pretext", "l_to_ab", data))
    colorization = build_method(settings, 0).eval()
    colorization.setup(photos, tmp_path)
    lab = rgb_to_lab(image)
    prediction = colorization.predict(lab[:, :1])
    logits = at_targets(prediction, torch.Size([8, 8]), grid_over(colorization.layer), 8)
    ab = lab[:, 1:, ::8, ::8].permute(0, 2, 3, 1)
    labels = torch.cdist(ab.flatten(0, 2), ab_bins()).argmin(1).view(3, 8, 8)
    loss = colorization(image, INDEX).losses["loss_color"]
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels))


def test_l2_regresses_colours_over_20(method, image):
    colorization = method(loss="l2")
    for parameter in colorization.head.parameters():
        torch.nn.init.zeros_(parameter)
    ab = rgb_to_lab(image)[:, 1:, ::8, ::8] / 20
    expected = 0.5 * ab.square().sum(1).mean()
    assert colorization(image, INDEX).losses["loss_l2"].item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("loss", ["lab_marginals", "lab_joint", "hue_chroma"])
def test_histograms_of_larsson_are_losses_too(loss, method, image):
    colorization = method(loss=loss)
    assert colorization.space.name == loss
    target = rgb_to_lab(image[:, :, ::8, ::8].contiguous())
    prediction = colorization.predict(rgb_to_lab(image)[:, :1])
    prediction = at_targets(prediction, target.shape[-2:], grid_over(colorization.layer), 8)
    expected = colorization.space.loss(prediction, target)
    assert colorization(image, INDEX).losses["loss_color"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert colorization.preview(image).shape == (3, 3, 64, 192)


def test_gray_photos_have_no_gradient_and_do_not_change_the_others(method, image):
    colorization = method()
    mixed = image.clone()
    mixed[0] = mixed[0, :1]
    loss = colorization(mixed, INDEX).losses["loss_color"]
    alone = colorization(mixed[1:], INDEX[1:]).losses["loss_color"]
    assert loss.item() == pytest.approx(alone.item() * 2 / 3, rel=1e-5)


@pytest.mark.parametrize(("backbone", "layer", "stride"), [(VGG16, "conv5_3", 8), (ColorNet, "conv8", 4)])
def test_other_backbones_colorize(backbone, layer, stride, method, image):
    colorization = method(backbone(), layer=layer, target_stride=stride)
    loss = colorization.train()(image, INDEX).losses["loss_color"]
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None for p in colorization.head.parameters())


def test_previews_show_lightness_truth_and_prediction(method, image):
    pictures = method().preview(image)
    assert pictures.shape == (3, 3, 64, 192)
    gray, truth = pictures[..., :64], pictures[..., 64:128]
    assert torch.equal(truth, image)
    assert (gray.amax(1).int() - gray.amin(1).int()).max() <= 1


def not_estimated(*arguments, **options):
    pytest.fail("a prior was estimated")


def test_the_prior_of_the_photos_is_kept(photos, tmp_path, monkeypatch):
    backbone = small_alexnet("lightness")
    colorization = Colorization(backbone)
    colorization.setup(photos, tmp_path)
    assert not torch.equal(colorization.space.bin_weights, torch.ones(313))
    monkeypatch.setattr("pretext.methods.parts.color_losses.prior_of_photos", not_estimated)
    again = Colorization(backbone)
    again.setup(photos, tmp_path)
    assert torch.equal(colorization.space.bin_weights, again.space.bin_weights)
    with refused("bins=full529", received="official313 with 313 bins", allowed="--bins full529"):
        Colorization(backbone, bins="full529").setup(photos, tmp_path)


@pytest.mark.parametrize("arguments", [{"prior": "imagenet"}, {"loss": "classification"}, {"loss": "l2"}])
def test_a_prior_is_estimated_only_if_it_is_needed(arguments, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("pretext.methods.parts.color_losses.prior_of_photos", not_estimated)
    Colorization(small_alexnet("lightness"), **arguments).setup(photos, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments", [{}, {"prior": "imagenet"}, {"loss": "classification"}, {"loss": "l2"}], ids=str
)
def test_photos_without_colour_are_refused(arguments, photo_folder, tmp_path):
    gray = open_photos(gray_folder(tmp_path / "gray", 3))
    colorization = Colorization(small_alexnet("lightness"), **arguments)
    with refused("colorization", received="3 gray photos of 3"):
        colorization.setup(gray, tmp_path)
    # One in colour is enough.
    shutil.copy(photo_folder / "00.jpg", tmp_path / "gray")
    colorization.setup(open_photos(tmp_path / "gray"), tmp_path)


@pytest.mark.parametrize(
    ("name", "refusing"),
    [("colorization", "colorization"), ("l_to_ab", "colorization"), ("split_brain", "split_brain")],
)
def test_a_run_on_photos_without_colour_ends_before_it_trains(name, refusing, small_config, tmp_path):
    folder = gray_folder(tmp_path / "gray", 12)
    config = small_config(name)
    config["backbone"]["channels"] = CHANNELS
    with refused(refusing, received="12 gray photos of 12"):
        pretrain(config, work_dir=tmp_path / "run", data=str(folder))
    assert not list(tmp_path.glob("run/**/*.pth"))
    assert not (tmp_path / "run" / "backbone.safetensors").exists()


def test_no_photo_has_colour_above_a_high_threshold(photos, tmp_path):
    colorization = Colorization(small_alexnet("lightness"), prior="imagenet", gray_threshold=128.0)
    with refused("colorization", received="48 gray photos of 48"):
        colorization.setup(photos, tmp_path)


def test_a_backbone_that_sees_colour_is_refused():
    with refused("colorization", "input_space", received="lab", allowed=("lightness",)):
        Colorization(small_alexnet("lab"))


@pytest.mark.parametrize("mix", [-0.1, 1.5])
def test_a_mix_that_is_no_share_is_refused(mix):
    with refused("rebalance_mix", received=mix, allowed="from 0 to 1"):
        Colorization(small_alexnet("lightness"), rebalance_mix=mix)


def test_bins_from_data_are_those_of_the_prior_file(photos, tmp_path, method, image):
    prior = prior_of_photos(photos, bins="from_data")
    prior.save(tmp_path / "prior.json")
    colorization = method(bins="from_data", prior=str(tmp_path / "prior.json"))
    assert torch.equal(colorization.space.bins, prior.bins)
    torch.testing.assert_close(colorization.space.bin_weights, rebalance_weights(prior.probabilities).float())
    assert colorization(image, torch.arange(3)).losses["loss_color"].isfinite()
    with refused("bins=from_data", "prior", received="imagenet", allowed="--bins from_data"):
        Colorization(small_alexnet("lightness"), bins="from_data", prior="imagenet")


@pytest.mark.parametrize("loss", ["rebalanced", "classification", "l2"])
@pytest.mark.parametrize("load", [torch.nn.Module.load_state_dict, checkpoint.load_state_dict])
def test_checkpoints_that_have_the_weights_of_the_bins_at_the_top_are_loaded(load, loss):
    trained = Colorization(small_alexnet("lightness"), loss=loss, prior="imagenet")
    weights = torch.linspace(1, 2, 313)
    earlier = {name: value for name, value in trained.state_dict().items() if not name.startswith("space.")}
    earlier = {"bin_weights": weights, **earlier}
    given = set(earlier)
    colorization = Colorization(small_alexnet("lightness"), loss=loss, prior="imagenet")
    load(colorization, earlier, strict=True)
    loaded = colorization.state_dict()
    if loss == "rebalanced":
        assert torch.equal(loaded.pop("space.bin_weights"), weights)
    assert loaded.keys() == earlier.keys() - {"bin_weights"}
    assert all(torch.equal(value, earlier[name]) for name, value in loaded.items())
    # What is saved now is loaded as it is, and what was given is left as it was.
    assert set(earlier) == given
    load(colorization, trained.state_dict(), strict=True)
