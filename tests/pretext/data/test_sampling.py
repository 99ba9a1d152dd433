from collections import Counter

import numpy as np
import pytest
import torch
from made_photos import Memory
from refusals import refused
from torch.utils.data import DataLoader

from pretext.data.crops import RandomCrop
from pretext.data.sampling import Draw, EpochLoader, EpochSampler, draw_rng, times_before
from pretext.data.views import PretrainingViews, collate


def views(seed=0):
    return PretrainingViews(Memory(24), np.arange(24), RandomCrop(size=32, resize=36), seed)


def few(rng):
    """An order of 24 photos with repetitions: of photos 0 to 7 alone."""
    return rng.integers(8, size=24)


def take(batches, steps, workers=0, **options):
    sampler = EpochSampler(24, **({"batch_size": 4, "seed": 0} | options))
    sampler.skip(batches * sampler.batch_size)
    kind = EpochLoader if sampler.order else DataLoader
    loader = iter(
        kind(views(), batch_size=sampler.batch_size, sampler=sampler, num_workers=workers, collate_fn=collate)
    )
    return [next(loader) for _ in range(steps)]


def equal(some, others):
    return len(some) == len(others) and all(
        torch.equal(one[key], other[key])
        for one, other in zip(some, others, strict=True)
        for key in ("image", "index")
    )


def test_a_draw_is_a_function_of_seed_epoch_and_index():
    sample = views()[Draw(3, 7)]
    assert torch.equal(sample["image"], views()[Draw(3, 7)]["image"])
    assert not torch.equal(sample["image"], views()[Draw(4, 7)]["image"])
    assert not torch.equal(sample["image"], views(seed=1)[Draw(3, 7)]["image"])


def test_a_photo_that_comes_again_is_cropped_anew():
    first, again = views()[Draw(3, 7)], views()[Draw(3, 7, repeat=1)]
    assert first["index"] == again["index"] == 7
    assert not torch.equal(first["image"], again["image"])
    assert draw_rng(5, Draw(3, 7)).random() == np.random.default_rng((5, 3, 7)).random()
    seen = {draw_rng(2**40, Draw(3, 7, repeat)).random() for repeat in range(5)}
    assert len(seen) == 5


@pytest.mark.parametrize("order", [None, few])
def test_workers_do_not_change_what_is_seen(order):
    assert equal(take(0, 14, workers=0, order=order), take(0, 14, workers=2, order=order))


@pytest.mark.parametrize("order", [None, few])
@pytest.mark.parametrize("begin", range(14))
def test_starting_anywhere_sees_what_an_unbroken_run_sees(order, begin):
    # Of 6 batches an epoch.
    assert equal(take(0, 14, order=order)[begin:], take(begin, 14 - begin, order=order))


@pytest.mark.parametrize("order", [None, few])
def test_two_processes_see_together_what_one_sees(order):
    one = take(0, 9, batch_size=8, order=order)
    halves = [take(0, 9, batch_size=4, rank=rank, world_size=2, order=order) for rank in range(2)]
    for whole, first, second in zip(one, *halves, strict=True):
        assert torch.equal(whole["image"], torch.cat([first["image"], second["image"]]))


def test_each_epoch_sees_every_photo_once_in_another_order():
    epochs = [torch.cat([batch["index"] for batch in take(6 * e, 6)]) for e in range(2)]
    assert not torch.equal(*epochs)
    for epoch in epochs:
        assert sorted(epoch.tolist()) == list(range(24))


def test_each_epoch_sees_the_order_it_is_given():
    seen = torch.cat([batch["index"] for batch in take(0, 12, order=few)]).tolist()
    expected = [few(np.random.default_rng((0, epoch))).tolist() for epoch in range(2)]
    assert seen == expected[0] + expected[1]


def test_every_repetition_has_its_number():
    values = np.random.default_rng(0).integers(5, size=60)
    counts = Counter()
    for value, times in zip(values.tolist(), times_before(values).tolist(), strict=True):
        assert times == counts[value]
        counts[value] += 1
    assert times_before(np.arange(9)[::-1]).tolist() == [0] * 9


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epochs_order_is_asked_for_after_the_epoch_before(workers):
    taken, asked = [], []

    def order(rng):
        asked.append(len(taken))
        return rng.permutation(24)

    sampler = EpochSampler(24, 4, 0, order=order)
    loader = EpochLoader(
        views(),
        batch_size=4,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=collate,
    )
    batches = iter(loader)
    for _ in range(15):
        taken.append(next(batches))
    assert asked == [0, 6, 12]


def test_batches_that_photos_do_not_fill_are_refused():
    with refused("batch_size=16", "2 processes", received="24 photos to train on"):
        EpochSampler(24, 16, 0, 0, 2)
