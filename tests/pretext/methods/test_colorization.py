from pathlib import Path

import pytest
import torch
from made_photos import UnreadPhotos, smooth_photos
from torch.nn import functional as F

from pretext.backbones import VGG16, AlexNet, ColorNet
from pretext.backbones.initializers import he_normal_
from pretext.color.bins import ab_bins
from pretext.color.lab import rgb_to_lab
from pretext.color.prior import imagenet_prior
from pretext.color.rebalance import rebalance_weights
from pretext.config import load_config
from pretext.data.sources import open_photos
from pretext.errors import InputError
from pretext.methods import Colorization
from pretext.methods.parts.photo_prior import prior_of_photos
from pretext.methods.parts.targets import at_targets
from pretext.training.engine import build_method
from pretext.training.settings import PretrainingSettings


def method(backbone=None, **arguments):
    built = Colorization(backbone or AlexNet(), **({"prior": "imagenet"} | arguments))
    he_normal_(built, 0)
    built.setup(UnreadPhotos(), Path())
    return built.eval()


@pytest.fixture(scope="module")
def image():
    return smooth_photos(3)


INDEX = torch.arange(3)


def test_the_rebalanced_loss_is_that_of_the_equations(image):
    colorization = method(neighbors=5)
    loss = colorization(image, INDEX)["loss_color"]
    # Equations 2 to 4, pixel by pixel and bin by bin.
    ab = rgb_to_lab(image)[:, 1:, ::8, ::8]
    lightness = rgb_to_lab(image)[:, :1]
    logits = at_targets(colorization.predict(lightness), ab.shape[-2:], 2)
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


def test_without_weights_rare_colours_count_as_others(image):
    plain = method(loss="classification")
    assert torch.equal(plain.bin_weights, torch.ones(313))
    assert plain(image, INDEX)["loss_color"].item() == pytest.approx(5.75, abs=2.5)


@pytest.mark.parametrize("data", ["imagenette128", "toyworld"])
def test_l_to_ab_is_plain_cross_entropy_with_the_nearest_bin(data, image):
    # "Split-Brain Autoencoders" (Zhang et al., CVPR 2017), L -> ab(cl): one-hot, not rebalanced.
    colorization = build_method(
        PretrainingSettings.from_config(load_config("pretext", "l_to_ab", data)), 0
    ).eval()
    colorization.setup(UnreadPhotos(), Path())
    lab = rgb_to_lab(image)
    logits = at_targets(colorization.predict(lab[:, :1]), torch.Size([8, 8]), 2)
    ab = lab[:, 1:, ::8, ::8].permute(0, 2, 3, 1)
    labels = torch.cdist(ab.flatten(0, 2), ab_bins()).argmin(1).view(3, 8, 8)
    loss = colorization(image, INDEX)["loss_color"]
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels))


def test_l2_regresses_colours_over_110(image):
    colorization = method(loss="l2")
    for parameter in colorization.head.parameters():
        torch.nn.init.zeros_(parameter)
    ab = rgb_to_lab(image)[:, 1:, ::8, ::8] / 110
    expected = 0.5 * ab.square().sum(1).mean()
    assert colorization(image, INDEX)["loss_l2"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_gray_photos_have_no_gradient_and_do_not_change_the_others(image):
    colorization = method()
    mixed = image.clone()
    mixed[0] = mixed[0, :1]
    loss = colorization(mixed, INDEX)["loss_color"]
    alone = colorization(mixed[1:], INDEX[1:])["loss_color"]
    assert loss.item() == pytest.approx(alone.item() * 2 / 3, rel=1e-5)


@pytest.mark.parametrize(("backbone", "layer", "stride"), [(VGG16(), "conv5_3", 8), (ColorNet(), "conv8", 4)])
def test_other_backbones_colorize(backbone, layer, stride, image):
    colorization = method(backbone, layer=layer, target_stride=stride)
    loss = colorization.train()(image, INDEX)["loss_color"]
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None for p in colorization.head.parameters())


def test_previews_show_lightness_truth_and_prediction(image):
    pictures = method().preview(image)
    assert pictures.shape == (3, 3, 64, 192)
    gray, truth = pictures[..., :64], pictures[..., 64:128]
    assert torch.equal(truth, image)
    assert (gray.amax(1).int() - gray.amin(1).int()).max() <= 1


def test_the_prior_of_the_photos_is_kept(photo_folder, tmp_path):
    colorization = Colorization(AlexNet())
    colorization.setup(open_photos(photo_folder), tmp_path)
    assert not torch.equal(colorization.bin_weights, torch.ones(313))
    again = Colorization(AlexNet())
    again.setup(UnreadPhotos(), tmp_path)
    assert torch.equal(colorization.bin_weights, again.bin_weights)
    with pytest.raises(
        InputError, match="the colour prior is over other bins: received official313 with 313 bins"
    ):
        Colorization(AlexNet(), bins="full529").setup(UnreadPhotos(), tmp_path)


def test_a_backbone_that_sees_colour_is_refused():
    with pytest.raises(
        InputError, match="unknown colorization input_space: received 'lab', allowed are lightness"
    ):
        Colorization(AlexNet("lab"))


def test_bins_from_data_are_those_of_the_prior_file(photo_folder, tmp_path, image):
    prior = prior_of_photos(open_photos(photo_folder), bins="from_data")
    prior.save(tmp_path / "prior.json")
    colorization = method(bins="from_data", prior=str(tmp_path / "prior.json"))
    assert torch.equal(colorization.encoder.bins, prior.bins)
    torch.testing.assert_close(colorization.bin_weights, rebalance_weights(prior.probabilities).float())
    assert colorization(image, torch.arange(3))["loss_color"].isfinite()
    with pytest.raises(InputError, match="bins from_data stand in a prior file: received prior='imagenet'"):
        Colorization(AlexNet(), bins="from_data", prior="imagenet")
