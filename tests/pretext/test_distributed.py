import torch
from torch import nn

from pretext.distributed import SyncBatchNorm2d, synchronize_batch_norm


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
