import numpy as np
import pytest
import torch
from PIL import Image
from refusals import refused
from see_through import SeeThrough
from small_alexnet import small_alexnet
from torch.nn import functional as F

from pretext.backbones import AlexNet
from pretext.backbones.initializers import he_normal_
from pretext.methods import Counting
from pretext.methods.counting import DOWNSAMPLING, distances_to_sums, halved_and_quartered


def noise(count, height, width):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("downsampling", DOWNSAMPLING)
def test_photo_and_tiles_have_the_same_size(downsampling):
    small, tiles = halved_and_quartered(noise(2, 31, 34), downsampling)
    assert small.shape == (2, 3, 15, 15)
    assert tiles.shape == (2, 4, 3, 15, 15)
    assert small.min() >= 0
    assert small.max() <= 255
    # A photo of one colour stays one.
    flat, _ = halved_and_quartered(torch.full((1, 3, 8, 8), 200, dtype=torch.uint8), downsampling)
    torch.testing.assert_close(flat, torch.full((1, 3, 4, 4), 200.0))


def test_tiles_are_the_quarters_as_they_are():
    photos = noise(2, 16, 16)
    _, tiles = halved_and_quartered(photos, "area")
    rows = [torch.cat([tiles[:, 2 * r], tiles[:, 2 * r + 1]], 3) for r in range(2)]
    assert torch.equal(torch.cat(rows, 2), photos.float())


def test_sums_of_pixels_are_counts():
    # One pixel of the photo at half its size stands for four.
    small, tiles = halved_and_quartered(noise(5, 32, 32), "area")
    whole, parts = 4 * small.sum((2, 3)), tiles.sum((3, 4)).sum(1)
    equal, different = distances_to_sums(whole, parts)
    assert (equal < 1e-3).all()
    assert (different > 1e3).all()


@pytest.mark.parametrize(("downsampling", "kind"), [("bilinear", "BILINEAR"), ("bicubic", "BICUBIC")])
def test_photos_are_halved_as_pillow_does(downsampling, kind):
    photo = F.interpolate(noise(1, 8, 8).float(), size=32, mode="bicubic").clamp(0, 255).to(torch.uint8)
    small, _ = halved_and_quartered(photo, downsampling)
    picture = Image.fromarray(photo[0].permute(1, 2, 0).numpy())
    expected = torch.from_numpy(np.array(picture.resize((16, 16), Image.Resampling[kind]))).permute(2, 0, 1)
    assert (small[0] - expected.float()).abs().max() < 4


def test_all_ways_of_downsampling_are_drawn_and_photos_are_gray(monkeypatch):
    drawn = []

    def watching(photos, downsampling):
        drawn.append((downsampling, bool((photos[:, 0] == photos[:, 1]).all())))
        return halved_and_quartered(photos, downsampling)

    monkeypatch.setattr("pretext.methods.counting.halved_and_quartered", watching)
    for seed in range(20):
        torch.manual_seed(seed)
        Counting(SeeThrough(), gray=1.0)(noise(2, 16, 16), torch.arange(2))
    assert {kind for kind, _ in drawn} == set(DOWNSAMPLING)
    assert all(gray for _, gray in drawn)


def test_distances_begin_like_the_margin():
    method = Counting(AlexNet("rgb"))
    he_normal_(method, 0)
    scalars = method.train()(noise(24, 64, 64), torch.arange(24))
    # Else the loss asks for nothing but to count less, and ends where nothing is counted.
    assert scalars.logged["distance_equal"] < 10
    assert scalars.logged["distance_different"] < 20
    assert 0.3 < scalars.logged["counted"] < 0.7


def counts_of(method, monkeypatch, table):
    """Lets the method count by a table: for each photo the whole, then its four tiles."""
    monkeypatch.setattr(method, "count", lambda photos: table.flatten(0, 1))


def test_the_loss_is_that_of_equation_3(monkeypatch):
    method = Counting(SeeThrough(), margin=10.0)
    table = torch.rand(6, 5, 7, generator=torch.Generator().manual_seed(0)) * 1.5
    counts_of(method, monkeypatch, table)
    scalars = method(noise(6, 32, 32), torch.arange(6))
    total = 0.0
    for n in range(6):
        parts = [sum(float(table[n, tile, f]) for tile in range(1, 5)) for f in range(7)]
        own = sum((float(table[n, 0, f]) - parts[f]) ** 2 for f in range(7))
        other = sum((float(table[n - 1, 0, f]) - parts[f]) ** 2 for f in range(7))
        total += own + max(0.0, 10.0 - other)
    assert scalars.losses["loss_counting"].item() == pytest.approx(total / 6, rel=1e-5)


def test_counting_nothing_costs_the_margin(monkeypatch):
    method = Counting(SeeThrough(), margin=10.0)
    counts_of(method, monkeypatch, torch.zeros(4, 5, 3))
    assert method(noise(4, 16, 16), torch.arange(4)).losses["loss_counting"] == 10
    # Photos that count differently, and whose tiles add up, cost nothing.
    table = torch.tensor([4.0, 1, 1, 1, 1]).view(1, 5, 1) * torch.tensor([1.0, 4, 8, 20]).view(4, 1, 1)
    counts_of(method, monkeypatch, table)
    assert method(noise(4, 16, 16), torch.arange(4)).losses["loss_counting"] == 0


def test_the_backbone_gets_the_photo_and_its_tiles_in_this_order():
    seen = []

    class Watching(SeeThrough):
        def forward(self, photos, layers):
            seen.append(photos)
            return super().forward(photos, layers)

    photos = noise(3, 32, 32)
    Counting(Watching(), gray=0.0, downsampling=["area"])(photos, torch.arange(3))
    five = seen[0].view(3, 5, 3, 16, 16)
    torch.testing.assert_close(five[:, 0], F.avg_pool2d(photos.float(), 2))
    assert torch.equal(five[:, 4], photos[..., 16:, 16:].float())


def test_counts_are_not_negative_and_train_everything():
    method = Counting(small_alexnet("rgb"), num_features=16, head_hidden=16)
    he_normal_(method, 0)
    assert (method.count(noise(4, 32, 32).float()) >= 0).all()
    method(noise(4, 64, 64), torch.arange(4)).losses["loss_counting"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())


def test_it_learns_to_count_squares(train_method):
    generator = torch.Generator().manual_seed(0)
    photos = torch.full((8, 3, 64, 64), 60.0)
    for number in range(8):
        for _ in range(2 * number + 1):
            y, x = torch.randint(0, 56, (2,), generator=generator).tolist()
            photos[number, :, y : y + 6, x : x + 6] = 60 + 195 * torch.rand(3, 1, 1, generator=generator)
    method = Counting(small_alexnet("rgb"), num_features=64, head_size=2, head_hidden=64)
    logged = train_method(method, photos.to(torch.uint8), steps=30, lr=3e-3)
    # Better than by counting nothing, which costs 10, and without making all photos alike.
    assert logged[0]["loss_counting"] > 9
    assert logged[-1]["loss_counting"] < 3
    assert logged[-1]["distance_different"] > 10 * logged[-1]["distance_equal"]


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        ({"margin": -1.0}, "from 0.0 up"),
        ({"gray": 2.0}, "from 0 to 1"),
        ({"downsampling": ("lanczos",)}, ("area", "bilinear", "bicubic")),
        ({"downsampling": ()}, ("area", "bilinear", "bicubic")),
    ],
)
def test_bad_arguments_are_refused(arguments, allowed):
    ((name, value),) = arguments.items()
    with refused(name, received=value, allowed=allowed):
        Counting(SeeThrough(), **arguments)


def test_a_photo_without_another_is_refused():
    with refused("counting", "batch", received=1, allowed="from 2 up"):
        Counting(SeeThrough())(noise(1, 16, 16), torch.arange(1))
