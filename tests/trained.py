"""Backbones with trained-looking batch norms, and photos to show them."""

import torch
from torch import nn

from pretext.backbones.initializers import he_normal_


def trained(backbone):
    """Give a backbone random weights and batch norm statistics, and return it in eval mode."""
    he_normal_(backbone, 1)
    generator = torch.Generator().manual_seed(2)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.5, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            if module.affine:
                with torch.no_grad():
                    module.weight.uniform_(0.5, 1.5, generator=generator)
                    module.bias.normal_(0, 0.5, generator=generator)
    return backbone.eval()


def photos(side=96):
    return torch.randint(
        0, 256, (2, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
