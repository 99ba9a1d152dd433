import traceback

import numpy as np
import pytest
import torch
from made_photos import Memory
from refusals import refused
from torch.utils.data import DataLoader

from pretext.data.crops import RandomCrop, center_crop
from pretext.data.sampling import Draw
from pretext.data.views import CentralViews, PretrainingViews, collate
from pretext.errors import InputError


def views(count=24, broken=()):
    return PretrainingViews(Memory(count, broken), np.arange(count), RandomCrop(size=32, resize=36), seed=0)


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
    with refused("24 photos", received="first photo3 (broken)", allowed="JPEG, PNG and WebP"):
        views(broken=range(24))[Draw(0, 3)]


def test_an_error_in_a_worker_says_no_more_than_its_own_message():
    views = PretrainingViews(Memory(1, broken=[0]), np.arange(1), RandomCrop(8, 8), 0)
    with pytest.raises(InputError) as here:
        views[Draw(0, 0)]
    with pytest.raises(InputError) as there:
        next(iter(DataLoader(views, sampler=[Draw(0, 0)], num_workers=1)))
    assert str(there.value) == str(here.value)
    # The worker ends now; the garbage collector would wait for it for five seconds.
    traceback.clear_frames(there.tb)
