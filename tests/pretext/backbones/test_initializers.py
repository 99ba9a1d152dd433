import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from narrow import narrow_backbones
from PIL import Image
from refusals import refused
from torch import nn

from pretext.backbones import alexnet
from pretext.backbones.alexnet import AlexNet
from pretext.backbones.data_dependent import initialize_from_data, initialized_layers, rescale_between_layers
from pretext.backbones.initializers import he_normal_, normal_, uniform_
from pretext.backbones.surgery import absorb_batch_norm
from pretext.backbones.vgg import VGG16
from pretext.commands.initialize import initialize_backbone
from pretext.data.crops import center_crop
from pretext.data.sources import open_photos


def natural(count, seed, side=96):
    """Synthetic photos with the spectrum of natural ones: (N, 3, side, side) uint8."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij")).clip(
        1 / side
    )
    noise = np.fft.rfft2(rng.standard_normal((count, 3, side, side))) / frequency
    values = np.fft.irfft2(noise, s=(side, side))
    values = 128 + 50 * values / values.std()
    return torch.from_numpy(values.clip(0, 255).astype(np.uint8))


def he(backbone, seed=0):
    he_normal_(backbone, seed)
    return backbone.eval()


def rates(backbone, photos, top, seed):
    features = backbone(photos, [top])[top]
    generator = torch.Generator().manual_seed(seed)
    blocks = [block for name, block in backbone.named_children()]
    weights = [block.conv.weight for block in blocks]
    gradients = torch.autograd.grad(features, weights, torch.randn(features.shape, generator=generator))
    return torch.stack(
        [g.square().mean().sqrt() / w.square().mean().sqrt() for g, w in zip(gradients, weights, strict=True)]
    )


@pytest.mark.parametrize("fully_connected", [False, True])
def test_rescaled_layers_change_at_equal_rates(fully_connected, monkeypatch):
    monkeypatch.setattr(alexnet, "FC_CHANNELS", 64)
    backbone = he(AlexNet(norm="none", fully_connected=fully_connected))
    for number, name in enumerate(("conv1", "conv3", "conv5")):
        backbone.get_submodule(name).conv.weight.data.mul_(10.0 ** (number - 1))
    top, photos = "fc7" if fully_connected else "conv5", natural(4, 0)
    assert rates(backbone, photos, top, 0).max() / rates(backbone, photos, top, 0).min() > 10
    rescale_between_layers(backbone, photos, seed=0)
    equal = rates(backbone, photos, top, 0)
    assert equal.max() / equal.min() < 1.0001
    # On other photos and another gradient nearly so.
    others = rates(backbone, natural(8, 1), top, 5)
    assert others.max() / others.min() < 1.5


def test_rescaling_changes_the_scale_of_the_features_and_nothing_else():
    backbone = he(AlexNet(norm="none"))
    for name, block in backbone.named_children():
        block.conv.bias.data.normal_(0, 0.1, generator=torch.Generator().manual_seed(len(name)))
    photos = natural(4, 0)
    with torch.no_grad():
        before = backbone(photos, ["conv1", "conv5"])
        factors = rescale_between_layers(backbone, photos)
        after = backbone(photos, ["conv1", "conv5"])
    product = float(np.prod(list(factors.values())))
    torch.testing.assert_close(after["conv5"], before["conv5"] * product, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(after["conv1"], before["conv1"] * factors["conv1"], rtol=1e-4, atol=1e-5)
    assert after["conv5"].std() == pytest.approx(1.0, rel=1e-4)


def test_only_a_backbone_without_batch_norm_is_rescaled():
    with refused("alexnet", received="norm=batch"):
        rescale_between_layers(AlexNet(), natural(2, 0))
    absorbed = absorb_batch_norm(he(AlexNet()))
    assert set(rescale_between_layers(absorbed, natural(2, 0))) == {f"conv{i}" for i in range(1, 6)}
    dead = absorb_batch_norm(he(AlexNet()))
    dead.get_submodule("conv4").conv.weight.data.zero_()
    with refused(received="conv1, conv2, conv3, conv4, conv5"):
        rescale_between_layers(dead, natural(2, 0))


def before_relu(backbone, photos):
    """By layer, what the ReLU of its block is given, (N, C, H, W)."""
    seen = {}
    for name, block in backbone.named_children():
        layer = block.conv if backbone.norm == "none" else block.norm
        layer.register_forward_hook(lambda module, args, out, name=name: seen.update({name: out.clone()}))
    with torch.no_grad():
        backbone(photos, ["conv5"])
    return seen


@pytest.mark.parametrize(
    ("kind", "norm"),
    [("gaussian", "none"), ("gaussian", "batch_no_affine"), ("pca", "none"), ("kmeans", "batch")],
)
def test_channels_have_unit_variance_on_other_photos(kind, norm):
    backbone = AlexNet(norm=norm, channels=(48, 64, 64, 64, 64)).eval()
    initialize_from_data(backbone, natural(32, 0), kind, seed=0)
    for name, value in before_relu(backbone, natural(32, 1)).items():
        std, mean = torch.std_mean(value, dim=(0, 2, 3))
        assert std.median() == pytest.approx(1.0, abs=0.1), name
        assert std.min() > 0.5, name
        assert std.max() < 2, name
        assert mean.median() == pytest.approx(0.0 if norm == "batch_no_affine" else 0.1, abs=0.1), name


@pytest.mark.parametrize("kind", ["gaussian", "pca", "kmeans"])
def test_filters_have_the_same_scale_with_batch_norm_and_without(kind):
    filters = []
    for norm in ("none", "batch"):
        backbone = AlexNet(norm=norm, channels=(48, 64, 64, 64, 64)).eval()
        initialize_from_data(backbone, natural(32, 0), kind, seed=0)
        filters.append(backbone.get_parameter("conv1.conv.weight").detach())
        for block in backbone.children():
            if norm == "batch":
                torch.testing.assert_close(
                    block.norm.running_var, torch.ones(len(block.norm.running_var)), atol=1e-4, rtol=0
                )
    torch.testing.assert_close(*filters)


@pytest.mark.parametrize(("kind", "norm"), [("gaussian", "none"), ("kmeans", "batch_no_affine")])
def test_batch_norms_behind_a_relu_are_set_too(kind, norm, monkeypatch):
    backbone = narrow_backbones(monkeypatch)["colornet"](norm=norm)
    he_normal_(backbone, 0)
    drawn = backbone.get_parameter("conv8.0.weight").clone()
    initialize_from_data(backbone, natural(24, 0), kind, seed=0)
    seen = {}
    for name, module in backbone.named_modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)):
            module.register_forward_hook(
                lambda module, args, out, name=name: seen.update({name: out.clone()})
            )
    with torch.no_grad():
        backbone.eval()(natural(24, 1), ["conv8"])
    assert len(seen) == 22 + (7 if norm != "none" else 0)
    for name, value in seen.items():
        std, mean = torch.std_mean(value, dim=(0, 2, 3))
        is_norm = isinstance(backbone.get_submodule(name), nn.BatchNorm2d)
        assert std.median() == pytest.approx(1.0, abs=0.2), name
        assert mean.median() == pytest.approx(0.0 if is_norm else 0.1, abs=0.2), name
    # The filters of a transposed convolution are scaled alone, each output channel by one factor.
    factors = backbone.get_parameter("conv8.0.weight") / drawn
    assert torch.allclose(factors, factors[:1, :, :1, :1].expand_as(factors), rtol=1e-3)
    assert initialized_layers(backbone).keys() == seen.keys()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gaussian", "kmeans"])
def test_channels_have_unit_variance_on_real_photos_that_were_not_seen(kind):
    root = Path(os.environ.get("PRETEXT_DATA", ""), "imagenette128")
    if not os.environ.get("PRETEXT_DATA") or not root.is_dir():
        pytest.skip("PRETEXT_DATA does not hold imagenette128")
    train, val = (open_photos(str(root / split)) for split in ("train", "val"))
    backbone, _ = initialize_backbone(kind, train, "alexnet", size=128, count=128, seed=0)
    chosen = range(0, len(val), len(val) // 256)
    photos = torch.stack([center_crop(val.image(index), 128, 128) for index in chosen])
    for name, value in before_relu(backbone, photos).items():
        std = value.std(dim=(0, 2, 3))
        assert std.mean() == pytest.approx(1.0, abs=0.1), name
        assert ((std > 0.7) & (std < 1.4)).float().mean() > 0.95, name


@pytest.mark.parametrize(("name", "space"), [("alexnet", "lightness"), ("alexnet:rgb", "rgb")])
def test_a_backbone_is_initialised_for_the_colours_that_its_name_says(name, space, tmp_path):
    for index, photo in enumerate(natural(8, 0)):
        Image.fromarray(photo.permute(1, 2, 0).numpy()).save(tmp_path / f"{index}.png")
    backbone, provenance = initialize_backbone("gaussian", open_photos(str(tmp_path)), name, 96, 8, seed=0)
    assert (backbone.architecture, backbone.input_space) == ("alexnet", space)
    assert (provenance.method, provenance.config) == ("gaussian", {"size": 96, "count": 8})
    for layer, value in before_relu(backbone, natural(32, 1)).items():
        assert value.std(dim=(0, 2, 3)).median() == pytest.approx(1.0, abs=0.2), layer


def test_kmeans_filters_of_one_layer_see_structure_that_random_ones_do_not():
    # Patches of two kinds, horizontal and vertical stripes of 8 pixels: a filter is one of the two.
    stripes = (torch.arange(96) // 4 % 2 * 255).to(torch.uint8)
    across, down = stripes.expand(3, 96, 96), stripes.view(-1, 1).expand(3, 96, 96)
    photos = torch.stack([across] * 32 + [down] * 32)
    channels = (96, 64, 64, 64, 64)
    backbone = AlexNet(norm="none", geometry="evaluation", channels=channels).eval()  # without padding
    initialize_from_data(backbone, photos, "kmeans", seed=0)
    filters = backbone.get_submodule("conv1").conv.weight.data[:, 0]
    filters = filters - filters.mean((1, 2), keepdim=True)
    along = torch.stack([filters.mean(1).square().mean(1), filters.mean(2).square().mean(1)])
    assert (along.sum(0) / filters.square().mean((1, 2)) > 0.9).float().mean() > 0.9


def test_the_same_seed_gives_the_same_filters():
    first, second, other = (AlexNet(norm="none") for _ in range(3))
    for backbone, seed in ((first, 0), (second, 0), (other, 1)):
        initialize_from_data(backbone, natural(8, 0), "gaussian", seed)
    weights = [backbone.get_submodule("conv3").conv.weight for backbone in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("make", "photos", "kind", "names", "fields"),
    [
        (AlexNet, natural(2, 0), "lsuv", [], {"received": "lsuv", "allowed": ("gaussian", "pca", "kmeans")}),
        (AlexNet, natural(2, 0, side=64), "pca", ["conv2", "pca"], {}),
        (AlexNet, natural(1, 0), "kmeans", ["photos"], {"received": 1}),
        (VGG16, torch.full((2, 3, 64, 64), 90, dtype=torch.uint8), "gaussian", ["2 photos"], {}),
        (
            lambda: AlexNet("rgb"),
            torch.full((2, 3, 64, 64), 90, dtype=torch.uint8),
            "gaussian",
            ["2 photos"],
            {},
        ),
    ],
    ids=["kind", "patches", "one photo", "one colour", "one colour in RGB"],
)
def test_what_cannot_be_initialised_is_an_error(make, photos, kind, names, fields):
    with refused(*names, **fields):
        initialize_from_data(make(), photos, kind)


def test_layers_under_spectral_norm_keep_its_norm_and_take_drawn_weights():
    plain, normed = (nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(5, 4)) for _ in range(2))
    for layer in normed:
        nn.utils.parametrizations.spectral_norm(layer, n_power_iterations=50)
    he_normal_(plain, 3)
    he_normal_(normed, 3)
    for layer, expected in zip(normed, plain, strict=True):
        drawn = layer.parametrizations.weight.original
        torch.testing.assert_close(drawn, expected.weight)
        largest = torch.linalg.matrix_norm(drawn.flatten(1), 2)
        torch.testing.assert_close(layer.weight, drawn / largest, atol=1e-4, rtol=1e-3)
        assert not layer.bias.any()


@pytest.mark.parametrize(
    ("fill", "std"), [(partial(normal_, std=0.2), 0.2), (partial(uniform_, bound=0.3), 0.3 / 3**0.5)]
)
def test_weights_are_drawn_from_seed_and_name_alone(fill, std):
    drawn = {}
    for seed, name in ((0, "conv1"), (1, "conv1"), (0, "conv2"), (0, "conv1")):
        weight = torch.empty(100, 100)
        fill(weight, seed=seed, name=name)
        assert weight.std().item() == pytest.approx(std, rel=0.02)
        assert weight.mean().item() == pytest.approx(0.0, abs=0.05 * std)
        if (seed, name) in drawn:
            assert torch.equal(drawn[seed, name], weight)
        drawn[seed, name] = weight
    assert len({float(weight[0, 0]) for weight in drawn.values()}) == 3


@pytest.mark.slow
def test_kmeans_filters_are_the_same_on_one_thread_and_on_two():
    script = (
        "import sys, torch; torch.set_num_threads(int(sys.argv[1]))\n"
        "from pretext.backbones.checkpoint import weights_sha256\n"
        "from test_initializers import AlexNet, initialize_from_data, natural\n"
        "backbone = AlexNet(channels=(48, 64, 64, 64, 64))\n"
        "initialize_from_data(backbone, natural(32, 0), 'kmeans')\n"
        "print(weights_sha256(backbone))"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", script, threads],
            check=True,
            capture_output=True,
            text=True,
            env={
                **os.environ,
                "OMP_NUM_THREADS": threads,
                "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)]),
            },
        ).stdout
        for threads in ("1", "2")
    }
    assert len(hashes) == 1
