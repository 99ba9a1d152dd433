"""Schedules against the formulas of the runs before them, written out as they were."""

import math

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import CosineAnnealingLR, LinearLR, MultiStepLR, PolyLR
from refusals import refused

from pretext.training import engine
from pretext.training.engine import pretrain
from pretext.training.schedules import (
    SCHEDULES,
    Bottou,
    Constant,
    Cosine,
    Poly,
    Step,
    make_schedule,
    run_length,
    total_steps,
)

LENGTHS = (1, 2, 3, 7, 13, 100, 777)
WARMUPS = (0.0, 0.05, 0.1, 0.7)


def factors(schedule, steps):
    return [schedule.factor(step, steps) for step in range(steps)]


def rates(parts, steps):
    """The rate of each step by schedulers of mmengine, which begin at 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
    built = [part.pop("type")(optimizer, by_epoch=False, **part) for part in parts]
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in built:
            scheduler.step()
    return found


def with_warmup(warmup, steps, **after):
    """A warm-up from a hundredth, as pretraining and segmentation had it, and what follows."""
    length = round(warmup * steps)
    length = length if length > 1 else 0
    first = [{"type": LinearLR, "start_factor": 0.01, "end": length}] if length else []
    return first + ([after | {"begin": length, "end": steps}] if after else [])


class TestAgainstTheFormulasBefore:
    @pytest.mark.parametrize("steps", LENGTHS)
    @pytest.mark.parametrize("warmup", WARMUPS)
    @pytest.mark.parametrize(
        ("schedule", "after"),
        [
            (Cosine, {"type": CosineAnnealingLR}),
            (Poly, {"type": PolyLR, "power": 0.9}),
            (Constant, {}),
        ],
    )
    def test_pretraining_and_segmentation(self, schedule, after, warmup, steps):
        expected = rates(with_warmup(warmup, steps, **after), steps)
        found = factors(schedule(warmup=warmup, warmup_start=0.01), steps)
        assert found == pytest.approx(expected, rel=0, abs=1e-12)

    def test_milestones_of_pretraining(self):
        """Each multiplied the rate there was."""
        old = ((240, 1 / 3), (300, 0.3), (400, 1 / 3))
        expected = rates([{"type": MultiStepLR, "milestones": [s], "gamma": f} for s, f in old], 450)
        schedule = Step(milestones=(240 / 450, 300 / 450, 400 / 450), factors=(1 / 3, 0.1, 0.1 / 3))
        assert factors(schedule, 450) == pytest.approx(expected, rel=0, abs=1e-12)

    @pytest.mark.parametrize("steps", LENGTHS)
    @pytest.mark.parametrize("warmup", WARMUPS)
    def test_cosine_of_fine_tuning(self, warmup, steps):
        length = round(warmup * steps)
        expected = [
            (step + 1) / length
            if step < length
            else (1 + math.cos(math.pi * ((step - length) / max(steps - length, 1)))) / 2
            for step in range(steps)
        ]
        assert factors(Cosine(warmup=warmup), steps) == expected

    @pytest.mark.parametrize(("parts", "decay"), [(8, 0.5), (30, 0.5), (7.5, 0.5), (3, 0.1)])
    @pytest.mark.parametrize("steps", [*LENGTHS, 15_000])
    def test_equal_parts_of_fine_tuning(self, parts, decay, steps):
        expected = [decay ** min(int(step / steps * parts), math.ceil(parts) - 1) for step in range(steps)]
        numbers = range(1, math.ceil(parts))
        schedule = Step(
            milestones=tuple(n / parts for n in numbers),
            factors=tuple(decay**n for n in numbers),
            rounding="up",
        )
        assert factors(schedule, steps) == expected

    @pytest.mark.parametrize("steps", LENGTHS)
    def test_milestones_of_the_probe(self, steps):
        table = ((2 / 7, 0.1), (4 / 7, 0.01), (6 / 7, 0.001))
        expected = [1.0] * steps
        for share, factor in table:
            begin = round(share * steps)
            expected[begin:] = [factor] * (steps - begin)
        milestones, after = zip(*table, strict=True)
        assert factors(Step(milestones=milestones, factors=after), steps) == expected

    @pytest.mark.parametrize(("scale", "steps"), [(1.0, 100), (0.5, 50), (0.01, 3)])
    def test_bottou_is_the_square_root_of_the_steps_of_the_whole_schedule(self, scale, steps):
        schedule = Bottou().fitted({"lr": 0.01, "weight_decay": 0.5}, scale)
        expected = [(1 + 0.01 * 0.5 * (step / scale)) ** -0.5 for step in range(steps)]
        assert factors(schedule, steps) == expected


def test_a_run_follows_its_schedule(tiny_config, photo_folder, tmp_path, monkeypatch):
    seen = []
    config = tiny_config("colorization", "steps=10")
    config["schedule"] = {
        "type": "Step", "warmup": 0.2, "warmup_start": 0.01, "milestones": (0.5, 0.8), "factors": (0.5, 0.05),
    }  # fmt: skip

    class Watch(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            seen.append(runner.optim_wrapper.get_lr()["lr"][0])

    original = engine._hooks
    monkeypatch.setattr(engine, "_hooks", lambda *args: [*original(*args), Watch()])
    pretrain(config, work_dir=tmp_path / "run", data=str(photo_folder))
    assert seen[0] == pytest.approx(1e-5)
    assert seen[1:] == pytest.approx([1e-3] * 4 + [5e-4] * 3 + [5e-5] * 2)


def test_a_cosine_falls_to_zero_after_the_warm_up():
    found = factors(Cosine(warmup=0.2, warmup_start=0.01), 10)
    assert found[:3] == pytest.approx([0.01, 1, 1])
    assert found[6] == pytest.approx(0.5)
    assert found[2:] == sorted(found[2:], reverse=True)
    assert 0 < found[-1] < 0.05


def test_a_power_falls_with_the_steps_that_are_left():
    assert factors(Poly(power=0.5), 4) == pytest.approx([(left / 3) ** 0.5 for left in (3, 2, 1, 0)])


def test_a_warm_up_of_one_step_that_would_never_end_is_none():
    assert factors(Constant(warmup=0.1, warmup_start=0.01), 10) == [1] * 10


def test_milestones_between_steps_fall_on_the_nearest_or_the_next():
    table = {"milestones": (0.5,), "factors": (0.1,)}
    assert factors(Step(**table), 5) == [1, 1, *[0.1] * 3]
    assert factors(Step(**table, rounding="up"), 5) == [1, 1, 1, *[0.1] * 2]


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_what_its_config_says(name):
    given = {"Step": {"milestones": [0.5], "factors": [0.1]}, "Poly": {"power": 2.0}}.get(name, {})
    schedule = make_schedule({"type": name, "warmup": 0.1, **given})
    assert make_schedule(schedule.spec()) == schedule
    assert schedule.spec().items() >= {"type": name, "warmup": 0.1, "warmup_start": None}.items()


def test_without_a_warm_up_its_start_says_nothing():
    assert Cosine(warmup_start=0.01) == Cosine()


@pytest.mark.parametrize(
    ("spec", "names", "fields"),
    [
        ({"type": "Linear"}, ["schedule"], {"received": "Linear", "allowed": tuple(SCHEDULES)}),
        ({"type": "Cosine", "warmup": 1.0}, ["schedule.warmup"], {"received": 1.0}),
        ({"type": "Cosine", "warmup": -0.1}, ["schedule.warmup"], {"received": -0.1}),
        ({"type": "Cosine", "warmup": 0.1, "warmup_start": 2}, ["schedule.warmup_start"], {"received": 2}),
        ({"type": "Cosine", "power": 2.0}, ["Cosine", "power"], {}),
        ({"type": "Poly", "power": -1.0}, ["schedule.power"], {"received": -1.0}),
        ({"type": "Step", "milestones": (0.5,)}, ["schedule.milestones", "schedule.factors"], {}),
        ({"type": "Step", "milestones": 0.5, "factors": 0.1}, ["schedule.milestones"], {"received": 0.5}),
        ({"type": "Step", "milestones": (2.0,), "factors": (0.1,)}, ["milestone"], {"received": 2.0}),
        ({"type": "Step", "milestones": (0.5, 0.5), "factors": (1, 1)}, ["milestones"], {"received": (0.5, 0.5)}),
        ({"type": "Step", "rounding": "down"}, ["schedule.rounding"], {"received": "down", "allowed": "up"}),
        ({"type": "Bottou", "strength": 1.0}, ["Bottou"], {"received": "strength"}),
        ({"name": "step", "milestones": ((10, 0.1),)}, ["schedule"], {}),
        ("Cosine", ["schedule"], {"received": "Cosine"}),
    ],
)  # fmt: skip
def test_what_is_not_a_schedule_is_told(spec, names, fields):
    with refused(*names, **fields):
        make_schedule(spec)


def test_bottou_needs_a_rate_and_a_weight_decay():
    with refused("optimizer.weight_decay", "Bottou"):
        Bottou().fitted({"lr": 0.1}, 1.0)


@pytest.mark.parametrize(("steps", "epochs", "expected"), [(7, None, 7), (None, 2, 20)])
def test_steps_of_a_run(steps, epochs, expected):
    assert total_steps(steps, epochs, 10) == expected


@pytest.mark.parametrize(("steps", "epochs"), [(None, None), (3, 2)])
def test_a_run_has_either_steps_or_epochs(steps, epochs):
    with refused("steps", "epochs", received=f"steps={steps} and epochs={epochs}"):
        total_steps(steps, epochs, 10)


@pytest.mark.parametrize(("steps", "epochs"), [(0, None), (None, 0)])
def test_a_run_has_at_least_one_step(steps, epochs):
    with refused("epochs" if steps is None else "steps", received=0):
        total_steps(steps, epochs, 10)


def test_a_shortened_run_is_a_share_of_the_whole():
    assert [run_length(scale, 1000) for scale in (1.0, 0.1, 0.0001)] == [1000, 100, 1]


@pytest.mark.parametrize("scale", [0.0, -1.0, 1.5, None, "half"])
def test_a_scale_is_a_share(scale):
    with refused("scale", scale):
        run_length(scale, 100)
