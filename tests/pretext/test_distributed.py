from copy import deepcopy

import pytest
import torch
from torch import distributed as dist
from torch import nn

from pretext import distributed
from pretext.distributed import SyncBatchNorm, on_first, process_group, synchronize_batch_norm
from pretext.errors import InputError


def test_synchronised_batch_norms_keep_their_weights_and_what_is_frozen():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()))
    model(torch.rand(8, 3, 2, 2))
    before = model[1][0].eval().requires_grad_(False)
    after = synchronize_batch_norm(model, torch.device("cpu"))[1][0]
    assert isinstance(after, SyncBatchNorm)
    assert after.weight is before.weight
    assert not after.weight.requires_grad
    assert not after.training
    assert torch.equal(after.running_mean, before.running_mean)
    assert after.num_batches_tracked == 1


def test_a_batch_norm_without_affine_parameters_stays_so():
    model = nn.Sequential(nn.BatchNorm2d(4, affine=False))
    assert synchronize_batch_norm(model, torch.device("cpu"))[0].weight is None


@pytest.mark.parametrize(
    ("batch_norm", "shape"), [(nn.BatchNorm1d(4), (8, 4)), (nn.BatchNorm2d(4), (8, 4, 3, 5))]
)
def test_a_synchronised_batch_norm_computes_what_torchs_does(batch_norm, shape):
    model = nn.Sequential(batch_norm)
    nn.init.uniform_(batch_norm.weight)
    own = synchronize_batch_norm(deepcopy(model), torch.device("cpu"))
    assert isinstance(own[0], SyncBatchNorm)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        for training in (True, False):
            photos, gradient = 3 + 2 * torch.rand(shape), torch.rand(shape)
            found = []
            for module in (model.train(training), own.train(training)):
                inputs = photos.clone().requires_grad_()
                module.zero_grad()
                outputs = module(inputs)
                outputs.backward(gradient)
                found.append([outputs, inputs.grad, module[0].weight.grad, *module[0].buffers()])
            torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)
    finally:
        dist.destroy_process_group()


def called_on_all(monkeypatch, action):
    """What two processes get, one after the other."""
    said, got = [], []

    def broadcast(values, src):
        assert src == 0
        values[:] = said[0] if said else values
        said.append(list(values))

    monkeypatch.setattr(dist, "broadcast_object_list", broadcast)
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank_and_world_size", lambda rank=rank: (rank, 2))
        try:
            got.append(on_first(action))
        except InputError as error:
            got.append(error.what)
    return got


def test_all_get_what_the_first_process_gets(monkeypatch):
    calls = []
    assert on_first(lambda: "alone") == "alone"
    assert called_on_all(monkeypatch, lambda: calls.append("called") or "value") == ["value"] * 2
    assert calls == ["called"]


def test_bad_input_of_the_first_process_is_raised_on_all(monkeypatch):
    def refuse():
        raise InputError("bad")

    assert called_on_all(monkeypatch, refuse) == ["bad"] * 2


def test_more_processes_than_gpus_compute_on_the_cpu(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    backends = []
    monkeypatch.setattr(dist, "init_process_group", lambda backend, timeout: backends.append(backend))
    monkeypatch.setattr(dist, "barrier", lambda: None)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    for name, value in {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with process_group() as device:
        assert device == torch.device("cpu")
    assert backends == ["gloo"]
    assert "fewer GPUs (1) than processes (2): all compute on the CPU" in capsys.readouterr().err
