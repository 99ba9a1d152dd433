import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from pretext.data.crops import RandomCrop, center_crop
from pretext.data.sampling import Draw, EpochSampler
from pretext.data.views import CentralViews, PretrainingViews, collate
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
        expected = center_crop(photos.image(sample["index"]), 32, 36)
        assert torch.equal(sample["image"], expected)


def test_only_unreadable_photos_end_in_an_error():
    with pytest.raises(InputError, match="24 photos in a row are unreadable, first photo3"):
        views(broken=range(24))[Draw(0, 3)]


def test_batches_that_photos_do_not_fill_are_refused():
    with pytest.raises(InputError, match="24 photos do not fill one batch of 16 on each of 2 processes"):
        EpochSampler(24, 16, 0, 0, 2)


def test_an_error_in_a_worker_says_no_more_than_its_own_message():
    views = PretrainingViews(Memory(1, broken=[0]), np.arange(1), RandomCrop(8, 8), 0)
    with pytest.raises(InputError) as caught:
        next(iter(DataLoader(views, sampler=[Draw(0, 0)], num_workers=1)))
    assert str(caught.value).startswith("1 photos in a row are unreadable, first ")
    assert str(caught.value).endswith("allowed are whole JPEG, PNG and WebP files")
