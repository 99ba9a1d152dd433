import pytest
import torch
from points import Points, points_job
from torch import distributed as dist

from pretext.distributed import on_first
from transfer.training.finetuning import fine_tune, gather


@pytest.fixture
def job(tmp_path):
    return lambda **overrides: points_job(tmp_path, **overrides)


def test_biases_learn_twice_as_fast_and_do_not_decay(job):
    model = torch.nn.Linear(1, 1)
    torch.nn.init.ones_(model.weight)
    torch.nn.init.ones_(model.bias)
    # Two steps, at rates of 0.1 and 0.05, with a gradient of 1 for the bias and 0 for the weight.
    fine_tune(model, Points(), lambda model, batch: model.bias.sum() + 0 * model.weight.sum(), job(), "test")
    assert model.bias.item() == pytest.approx(1 - 0.2 - 0.1)
    assert model.weight.item() == pytest.approx((1 - 0.1 * 0.5) * (1 - 0.05 * 0.5))
    assert not model.training


def test_gradients_are_clipped_over_all_weights(job):
    model = torch.nn.Linear(1, 1)
    before = torch.cat([model.weight.flatten(), model.bias]).detach()
    optimizer = {"type": "SGD", "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0}
    steps = job(optimizer=optimizer, bias_lr_factor=1.0, max_grad_norm=1.0, batch_size=6)
    fine_tune(
        model, Points(), lambda model, batch: 30 * model.bias.sum() + 40 * model.weight.sum(), steps, "test"
    )
    moved = torch.cat([model.weight.flatten(), model.bias]).detach() - before
    torch.testing.assert_close(moved, torch.tensor([-0.8, -0.6]))


def test_random_numbers_of_a_step_follow_from_the_seed(job):
    def drawn():
        numbers = []
        model = torch.nn.Linear(1, 1)

        def loss_of(model, batch):
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
    fine_tune(model, Points(), lambda model, batch: (model(batch) - 3).square().mean(), job, "test")
    result = [
        *model.state_dict().values(),
        torch.tensor(gather([rank])),
        torch.tensor(on_first(lambda: rank)),
    ]
    torch.save(result, folder / f"{world_size}_{rank}.pt")
    if world_size > 1:
        dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore:.broadcast_buffers. is deprecated:FutureWarning")
def test_two_processes_train_as_one_does(job, tmp_path):
    optimizer = {"type": "SGD", "lr": 0.02, "momentum": 0.9, "weight_decay": 0.0}
    train_on_share(0, 1, job(optimizer=optimizer, epochs=3, batch_size=6), tmp_path)
    # This process is the first of the two: another takes seconds to start.
    share = (2, job(optimizer=optimizer, epochs=3, batch_size=3), tmp_path)
    second = torch.multiprocessing.get_context("spawn").Process(target=train_on_share, args=(1, *share))
    second.start()
    try:
        train_on_share(0, *share)
        second.join()
    finally:
        second.kill()
    assert second.exitcode == 0
    one, first, second = (torch.load(tmp_path / f"{name}.pt") for name in ("1_0", "2_0", "2_1"))
    assert one[2].tolist() == [0]
    assert first[2].tolist() == second[2].tolist() == [0, 1]
    assert first[3].item() == second[3].item() == 0
    for expected, *received in zip(one[:2], first[:2], second[:2], strict=True):
        for value in received:
            torch.testing.assert_close(value, expected)
    assert one[0].item() != 1


@pytest.mark.parametrize("kind", ["Constant", "Cosine", "Poly", "Step"])
def test_every_schedule_reaches_the_end(job, kind):
    model = torch.nn.Linear(1, 1)
    settings = job(schedule={"type": kind, "warmup": 0.2}, epochs=3)
    fine_tune(model, Points(), lambda model, batch: model(batch).square().mean(), settings, "test")
    assert torch.isfinite(model.weight).all()
