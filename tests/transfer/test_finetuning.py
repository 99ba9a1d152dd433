import math

import pytest
import torch
from torch import distributed as dist
from torch import nn
from torch.optim import SGD, AdamW
from torch.utils.data import Dataset

from transfer.finetuning import fine_tune, gather, rate_factor
from transfer.resume import resumable
from transfer.stage import Job


class Points(Dataset):
    """Number i of an epoch is the point i."""

    def __len__(self):
        return 6

    def __getitem__(self, draw):
        return torch.tensor([float(draw.index)])


@pytest.fixture
def job(tmp_path):
    def make(**overrides):
        config = {
            "epochs": 1,
            "steps": None,
            "scale": 1.0,
            "decay_biases": False,
            "batch_size": 3,
            "workers": 0,
            "checkpoint_interval": 2,
            "optimizer": {"type": SGD, "lr": 0.1, "momentum": 0.0, "weight_decay": 0.5},
            "bias_lr_factor": 2.0,
            "max_grad_norm": 100.0,
            "schedule": {"name": "step", "warmup": 0.0, "decay": 0.5, "stages": 2},
        }
        return Job(config | overrides, "random:alexnet", tmp_path, 0, tmp_path, torch.device("cpu"))

    return make


def test_a_step_schedule_has_equal_parts():
    schedule = {"name": "step", "warmup": 0.0, "decay": 0.5, "stages": 4}
    assert [rate_factor(step, 8, schedule) for step in range(9)] == [
        1,
        1,
        0.5,
        0.5,
        *[0.25] * 2,
        *[0.125] * 3,
    ]


def test_a_last_part_may_be_shorter():
    schedule = {"name": "step", "warmup": 0.0, "decay": 0.5, "stages": 2.5}
    assert [rate_factor(step, 5, schedule) for step in range(6)] == [1, 1, 0.5, 0.5, 0.25, 0.25]


def test_a_cosine_schedule_warms_up_and_falls_to_zero():
    schedule = {"name": "cosine", "warmup": 0.2}
    factors = [rate_factor(step, 10, schedule) for step in range(11)]
    assert factors[:3] == [0.5, 1, 1]
    assert factors[6] == pytest.approx((1 + math.cos(math.pi / 2)) / 2)
    assert factors[10] == 0


def test_biases_learn_twice_as_fast_and_do_not_decay(job):
    model = torch.nn.Linear(1, 1)
    torch.nn.init.ones_(model.weight)
    torch.nn.init.ones_(model.bias)
    # Two steps, at rates of 0.1 and 0.05, with a gradient of 1 for the bias and 0 for the weight.
    fine_tune(model, Points(), lambda batch: model.bias.sum() + 0 * model.weight.sum(), job(), "test")
    assert model.bias.item() == pytest.approx(1 - 0.2 - 0.1)
    assert model.weight.item() == pytest.approx((1 - 0.1 * 0.5) * (1 - 0.05 * 0.5))
    assert not model.training


def test_gradients_are_clipped_over_all_weights(job):
    model = torch.nn.Linear(1, 1)
    before = torch.cat([model.weight.flatten(), model.bias]).detach()
    optimizer = {"type": SGD, "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0}
    steps = job(optimizer=optimizer, bias_lr_factor=1.0, max_grad_norm=1.0, batch_size=6)
    fine_tune(model, Points(), lambda batch: 30 * model.bias.sum() + 40 * model.weight.sum(), steps, "test")
    moved = torch.cat([model.weight.flatten(), model.bias]).detach() - before
    torch.testing.assert_close(moved, torch.tensor([-0.8, -0.6]))


def test_random_numbers_of_a_step_follow_from_the_seed(job):
    def drawn():
        numbers = []
        model = torch.nn.Linear(1, 1)

        def loss_of(batch):
            numbers.append((batch.tolist(), torch.rand(()).item()))
            return model(batch).mean()

        fine_tune(model, Points(), loss_of, job(epochs=2), "test")
        return numbers

    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = drawn()
        torch.manual_seed(2)
        assert drawn() == first
        assert len({number for _, number in first}) == 4
        seen = [point for batch, _ in first[:2] for (point,) in batch]
        assert sorted(seen) == [0, 1, 2, 3, 4, 5]


def train_on_share(rank, world_size, job, folder):
    """One process of ``world_size``; writes the weights, and what all have gathered."""
    if world_size > 1:
        dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=world_size)
    model = torch.nn.Linear(1, 1)
    torch.nn.init.ones_(model.weight)
    torch.nn.init.zeros_(model.bias)
    fine_tune(model, Points(), lambda batch: (model(batch) - 3).square().mean(), job, "test")
    result = [*model.state_dict().values(), torch.tensor(gather([rank]))]
    torch.save(result, folder / f"{world_size}_{rank}.pt")
    if world_size > 1:
        dist.destroy_process_group()


def test_two_processes_train_as_one_does(job, tmp_path):
    optimizer = {"type": SGD, "lr": 0.02, "momentum": 0.9, "weight_decay": 0.0}
    train_on_share(0, 1, job(optimizer=optimizer, epochs=3, batch_size=6), tmp_path)
    torch.multiprocessing.spawn(
        train_on_share, (2, job(optimizer=optimizer, epochs=3, batch_size=3), tmp_path), nprocs=2
    )
    one, first, second = (torch.load(tmp_path / f"{name}.pt") for name in ("1_0", "2_0", "2_1"))
    assert one[2].tolist() == [0]
    assert first[2].tolist() == second[2].tolist() == [0, 1]
    for expected, *received in zip(one[:2], first[:2], second[:2], strict=True):
        for value in received:
            torch.testing.assert_close(value, expected)
    assert one[0].item() != 1


def test_an_interrupted_run_goes_on_and_ends_alike(job):
    def run(stop=None):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(1, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 1))
        seen = []

        def loss_of(batch):
            if len(seen) == stop:
                raise KeyboardInterrupt
            seen.append(batch)
            return (model(batch) - batch).square().mean()

        words = job(epochs=4, optimizer={"type": AdamW, "lr": 0.1})
        with resumable(words, "a" * 64) as unfinished:
            fine_tune(model, Points(), loss_of, words, "test", unfinished=unfinished)
        return model.state_dict(), len(seen)

    whole, steps = run()
    assert steps == 8
    with pytest.raises(KeyboardInterrupt):
        run(stop=5)
    resumed, rest = run()
    # The state was written after every second step.
    assert rest == 4
    assert all(torch.equal(whole[name], value) for name, value in resumed.items())
    assert run()[1] == 8


def test_another_run_does_not_go_on_there(job):
    def begin():
        with resumable(job(), "a" * 64) as unfinished:
            unfinished.save(2, model=nn.Linear(1, 1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begin()
    for other, identity in ((job(), "b"), (job(epochs=2), "a")):
        with resumable(other, identity * 64) as unfinished:
            assert unfinished.restore(model=nn.Linear(1, 1)) == (0, None)
    with resumable(job(workers=3, checkpoint_interval=7), "a" * 64) as unfinished:
        assert unfinished.restore(model=nn.Linear(1, 1)) == (2, None)
