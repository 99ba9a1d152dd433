import pytest
import torch
from made_photos import gray_folder, smooth_photos
from refusals import refused
from small_alexnet import small_alexnet
from torch import nn

from pretext.backbones import VGG16, AlexNet, ColorNet
from pretext.backbones.checkpoint import Provenance, load_backbone, save_backbone
from pretext.backbones.initializers import he_normal_
from pretext.color.bins import ab_bins
from pretext.color.lab import rgb_to_lab
from pretext.colorize.heads import grid_over
from pretext.data.sources import open_photos
from pretext.methods import SplitBrain
from pretext.methods.parts.targets import at_targets
from pretext.training.engine import pretrain

INDEX = torch.arange(3)


@pytest.fixture
def photos(photo_folder):
    return open_photos(photo_folder)


@pytest.fixture
def method(one_thread, photos, tmp_path):
    def make(backbone=None, **arguments):
        built = SplitBrain(backbone or small_alexnet("lab"), **arguments)
        he_normal_(built, 0)
        built.setup(photos, tmp_path)
        return built.eval()

    return make


@pytest.fixture(scope="module")
def image():
    return smooth_photos(3)


def check_halves(backbone, image):
    """The first half of every layer sees L alone, the second ab alone, and both see something."""
    lab = backbone.normalize(rgb_to_lab(image))
    other = lab.roll(1, 0)
    names = backbone.layer_names
    features = backbone.extract(lab, names)
    of_lightness = backbone.extract(torch.cat([lab[:, :1], other[:, 1:]], 1), names)
    of_ab = backbone.extract(torch.cat([other[:, :1], lab[:, 1:]], 1), names)
    for name in names:
        first, second = features[name].chunk(2, 1)
        assert torch.equal(of_lightness[name].chunk(2, 1)[0], first), name
        assert torch.equal(of_ab[name].chunk(2, 1)[1], second), name
        assert not torch.equal(of_lightness[name].chunk(2, 1)[1], second), name
        assert not torch.equal(of_ab[name].chunk(2, 1)[0], first), name


BACKBONES = [
    lambda: AlexNet("lab"),
    lambda: small_alexnet("lab", groups=1),
    lambda: small_alexnet("lab", norm="none"),
    lambda: VGG16("lab"),
]


@pytest.mark.parametrize("make", BACKBONES, ids=["alexnet", "without groups", "without norm", "vgg16"])
@torch.no_grad()
def test_neither_half_sees_the_channels_of_the_other(make, method, image):
    backbone = make()
    built = method(backbone) if backbone.architecture == "alexnet" else method(backbone, layer="conv5_3")
    check_halves(built.backbone, image)
    check_halves(built.train().backbone, image)


def test_fully_connected_layers_are_halved_too(method, image):
    backbone = small_alexnet("lab", fully_connected=True)
    built = method(backbone, layer="fc7", target_stride=16)
    with torch.no_grad():
        check_halves(built.backbone, image)
    assert built(image, INDEX).losses["loss_ab"].isfinite()


def test_an_alexnet_as_it_is_mixes_them(image, one_thread):
    backbone = small_alexnet("lab").eval()
    he_normal_(backbone, 0)
    with pytest.raises(AssertionError, match="conv1"):
        check_halves(backbone, image)


def cross_weights(backbone):
    """All weights of conv1 and conv3 that lead from one half to the other."""
    parts = []
    for weight, inputs in ((backbone.conv1.conv.weight, 1), (backbone.conv3.conv.weight, None)):
        half = len(weight) // 2
        inputs = inputs or weight.shape[1] // 2
        parts += [weight[:half, inputs:], weight[half:, :inputs]]
    return torch.cat([part.flatten() for part in parts])


@pytest.mark.parametrize("loss", ["classification", "regression"])
def test_training_learns_and_leaves_the_halves_apart(loss, train_method, image, photos):
    built = SplitBrain(small_alexnet("lab"), loss=loss)
    logged = train_method(built, image, steps=12, lr=2e-3, photos=photos)
    assert all(
        last < 0.9 * first for first, last in zip(logged[0].values(), logged[-1].values(), strict=True)
    )
    assert not cross_weights(built.backbone).any()
    with torch.no_grad():
        check_halves(built.eval().backbone, image)


def test_the_gradient_of_a_half_stays_in_it(method, image):
    built = method().train()
    convs = [getattr(built.backbone, f"conv{number}").conv.weight for number in range(1, 6)]
    norms = [getattr(built.backbone, f"conv{number}").norm.weight for number in range(1, 6)]
    heads = [built.ab_head.weight, built.lightness_head.weight]
    for half, loss in enumerate(("loss_ab", "loss_lightness")):
        built.zero_grad()
        built(image, INDEX).losses[loss].backward()
        for weight in convs + norms:
            own, others = (weight.grad.chunk(2)[k] for k in (half, 1 - half))
            assert own.abs().sum() > 0
            assert not others.any()
        assert heads[half].grad.abs().sum() > 0
        assert heads[1 - half].grad is None
    # What the loss of ab knows of the photo is its lightness, and the other way round.
    lab = rgb_to_lab(image).requires_grad_()
    for channels, other, predicted in zip(([0], [1, 2]), ([1, 2], [0]), built.predict(lab), strict=True):
        (gradient,) = torch.autograd.grad(predicted.square().sum(), lab, retain_graph=True)
        assert gradient[:, channels].abs().sum() > 0
        assert not gradient[:, other].any()


def test_the_weights_stay_cut_wherever_the_method_goes(method):
    # Moving to another device or type gives the weights other memory; what zeroes their gradients must follow.
    built = method().to(memory_format=torch.channels_last).to(torch.float64)
    for conv in (built.backbone.conv1.conv, built.backbone.conv3.conv):
        (conv.weight * 2).sum().backward()
        (conv.weight * 3).sum().backward()
        half = len(conv.weight) // 2
        inputs = 1 if conv.in_channels == 3 else conv.in_channels // 2
        assert not conv.weight.grad[:half, inputs:].any()
        assert not conv.weight.grad[half:, :inputs].any()
        assert (conv.weight.grad[:half, :inputs] == 5).all()
        assert (conv.weight.grad[half:, inputs:] == 5).all()


@pytest.mark.parametrize("stride", [8, 16])
def test_targets_are_the_bins_of_every_eighth_pixel(stride, method, image):
    built = method(target_stride=stride)
    losses = built(image, INDEX).losses
    lab = rgb_to_lab(image)
    side = 64 // stride
    size, grid = torch.Size([side, side]), grid_over(built.layer)
    ab, lightness = (at_targets(each, size, grid, stride) for each in built.predict(lab))
    assert (ab.shape[1], lightness.shape[1]) == (313, 50)
    log_ab, log_lightness = ab.double().log_softmax(1), lightness.double().log_softmax(1)
    total_ab = total_lightness = 0.0
    for n in range(3):
        for i in range(side):
            for j in range(side):
                pixel = lab[n, :, i * stride, j * stride]
                nearest = (ab_bins() - pixel[1:]).square().sum(1).argmin()
                total_ab -= log_ab[n, nearest, i, j].item()
                # Bins of width 2.
                total_lightness -= log_lightness[n, int(pixel[0] // 2), i, j].item()
    assert losses["loss_ab"].item() == pytest.approx(total_ab / (3 * side**2), rel=1e-4)
    assert losses["loss_lightness"].item() == pytest.approx(total_lightness / (3 * side**2), rel=1e-4)


def test_regression_is_equation_1_on_normalised_channels(method, image):
    built = method(loss="regression")
    for parameter in (*built.ab_head.parameters(), *built.lightness_head.parameters()):
        nn.init.zeros_(parameter)
    target = rgb_to_lab(image)[:, :, ::8, ::8]
    losses = built(image, INDEX).losses
    expected = 0.5 * (target[:, 1:] / 20).square().sum(1).mean()
    assert losses["loss_ab"].item() == pytest.approx(expected.item(), rel=1e-4)
    expected = 0.5 * ((target[:, 0] - 50) / 25).square().mean()
    assert losses["loss_lightness"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_backbone_is_saved_as_an_ordinary_alexnet(small_config, photo_folder, tmp_path):
    config = small_config("split_brain")
    path = pretrain(config, work_dir=tmp_path / "run", data=str(photo_folder))
    loaded = load_backbone(path)
    assert type(loaded.backbone) is AlexNet
    assert loaded.backbone.arguments == AlexNet("lab", groups=2).arguments
    assert loaded.provenance.method == "split_brain"
    assert not cross_weights(loaded.backbone).any()
    # After training in bfloat16 too.
    assert config["mixed_precision"] == "bfloat16"


def test_a_loaded_backbone_gives_the_same_features(method, image, tmp_path):
    backbone = method().backbone
    save_backbone(backbone, tmp_path / "backbone.safetensors", Provenance("split_brain"))
    loaded = load_backbone(tmp_path / "backbone.safetensors").backbone
    with torch.no_grad():
        features, again = (network(image, network.layer_names) for network in (backbone, loaded))
        check_halves(loaded, image)
    assert all(torch.equal(features[name], again[name]) for name in backbone.layer_names)


@pytest.mark.parametrize("loss", ["classification", "regression"])
def test_previews_show_photo_and_prediction(loss, method, image):
    built = method(loss=loss)
    pictures = built.preview(image)
    assert pictures.shape == (3, 3, 64, 128)
    assert torch.equal(pictures[..., :64], image)
    # A network that is sure of one lightness and one colour paints that.
    for head in (built.ab_head, built.lightness_head):
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    if loss == "classification":
        bins = ab_bins()
        with torch.no_grad():
            built.ab_head.bias[(bins == torch.tensor([20.0, 30.0])).all(1).nonzero().item()] = 100
            built.lightness_head.bias[30] = 100
        expected = torch.tensor([61.0, 20, 30])
    else:
        expected = torch.tensor([50.0, 0, 0])
    painted = rgb_to_lab(built.preview(image)[..., 64:]).mean((0, 2, 3))
    assert (painted - expected).abs().max() < 0.5


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        ({"loss": "l2"}, ("classification", "regression")),
        ({"lightness_bins": 1}, "from 2 up"),
        ({"target_stride": 0}, "from 1 up"),
    ],
)
def test_bad_arguments_are_refused(arguments, allowed):
    ((name, value),) = arguments.items()
    with refused(name, received=value, allowed=allowed):
        SplitBrain(small_alexnet("lab"), **arguments)


def test_other_backbones_are_refused():
    with refused("split_brain", "input_space", received="lightness", allowed=("lab",)):
        SplitBrain(small_alexnet("lightness"))
    with refused("split_brain", "architecture", received="colornet", allowed="alexnet"):
        SplitBrain(ColorNet(), layer="conv8")


@pytest.mark.parametrize("loss", ["classification", "regression"])
def test_photos_without_colour_are_refused(loss, tmp_path):
    gray = open_photos(gray_folder(tmp_path / "gray", 3))
    with refused("split_brain", received="3 gray photos of 3"):
        SplitBrain(small_alexnet("lab"), loss=loss).setup(gray, tmp_path)
