import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from pretext.data.photos import decode_rgb
from pretext.data.views import (
    CentralViews,
    Draw,
    EpochSampler,
    PretrainingViews,
    RandomCrop,
    RandomResizedCrop,
    RandomScaleCrop,
    center_crop,
    collate,
)
from pretext.errors import InputError


class Memory:
    """Photos in memory, the ones in ``broken`` unreadable."""

    def __init__(self, count, broken=()):
        self.count, self.broken = count, set(broken)

    def __len__(self):
        return self.count

    def name(self, index):
        return f"photo{index}"

    def read(self, index):
        if index in self.broken:
            return b"broken"
        buffer = io.BytesIO()
        pixels = np.random.default_rng(index).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(buffer, format="PNG")
        return buffer.getvalue()


def views(count=24, broken=(), seed=0):
    return PretrainingViews(Memory(count, broken), np.arange(count), RandomCrop(size=32, resize=36), seed)


def take(batches, steps, workers=0, **options):
    sampler = EpochSampler(24, **({"batch_size": 4, "seed": 0} | options))
    sampler.skip(batches * sampler.batch_size)
    loader = iter(
        DataLoader(
            views(), batch_size=sampler.batch_size, sampler=sampler, num_workers=workers, collate_fn=collate
        )
    )
    return [next(loader) for _ in range(steps)]


def test_a_draw_is_a_function_of_seed_epoch_and_index():
    sample = views()[Draw(3, 7)]
    assert torch.equal(sample["image"], views()[Draw(3, 7)]["image"])
    assert not torch.equal(sample["image"], views()[Draw(4, 7)]["image"])
    assert not torch.equal(sample["image"], views(seed=1)[Draw(3, 7)]["image"])


def test_workers_do_not_change_what_is_seen():
    for one, other in zip(take(0, 8, workers=0), take(0, 8, workers=2), strict=True):
        assert torch.equal(one["image"], other["image"])


def test_starting_in_mid_epoch_sees_what_an_unbroken_run_sees():
    whole = take(0, 14)
    for one, other in zip(whole[8:], take(8, 6), strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["index"], other["index"])


def test_two_processes_see_together_what_one_sees():
    one = take(0, 9, batch_size=8)
    halves = [take(0, 9, batch_size=4, rank=rank, world_size=2) for rank in range(2)]
    for whole, first, second in zip(one, *halves, strict=True):
        assert torch.equal(whole["image"], torch.cat([first["image"], second["image"]]))


def test_each_epoch_sees_every_photo_once_in_another_order():
    epochs = [torch.cat([batch["index"] for batch in take(6 * e, 6)]) for e in range(2)]
    assert not torch.equal(*epochs)
    for epoch in epochs:
        assert sorted(epoch.tolist()) == list(range(24))


def test_an_unreadable_photo_is_replaced_and_reported():
    data = views(broken=[5, 6])
    sample = data[Draw(0, 5)]
    assert [name for name, _ in sample["unreadable"]] == ["photo5", "photo6"]
    # The photo that stands in its place.
    assert sample["index"] == 7
    assert collate([sample, data[Draw(0, 1)]])["unreadable"] == sample["unreadable"]


def test_central_views_are_all_photos_in_their_order():
    photos, chosen = Memory(12, broken=[5]), np.arange(1, 12, 2)
    central = CentralViews(PretrainingViews(photos, chosen, RandomCrop(size=32, resize=36), seed=0))
    samples = [central[position] for position in range(len(central))]
    # Photo 7 stands in for photo 5, which cannot be read.
    assert [sample["index"] for sample in samples] == [1, 3, 7, 7, 9, 11]
    assert [name for sample in samples for name, _ in sample["unreadable"]] == ["photo5"]
    for sample in samples:
        expected = center_crop(decode_rgb(photos.read(sample["index"])), 32, 36)
        assert torch.equal(sample["image"], expected)


def test_only_unreadable_photos_end_in_an_error():
    with pytest.raises(InputError, match="24 photos in a row are unreadable, first photo3"):
        views(broken=range(24))[Draw(0, 3)]


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


def test_impossible_crops_and_batches_are_refused():
    with pytest.raises(InputError, match="0 < size <= resize"):
        RandomCrop(size=64, resize=32)
    with pytest.raises(InputError, match="24 photos do not fill one batch of 16 on each of 2 processes"):
        EpochSampler(24, 16, 0, 0, 2)


def test_an_error_in_a_worker_says_no_more_than_its_own_message():
    views = PretrainingViews(Memory(1, broken=[0]), np.arange(1), RandomCrop(8, 8), 0)
    with pytest.raises(InputError) as caught:
        next(iter(DataLoader(views, sampler=[Draw(0, 0)], num_workers=1)))
    assert str(caught.value).startswith("1 photos in a row are unreadable, first ")
    assert str(caught.value).endswith("allowed are whole JPEG, PNG and WebP files")


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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomScaleCrop(size=32, resize=30), "0 < size <= resize"),
        (lambda: RandomScaleCrop(size=32, resize=32, scale=(2.0, 0.5)), "from the least to the greatest"),
        (lambda: RandomResizedCrop(size=32, resize=32, scale=(0.0, 1.0)), "0 < scale <= 1"),
        (lambda: RandomResizedCrop(size=32, resize=32, ratio=(2.0, 1.0)), "0 < ratio"),
    ],
)
def test_impossible_crops_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
