"""Batch norm's running statistics, estimated again on whole photos."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from pretext.backbones.base import Backbone


@torch.no_grad()
def recalibrate_batch_norm(backbone: Backbone, batches: Iterable[Tensor]) -> None:
    """Give every batch norm the mean and the variance of its input over some photos.

    A backbone that was trained on something else, such as patches or photos with holes, has running statistics that
    are wrong for the whole photos it is judged on. The weights do not change. All processes must call this, with the
    same photos.

    Args:
        backbone: Changed in place; its mode stays the same.
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
