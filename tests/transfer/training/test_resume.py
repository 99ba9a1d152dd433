import errno
import os

import pytest
import torch
from points import Points, points_job
from refusals import refused
from torch import nn

from pretext import files
from transfer.training.finetuning import fine_tune
from transfer.training.resume import resumable


@pytest.fixture
def job(tmp_path):
    return lambda **overrides: points_job(tmp_path, **overrides)


@pytest.fixture
def run(job):
    """Runs a job of 8 steps to its end, or up to a step."""

    def run(stop=None):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(1, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 1))
        seen = []

        def loss_of(model, batch):
            if len(seen) == stop:
                raise KeyboardInterrupt
            seen.append(batch)
            return (model(batch) - batch).square().mean()

        words = job(epochs=4, optimizer={"type": "AdamW", "lr": 0.1})
        with resumable(words, "a" * 64) as unfinished:
            fine_tune(model, Points(), loss_of, words, "test", unfinished=unfinished)
        return model.state_dict(), len(seen)

    return run


@pytest.fixture
def broken(run, tmp_path):
    """The two states, after steps 4 and 2, that an interrupted run has left, the newest first."""
    with pytest.raises(KeyboardInterrupt):
        run(stop=5)
    (before,) = (tmp_path / "unfinished").glob("*.before.pth")
    newest = before.with_name(before.name.replace(".before", ""))
    assert {path.name for path in (tmp_path / "unfinished").iterdir()} == {newest.name, before.name}
    return newest, before


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_an_interrupted_run_goes_on_and_ends_alike(run, tmp_path):
    whole, steps = run()
    assert steps == 8
    with pytest.raises(KeyboardInterrupt):
        run(stop=5)
    resumed, rest = run()
    # The state was written after every second step.
    assert rest == 4
    assert all(torch.equal(whole[name], value) for name, value in resumed.items())
    assert run()[1] == 8
    assert not (tmp_path / "unfinished").exists()


def test_a_run_goes_on_from_the_state_before_a_damaged_one(run, broken, capsys):
    newest, before = broken
    cut(newest)
    resumed, rest = run()
    assert rest == 6
    said = capsys.readouterr().err
    assert f"{newest}, which is damaged" in said
    assert before.name in said
    whole, _ = run()
    assert all(torch.equal(whole[name], value) for name, value in resumed.items())


def test_a_run_whose_states_are_all_damaged_does_not_begin_again(run, broken):
    for path in broken:
        cut(path)
    with refused(*broken, allowed="delete them"):
        run()
    assert all(path.exists() for path in broken)
    for path in broken:
        path.unlink()
    assert run()[1] == 8


def test_a_full_disk_keeps_the_state_before(run, tmp_path, monkeypatch):
    saved, write = [], files.move_into_place

    def second_fails(written, path):
        saved.append(path)
        if len(saved) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(written, path)

    with monkeypatch.context() as patch:
        patch.setattr(files, "move_into_place", second_fails)
        with refused(tmp_path / "unfinished", "No space left"):
            run()
    assert run()[1] == 6


def test_a_full_disk_after_a_damaged_state_keeps_the_whole_one(run, broken, monkeypatch):
    def full(written, path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    cut(broken[0])
    with monkeypatch.context() as patch:
        patch.setattr(files, "move_into_place", full)
        with refused("No space left"):
            run()
    assert run()[1] == 6


def test_the_same_run_in_another_process_is_kept_out(job, tmp_path):
    with resumable(job(), "a" * 64):
        with refused(tmp_path / "unfinished", ".pth"), resumable(job(workers=3), "a" * 64):
            pass
        with resumable(job(), "b" * 64), resumable(job(epochs=2), "a" * 64):
            pass
    assert list(tmp_path.iterdir()) == []


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
