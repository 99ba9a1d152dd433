import numpy as np
import torch
from made_photos import Memory
from refusals import refused
from torch.utils.data import DataLoader

from pretext.data.crops import RandomCrop
from pretext.data.sampling import Draw, EpochSampler
from pretext.data.views import PretrainingViews, collate


def views(seed=0):
    return PretrainingViews(Memory(24), np.arange(24), RandomCrop(size=32, resize=36), seed)


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


def test_batches_that_photos_do_not_fill_are_refused():
    with refused("batch_size=16", "2 processes", received="24 photos"):
        EpochSampler(24, 16, 0, 0, 2)
