"""Batch norm's running statistics estimated anew."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from pretext.backbones.base import Backbone


@torch.no_grad()
def recalibrate_batch_norm(backbone: Backbone, batches: Iterable[Tensor]) -> None:
    """Give every batch norm the mean and the variance of its input over some photos.

    For a backbone that was trained on something else, as on patches or on photos with holes: what it learned of its
    inputs' statistics is wrong for the whole photos that it is judged on. The weights stay as they are. With several
    processes all must call this, with the same photos.

    Args:
        backbone: Its mode is left as it is.
        batches: Photos, each batch (N, 3, H, W) with values 0..255, on the backbone's device.
    """
    norms = [module for module in backbone.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    training, momenta = backbone.training, [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    backbone.train()
    for photos in batches:
        backbone(photos, [backbone.layer_names[-1]])
    backbone.train(training)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
