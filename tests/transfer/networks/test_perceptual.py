import pytest
import torch
from made_weights import alexnet_file, linear_file
from refusals import refused
from torch import nn
from torch.nn import functional as F
from torchmetrics.functional.image.lpips import _LPIPS
from torchvision import models

from transfer.networks import perceptual
from transfer.networks.perceptual import (
    InceptionFeatures,
    linear_weights,
    load_inception,
    load_lpips,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return alexnet_file(folder / "alexnet.pth"), linear_file(folder / "alex.pth")


@pytest.fixture
def pairs():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, 3, 70, 64), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("published", [False, True])
def test_lpips_is_that_of_torchmetrics(files, pairs, published):
    weights, linear = files
    ours = load_lpips(weights, None if published else linear)
    theirs = _LPIPS(net="alex", pnet_rand=True, model_path=str(linear_weights() if published else linear))
    features = models.alexnet(weights=None).features
    features.load_state_dict(
        {k.removeprefix("features."): v for k, v in torch.load(weights).items() if "feat" in k}
    )
    slices = [module for k in range(5) for module in getattr(theirs.net, f"slice{k + 1}")]
    for module, trained in zip(slices, features, strict=False):
        module.load_state_dict(trained.state_dict())
    with torch.no_grad():
        found = ours(*pairs)
        expected = theirs(*(each / 255 for each in pairs), normalize=True).flatten()
    assert found.min() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@torch.no_grad()
def test_a_photo_is_like_itself(files, pairs):
    lpips = load_lpips(*files)
    assert lpips(pairs[0], pairs[0]).tolist() == [0, 0, 0]
    torch.testing.assert_close(lpips(pairs[0], pairs[1]), lpips(pairs[1], pairs[0]))


def test_files_of_other_weights_are_refused(files, tmp_path):
    weights, linear = files
    with refused(tmp_path / "gone.pth", "alexnet", allowed="torchvision's alexnet, a state dict"):
        load_lpips(tmp_path / "gone.pth", None)
    with refused(linear, "alexnet", "features.0.weight"):
        load_lpips(linear, None)
    with refused(weights, "LPIPS"):
        load_lpips(weights, weights)
    odd = {name: value[:, 1:] for name, value in torch.load(linear).items()}
    torch.save(odd, tmp_path / "odd.pth")
    with refused(tmp_path / "odd.pth", "LPIPS", "size mismatch"):
        load_lpips(weights, tmp_path / "odd.pth")
    for content in (odd, [1], {"fc.weight": torch.zeros(10, 2048)}, {"fc.weight": torch.zeros(1000, 2048)}):
        torch.save(content, tmp_path / "other.pth")
        with refused(tmp_path / "other.pth", "nception", allowed="pytorch-fid"):
            load_inception(tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with refused(tmp_path / "text.pth", "Inception"):
        load_inception(tmp_path / "text.pth")


def slow_average(x):
    """Average over 3 x 3 pixels, pixel by pixel, over those that there are."""
    rows, columns = x.shape[2:]
    found = torch.empty_like(x)
    for y in range(rows):
        for c in range(columns):
            found[..., y, c] = x[..., max(0, y - 1) : y + 2, max(0, c - 1) : c + 2].mean((2, 3))
    return found


@torch.no_grad()
@pytest.mark.parametrize(
    ("block", "pool", "channels"),
    [
        (perceptual._PooledA(8, 4), slow_average, 4),
        (perceptual._PooledC(8, 4), slow_average, 192),
        (perceptual._PooledE(8), slow_average, 192),
        (perceptual._MaxPooledE(8), lambda x: F.max_pool2d(F.pad(x, (1,) * 4, value=-9e9), 3, 1), 192),
    ],
)
def test_blocks_of_the_published_fid_pool_in_its_way(block, pool, channels):
    block.eval()
    x = torch.randn(2, 8, 5, 4, generator=torch.Generator().manual_seed(0))
    found = block(x)
    torch.testing.assert_close(found[:, -channels:], block.branch_pool(pool(x)), rtol=1e-4, atol=1e-5)
    plain = type(block).__base__._forward(block, x)
    torch.testing.assert_close(found[:, :-channels], torch.cat(plain[:-1], 1))


def test_inception_sees_whole_photos_from_minus_one_to_one():
    seen = []

    class Network(nn.Module):
        def forward(self, photos):
            seen.append(photos)
            return torch.zeros(len(photos), 2048)

    photos = torch.zeros(1, 3, 20, 40, dtype=torch.uint8)
    photos[..., 20:] = 255
    InceptionFeatures(Network())(photos)
    assert seen[0].shape == (1, 3, 299, 299)
    assert (float(seen[0].min()), float(seen[0].max())) == pytest.approx((-1, 1))
    assert seen[0][..., 149].abs().max() < 0.5


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize(("classes", "form"), [(1000, "inception_v3"), (1008, "inception_2015")])
def test_inception_is_loaded_in_both_forms(classes, form, tmp_path, pairs):
    network = models.Inception3(num_classes=classes, aux_logits=classes == 1000, init_weights=False)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    found_form, features = load_inception(tmp_path / "weights.pth")
    assert found_form == form
    found = features(pairs[0])
    assert found.shape == (3, 2048)
    # Torchvision's own network gives its features before its last layer.
    network.fc = nn.Identity()
    photos = F.interpolate(pairs[0] / 127.5 - 1, (299, 299), mode="bilinear")
    plain = network.eval()(photos)
    apart = (found - plain).abs().max() / plain.abs().max()
    # The other form pools in another way.
    assert (apart < 1e-5) == (classes == 1000)
