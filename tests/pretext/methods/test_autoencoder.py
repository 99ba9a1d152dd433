import pytest
import torch
from made_photos import smooth_photos
from refusals import refused
from small_alexnet import small_alexnet
from torch.nn import functional as F

from pretext.backbones import VGG16, AlexNet
from pretext.backbones.initializers import he_normal_
from pretext.color.lab import rgb_to_lab
from pretext.methods import Autoencoder

INDEX = torch.arange(4)


def method(backbone=None, **arguments):
    built = Autoencoder(backbone or small_alexnet("lab"), **arguments)
    he_normal_(built, 0)
    return built.eval()


@pytest.fixture(scope="module")
def image():
    return smooth_photos(4, cells=4)


def test_half_of_the_values_are_dropped_one_by_one_and_the_others_kept(image):
    lab = AlexNet("lab").normalize(rgb_to_lab(image))
    torch.manual_seed(0)
    dropped = method(drop=0.5).corrupt(lab)
    gone = dropped == 0
    assert gone.float().mean(dim=(0, 2, 3)).tolist() == pytest.approx([0.5] * 3, abs=0.02)
    assert torch.equal(dropped[~gone], lab[~gone])
    # Value by value, not pixel by pixel: of the pixels an eighth loses everything.
    assert gone.all(1).float().mean().item() == pytest.approx(1 / 8, abs=0.01)
    torch.manual_seed(0)
    assert torch.equal(method(drop=0.5).corrupt(lab), dropped)
    assert not torch.equal(method(drop=0.5).corrupt(lab), dropped)
    assert method().corrupt(lab) is lab


def test_the_network_sees_the_dropped_photo_and_is_to_give_the_whole_one(image, monkeypatch):
    autoencoder = method(drop=0.5)
    whole = autoencoder.backbone.normalize(rgb_to_lab(image))
    seen = []

    def perfect(lab):
        seen.append(lab)
        # Two cells lie beyond the photo on each side.
        return F.pad(whole[:, :, 2::4, 2::4], (2, 2, 2, 2))

    monkeypatch.setattr(autoencoder, "reconstruct", perfect)
    assert autoencoder(image, INDEX).losses["loss_l2"] == 0
    assert (seen[0] == 0).float().mean().item() == pytest.approx(0.5, abs=0.02)
    monkeypatch.setattr(autoencoder, "reconstruct", lambda lab: perfect(lab) + 1)
    # Half the squared distance, added over L, a and b.
    assert autoencoder(image, INDEX).losses["loss_l2"].item() == pytest.approx(1.5)


@pytest.mark.parametrize(("bottleneck", "channels"), [(16, 16), (3, 3), (0, 32)])
def test_the_decoder_sees_as_many_channels_as_the_bottleneck_has(bottleneck, channels, image):
    autoencoder = method(bottleneck=bottleneck)
    seen = []
    autoencoder.decoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    autoencoder(image, INDEX)
    assert seen == [(4, channels, 5, 5)]


@torch.no_grad()
def test_all_that_is_decoded_went_through_the_bottleneck(image):
    autoencoder = method(bottleneck=2)
    lab = autoencoder.backbone.normalize(rgb_to_lab(image))
    one, other = autoencoder.reconstruct(lab)[:2]
    assert not torch.allclose(one, other)
    torch.nn.init.zeros_(autoencoder.bottleneck.weight)
    one, other = autoencoder.reconstruct(lab)[:2]
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("backbone", "layer", "stride"),
    [(small_alexnet, "conv5", 16), (AlexNet, "conv2", 2), (VGG16, "conv4_3", 4)],
)
def test_gradients_reach_the_first_and_the_last_layer(backbone, layer, stride, image):
    autoencoder = method(backbone("lab"), layer=layer, target_stride=stride).train()
    autoencoder(image, INDEX).losses["loss_l2"].backward()
    first = next(autoencoder.backbone.parameters())
    assert first.grad.abs().sum() > 0
    assert autoencoder.decoder[-1].weight.grad.abs().sum() > 0


def test_previews_show_photo_input_and_reconstruction(image):
    pictures = method(drop=0.5).preview(image)
    assert pictures.shape == (4, 3, 64, 192)
    assert torch.equal(pictures[..., :64], image)
    # What is not dropped is seen; without dropping it is the photo itself.
    assert not torch.equal(pictures[..., 64:128], image)
    whole = method().preview(image)[..., 64:128]
    assert (whole.int() - image.int()).abs().max() <= 1


@pytest.mark.parametrize("drop", [0.0, 0.5])
def test_it_learns_to_reconstruct(drop, train_method, image):
    logged = train_method(Autoencoder(small_alexnet("lab"), drop=drop), image, steps=20, lr=2e-3)
    assert logged[-1]["loss_l2"] < 0.5 * logged[0]["loss_l2"]


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        ({"drop": 1.0}, "from 0 to below 1"),
        ({"drop": -0.1}, "from 0 to below 1"),
        ({"bottleneck": -1}, "from 0 up"),
        ({"target_stride": 3}, (16, 8, 4, 2, 1)),
        ({"target_stride": 0}, "from 1 up"),
    ],
)
def test_bad_arguments_are_refused(arguments, allowed):
    ((name, value),) = arguments.items()
    with refused(name, received=value, allowed=allowed):
        Autoencoder(small_alexnet("lab"), **arguments)


def test_a_backbone_that_does_not_see_lab_is_refused():
    with refused("autoencoder", "input_space", received="rgb", allowed=("lab",)):
        Autoencoder(small_alexnet("rgb"))
