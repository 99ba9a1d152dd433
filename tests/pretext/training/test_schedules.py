import pytest
import torch
from mmengine.hooks import Hook
from refusals import refused

from pretext.training import engine
from pretext.training.engine import pretrain
from pretext.training.schedules import check_schedule, schedulers, total_steps


def rates(schedule, steps):
    """The rate of each step by the schedulers of a schedule, which begins at 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
    built = [part.pop("type")(optimizer, **part) for part in schedulers(schedule, steps)]
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in built:
            scheduler.step()
    return found


def test_a_run_follows_its_schedule(tiny_config, photo_folder, tmp_path, monkeypatch):
    seen = []
    config = tiny_config("colorization", "steps=10", "schedule.name=step", "schedule.warmup=0.2")
    config["schedule"]["milestones"] = ((5, 0.5), (8, 0.1))

    class Watch(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            seen.append(runner.optim_wrapper.get_lr()["lr"][0])

    original = engine._hooks
    monkeypatch.setattr(engine, "_hooks", lambda *args: [*original(*args), Watch()])
    pretrain(config, work_dir=tmp_path / "run", data=str(photo_folder))
    assert seen[0] == pytest.approx(1e-5)
    assert seen[2:] == pytest.approx([1e-3] * 3 + [5e-4] * 3 + [5e-5] * 2)


def test_a_cosine_falls_to_zero_after_the_warm_up():
    found = rates({"name": "cosine", "warmup": 0.2, "milestones": ()}, 10)
    assert found[0] == pytest.approx(0.01)
    assert found[2] == pytest.approx(1)
    assert found[6] == pytest.approx(0.5)
    assert found == found[:2] + sorted(found[2:], reverse=True)
    assert found[-1] < 0.05


def test_a_power_falls_with_the_steps_that_are_left():
    found = rates({"name": "poly", "warmup": 0.0, "power": 0.5}, 4)
    assert found == pytest.approx([(left / 3) ** 0.5 for left in (3, 2, 1, 0)])


def test_a_constant_rate_stays_and_a_warm_up_of_one_step_is_none():
    assert rates({"name": "constant", "warmup": 0.1}, 10) == [1] * 10


@pytest.mark.parametrize(("steps", "epochs", "expected"), [(7, None, 7), (None, 2, 20)])
def test_steps_of_a_run(steps, epochs, expected):
    assert total_steps({"steps": steps, "epochs": epochs}, 10) == expected


@pytest.mark.parametrize(("steps", "epochs"), [(None, None), (3, 2)])
def test_a_run_has_either_steps_or_epochs(steps, epochs):
    with refused("steps", "epochs", received=f"steps={steps} and epochs={epochs}"):
        total_steps({"steps": steps, "epochs": epochs}, 10)


@pytest.mark.parametrize("key", ["steps", "epochs"])
def test_a_run_has_at_least_one_step(key):
    with refused(key, received=0):
        total_steps({"steps": None, "epochs": None} | {key: 0}, 10)


def test_schedules_are_checked():
    check_schedule({"name": "poly", "warmup": 0.0}, ("poly", "step"))
    with refused("schedule", received="cosine", allowed=("poly", "step")):
        check_schedule({"name": "cosine", "warmup": 0.0}, ("poly", "step"))
    for share in (-0.1, 1.0):
        with refused("schedule.warmup", received=share):
            check_schedule({"name": "poly", "warmup": share}, ("poly", "step"))
