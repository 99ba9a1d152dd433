import torch
from torch import distributed as dist
from torch import nn

from pretext.distributed import SyncBatchNorm2d, process_group, synchronize_batch_norm


def test_synchronised_batch_norms_keep_their_weights_and_what_is_frozen():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()))
    model(torch.rand(8, 3, 2, 2))
    before = model[1][0].eval().requires_grad_(False)
    after = synchronize_batch_norm(model, torch.device("cpu"))[1][0]
    assert isinstance(after, SyncBatchNorm2d)
    assert after.weight is before.weight
    assert not after.weight.requires_grad
    assert not after.training
    assert torch.equal(after.running_mean, before.running_mean)
    assert after.num_batches_tracked == 1


def test_a_batch_norm_without_affine_parameters_stays_so():
    model = nn.Sequential(nn.BatchNorm2d(4, affine=False))
    assert synchronize_batch_norm(model, torch.device("cpu"))[0].weight is None


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
