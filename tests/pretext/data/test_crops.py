from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from refusals import refused

from pretext.config import build
from pretext.data.crops import (
    VIEWS,
    CentralCrop,
    PairCrop,
    RandomCrop,
    RandomResizedCrop,
    RandomWindowCrop,
    center_crop,
    resize_shorter_side,
)
from pretext.data.pairs.pair_list import halves, side_by_side
from transfer.protocols.table import PROTOCOLS


def noise(width, height, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_crops_come_from_everywhere_and_half_are_mirrored():
    image = Image.fromarray(np.tile(np.arange(40, dtype=np.uint8), (40, 1))[..., None].repeat(3, 2))
    crop = RandomCrop(size=32, resize=40)
    seen = [crop(image, np.random.default_rng(i))[0, 0].int() for i in range(300)]
    mirrored = [bool(row[0] > row[-1]) for row in seen]
    assert 0.4 < np.mean(mirrored) < 0.6
    assert {int(row.min()) for row in seen} == set(range(9))


def test_scaled_crops_keep_the_aspect_ratio_and_the_range_of_scales():
    crop = RandomCrop(size=16, resize=16, flip=False, min_scale=0.5)
    ramp = np.tile(np.arange(100, dtype=np.uint8), (100, 1))
    image = Image.fromarray(np.stack([ramp, ramp.T, ramp], 2))
    for seed in range(50):
        view = crop(image, np.random.default_rng(seed)).float()
        width = (view[0, 0, -1] - view[0, 0, 0]) * 16 / 15
        height = (view[1, -1, 0] - view[1, 0, 0]) * 16 / 15
        assert 48 < width < 104
        assert abs(width - height) < 4


def test_the_shorter_side_is_drawn_from_a_range():
    crop = RandomCrop(size=16, resize=20, flip=False, resize_up_to=40)
    ramp = np.tile(np.arange(80, dtype=np.uint8), (80, 1))
    image = Image.fromarray(np.stack([ramp, ramp.T, ramp], 2))
    # A pixel of the view covers 80 / 20 to 80 / 40 of the photo's.
    steps = []
    for seed in range(60):
        view = crop(image, np.random.default_rng(seed)).float()
        across, down = view[0, 8, 12] - view[0, 8, 4], view[1, 12, 8] - view[1, 4, 8]
        assert abs(across - down) <= 2
        steps.append(float(across) / 8)
    assert 1.8 < min(steps) < 2.2
    assert 3.7 < max(steps) < 4.2
    fixed = RandomCrop(size=16, resize=20)
    one = RandomCrop(size=16, resize=20, resize_up_to=20)
    assert torch.equal(fixed(image, np.random.default_rng(0)), one(image, np.random.default_rng(0)))


def test_the_central_crop_is_central():
    image = Image.fromarray(np.tile(np.arange(40, dtype=np.uint8), (20, 1))[..., None].repeat(3, 2))
    assert center_crop(image, 10, 20)[0, 0].tolist() == list(range(15, 25))


def test_central_crops_are_central_and_half_are_mirrored():
    photo = noise(48, 40, 0)
    middle = center_crop(photo, 24, 40)
    crop = CentralCrop(size=24, resize=40)
    straight = [torch.equal(crop(photo, np.random.default_rng(seed)), middle) for seed in range(100)]
    assert 35 <= sum(straight) <= 65
    assert torch.equal(crop(photo, np.random.default_rng(straight.index(False))).flip(2), middle)
    assert torch.equal(replace(crop, flip=False)(photo, np.random.default_rng(0)), middle)


def test_lighting_shifts_colours_as_the_authors_do():
    """`lighting` of FAIR's data_transformation.py, one number at a time; its photos have values of 0..1."""
    vectors = [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
    values = [0.2175, 0.0188, 0.0045]
    photo = noise(16, 16, 0)
    crop = CentralCrop(size=16, resize=16, flip=False, lighting=0.1)
    for seed in range(10):
        factors = np.random.default_rng(seed).normal(0.0, 0.1, 3)
        expected = np.zeros((3, 16, 16))
        for channel in range(3):
            shift = 0.0
            for number in range(3):
                shift += vectors[channel][number] * factors[number] * values[number]
            expected[channel] = np.asarray(photo)[:, :, channel] / 255 + shift
        view = crop(photo, np.random.default_rng(seed)).numpy() / 255
        assert np.abs(view - np.clip(expected, 0, 1)).max() <= 0.5 / 255 + 1e-9


def ramp(width=120, height=80):
    """A photo whose red is its column and whose green is its row."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x, y, 0 * x], axis=2).astype(np.uint8))


def test_a_crop_of_the_square_stays_in_it():
    crop = RandomCrop(size=60, resize=80, flip=False, square=True)
    views = [crop(ramp(), np.random.default_rng(seed)) for seed in range(50)]
    columns = torch.stack([view[0] for view in views])
    assert columns.min() >= 20
    assert columns.max() < 100
    assert {int(view[0].min()) for view in views} >= {20, 39}


def window_of_the_layer(width, height, size, rng):
    """Left, top and scale of a window, as philkr/caffe draws them.

    ``generate`` of src/caffe/layers/transformation_layer.cpp, branch future (fb5f6cd), with the scales that
    src/train_cls.py of philkr/voc-classification gives it. It places the middle of the window.
    """
    greatest = min(2.0, min(height / size, width / size))
    scale = rng.uniform(min(0.5, greatest), greatest)
    middles = []
    for length in (width, height):
        free = length - min(size * scale, length)
        middles.append(length / 2 + rng.uniform(-free / 2, free / 2))
    return middles[0] - scale * size / 2, middles[1] - scale * size / 2, scale


def sampled_by_the_layer(pixels, left, top, scale, size):
    """A view of a (H, W) photo, as ``Forward_cpu`` of the same file samples it."""
    view = np.zeros((size, size))
    for y in range(size):
        for x in range(size):
            column, row = left + scale * x, top + scale * y
            x0, y0 = int(column), int(row)
            x1, y1 = min(x0 + 1, pixels.shape[1] - 1), min(y0 + 1, pixels.shape[0] - 1)
            right, below = column - x0, row - y0
            upper = (1 - right) * pixels[y0, x0] + right * pixels[y0, x1]
            lower = (1 - right) * pixels[y1, x0] + right * pixels[y1, x1]
            view[y, x] = (1 - below) * upper + below * lower
    return view


PERCENTILES = (5, 25, 50, 75, 95)


class TestWindows:
    """The crop of Kraehenbuehl et al., against the layer of their Caffe."""

    def windows(self, size, width, height, number):
        crop, image = RandomWindowCrop(size, size), Image.new("RGB", (width, height))
        return np.array([crop._box(image, np.random.default_rng(seed)) for seed in range(number)])

    @pytest.mark.parametrize(
        ("size", "width", "height"), [(227, 500, 375), (227, 333, 500), (227, 200, 300), (64, 500, 375)]
    )
    def test_they_are_drawn_as_the_layer_draws_them(self, size, width, height):
        left, top, right, bottom = self.windows(size, width, height, 5000).T
        np.testing.assert_allclose(right - left, bottom - top)
        rng = np.random.default_rng(0)
        expected = np.array([window_of_the_layer(width, height, size, rng) for _ in range(5000)]).T
        for ours, theirs in ((right - left, expected[2] * size), (left, expected[0]), (top, expected[1])):
            spread = np.ptp(theirs)
            assert np.percentile(ours, PERCENTILES) == pytest.approx(
                np.percentile(theirs, PERCENTILES), abs=0.03 * spread
            )
        assert min(left.min(), top.min()) >= 0
        assert right.max() <= width + 1e-9
        assert bottom.max() <= height + 1e-9

    @pytest.mark.parametrize("protocol", ["krahenbuhl2016", "deepcluster2018_fc6-8", "deepcluster2018_all"])
    def test_sides_on_photos_of_voc(self, protocol):
        view = build(PROTOCOLS[protocol].settings.view | {"flip": False}, VIEWS)
        half = np.arange(500) / 2
        image = Image.fromarray(np.broadcast_to(half[None, :, None], (375, 500, 3)).astype(np.uint8))
        rng = np.random.default_rng(0)
        rows = [view(image, rng)[0, 0].double() for _ in range(800)]
        # Columns of the photo, two a level, between the middles of the first and the last column of the view.
        sides = [2 * float(row[-1] - row[0]) * 227 / 226 for row in rows]
        assert np.percentile(sides, PERCENTILES) == pytest.approx([127, 180, 245, 310, 362], abs=15)

    def test_places_are_uniform(self):
        left, top, right, bottom = self.windows(227, 500, 375, 2000).T
        free = right - left < 370
        for start, end, length in ((left, right, 500), (top, bottom, 375)):
            shares = (start / (length - (end - start)))[free]
            assert np.histogram(shares, 4, (0, 1))[0] / len(shares) == pytest.approx([0.25] * 4, abs=0.03)

    @pytest.mark.parametrize(("width", "height"), [(113, 90), (60, 227), (1, 5)])
    def test_of_a_photo_below_half_the_view_they_have_the_shorter_side(self, width, height):
        left, top, right, bottom = self.windows(227, width, height, 50).T
        np.testing.assert_allclose(right - left, min(width, height))
        np.testing.assert_allclose(bottom - top, min(width, height))

    @pytest.mark.parametrize("scale", [0.4, 0.75, 1.0, 1.6, 2.0])
    def test_they_are_sampled_as_the_layer_does_but_for_half_a_pixel(self, scale):
        size, photo = 24, noise(70, 60, seed=1)
        crop = RandomWindowCrop(size, size, flip=False, scale=(scale, scale))
        for seed in range(3):
            left, top, _, _ = crop._box(photo, np.random.default_rng(seed))
            shift = (scale - 1) / 2
            pixels = np.pad(np.asarray(photo, dtype=float)[..., 0], 1, mode="edge")
            expected = sampled_by_the_layer(pixels, left + shift + 1, top + shift + 1, scale, size)
            view = crop(photo, np.random.default_rng(seed))
            # Whole levels, rounded down.
            assert np.abs(view[0].numpy() + 0.5 - expected).max() < 0.6


def test_a_resized_crop_covers_the_areas_and_shapes_it_says():
    crop = RandomResizedCrop(size=32, resize=36, flip=False, scale=(0.1, 0.5), ratio=(0.5, 2.0))
    areas, ratios = [], []
    for seed in range(300):
        left, top, right, bottom = crop._box(ramp(), np.random.default_rng(seed))
        assert 0 <= left < right <= 120
        assert 0 <= top < bottom <= 80
        areas.append((right - left) * (bottom - top) / (120 * 80))
        ratios.append((right - left) / (bottom - top))
    assert 0.09 < min(areas) < 0.13
    assert 0.45 < max(areas) < 0.52
    assert 0.47 < min(ratios) < 0.6
    assert 1.7 < max(ratios) < 2.1
    assert np.median(np.log(ratios)) == pytest.approx(0, abs=0.15)


def test_a_part_that_fits_nowhere_becomes_the_central_square():
    crop = RandomResizedCrop(size=32, resize=36, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    assert crop._box(ramp(), np.random.default_rng(0)) == (20, 0, 100, 80)


@pytest.mark.parametrize("kind", [RandomWindowCrop, RandomResizedCrop])
def test_half_of_the_views_are_mirrored(kind):
    crop = kind(size=32, resize=36)
    mirrored = [
        bool(v[0, 0, 0] > v[0, 0, -1]) for v in (crop(ramp(), np.random.default_rng(s)) for s in range(100))
    ]
    assert 35 <= sum(mirrored) <= 65


def test_both_pictures_are_cropped_at_the_same_place():
    first = noise(48, 40, 0)
    second = Image.fromarray(255 - np.asarray(first))
    joined = side_by_side(first, second)
    view = PairCrop(size=32, resize=40)
    seen = set()
    for seed in range(40):
        cropped = view(joined, np.random.default_rng(seed))
        left, right = halves(cropped[None])
        assert left.shape == (1, 3, 32, 32)
        assert torch.equal(left, 255 - right)
        places = [
            (x, y)
            for x in range(17)
            for y in range(9)
            if np.array_equal(left[0].permute(1, 2, 0), np.asarray(first)[y : y + 32, x : x + 32])
        ]
        assert len(places) == 1
        seen |= set(places)
    assert len(seen) > 20


def test_pictures_are_resized_first():
    joined = side_by_side(Image.new("RGB", (80, 60), "red"), Image.new("RGB", (80, 60), "blue"))
    left, right = halves(PairCrop(size=24, resize=30)(joined, np.random.default_rng(0))[None])
    assert (left == torch.tensor([255, 0, 0]).view(3, 1, 1)).all()
    assert (right == torch.tensor([0, 0, 255]).view(3, 1, 1)).all()


@pytest.mark.parametrize(
    ("kind", "arguments", "allowed"),
    [
        (RandomCrop, {"size": 64, "resize": 32}, "0 < size <= resize"),
        (RandomCrop, {"size": 32, "resize": 32, "min_scale": 0.0}, "0 < min_scale <= 1"),
        (RandomCrop, {"size": 32, "resize": 32, "resize_up_to": 31}, "resize <= resize_up_to"),
        (RandomCrop, {"resize": 32, "size": 32, "resize_up_to": 40, "min_scale": 0.5}, "min_scale=1"),
        (CentralCrop, {"size": 40, "resize": 32}, "0 < size <= resize"),
        (CentralCrop, {"size": 32, "resize": 32, "lighting": -0.1}, "lighting from 0 up"),
        (PairCrop, {"size": 40, "resize": 32}, "0 < size <= resize"),
        (RandomWindowCrop, {"size": 32, "resize": 30}, "0 < size <= resize"),
        (RandomWindowCrop, {"size": 32, "resize": 32, "scale": (2.0, 0.5)}, "from the least to the greatest"),
        (RandomResizedCrop, {"size": 32, "resize": 32, "scale": (0.0, 1.0)}, "0 < scale <= 1"),
        (RandomResizedCrop, {"size": 32, "resize": 32, "ratio": (2.0, 1.0)}, "0 < ratio"),
    ],
)
def test_impossible_crops_are_refused(kind, arguments, allowed):
    named = [f"{name}={value}" for name, value in arguments.items()]
    with refused(kind.__name__, *named, allowed=allowed):
        kind(**arguments)


LONG_AND_THIN = {
    "RandomCrop": RandomCrop(32, 32),
    "RandomCrop, scaled": RandomCrop(32, 32, min_scale=0.5),
    "RandomCrop, square": RandomCrop(32, 32, square=True),
    "RandomResizedCrop": RandomResizedCrop(32, 32),
    "RandomWindowCrop": RandomWindowCrop(32, 32),
    "PairCrop": PairCrop(32, 32),
    "center_crop": lambda image, rng: center_crop(image, 32, 32),
}


@pytest.mark.parametrize("view", LONG_AND_THIN.values(), ids=LONG_AND_THIN)
@pytest.mark.parametrize("size", [(2, 40000), (40000, 2)])
def test_a_long_thin_photo_takes_little_memory(view, size, monkeypatch):
    made = []
    resize = Image.Image.resize

    def watched(image, size, *args, **kwargs):
        made.append(size[0] * size[1])
        return resize(image, size, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", watched)
    monkeypatch.setattr("pretext.data.crops.MAX_RESIZED", 1 << 16)
    view = view(Image.new("RGB", size, (200, 30, 30)), np.random.default_rng(0))
    assert view.shape[1] == 32
    assert (view == torch.tensor([200, 30, 30]).view(3, 1, 1)).all()
    assert max(made, default=0) <= 1 << 16


def test_the_middle_of_a_photo_that_is_too_long_is_kept(monkeypatch):
    monkeypatch.setattr("pretext.data.crops.MAX_RESIZED", 4000)
    strip = ramp(250, 10)
    resized = resize_shorter_side(strip, 20)
    assert resized.size == (200, 20)
    expected = strip.crop((75, 0, 175, 10)).resize((200, 20), Image.Resampling.BILINEAR)
    assert np.array_equal(resized, expected)
    # What becomes smaller is as it was.
    assert resize_shorter_side(strip, 5).size == (125, 5)
