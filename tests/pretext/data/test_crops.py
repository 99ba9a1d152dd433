from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from refusals import refused

from pretext.data.crops import (
    CentralCrop,
    PairCrop,
    RandomCrop,
    RandomResizedCrop,
    RandomScaleCrop,
    center_crop,
    resize_shorter_side,
)
from pretext.data.pairs.pair_list import halves, side_by_side


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


@pytest.mark.parametrize("size", [40, 100])
def test_a_scaled_crop_shows_as_much_as_its_scale_says(size):
    crop = RandomScaleCrop(size=size, resize=size, flip=False, scale=(0.5, 2.0))
    widths = []
    for seed in range(200):
        view = crop(ramp(), np.random.default_rng(seed)).float()
        assert view.shape == (3, size, size)
        # Columns of the photo between the middles of the first and the last column of the view.
        widths.append(float(view[0, 0, -1] - view[0, 0, 0]) * size / (size - 1))
    least, most = size / 2, min(2 * size, 80)
    assert min(widths) == pytest.approx(least, rel=0.1)
    assert max(widths) == pytest.approx(most, rel=0.05)
    # The factor is uniform: three in four are between 0.875 and 2 (unless the photo is too small).
    share = np.mean([width < size / 0.875 + 1.5 for width in widths])
    assert share == pytest.approx(0.75 if size == 40 else 1.0, abs=0.08)


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


@pytest.mark.parametrize("kind", [RandomScaleCrop, RandomResizedCrop])
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
        (CentralCrop, {"size": 40, "resize": 32}, "0 < size <= resize"),
        (CentralCrop, {"size": 32, "resize": 32, "lighting": -0.1}, "lighting from 0 up"),
        (PairCrop, {"size": 40, "resize": 32}, "0 < size <= resize"),
        (RandomScaleCrop, {"size": 32, "resize": 30}, "0 < size <= resize"),
        (RandomScaleCrop, {"size": 32, "resize": 32, "scale": (2.0, 0.5)}, "from the least to the greatest"),
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
    "RandomScaleCrop": RandomScaleCrop(32, 32),
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
