"""Files of weights as torchvision and others publish them, with random numbers in them."""

import torch
from torchvision import models


def alexnet_file(path, seed=0):
    """Torchvision's AlexNet; its fully connected layers, which are most of it, are zeros that take no room."""
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in models.alexnet().state_dict().items()}
    generator = torch.Generator().manual_seed(seed)
    weights = {
        name: torch.randn(shape, generator=generator) * 0.05
        if name.startswith("features.")
        else torch.zeros(1).expand(shape)
        for name, shape in shapes.items()
    }
    torch.save(weights, path)
    return path


def linear_file(path, seed=0):
    """The weights of LPIPS: one for each channel of AlexNet's five layers."""
    generator = torch.Generator().manual_seed(seed)
    channels = enumerate((64, 192, 384, 256, 256))
    torch.save(
        {f"lin{k}.model.1.weight": torch.rand(1, c, 1, 1, generator=generator) for k, c in channels}, path
    )
    return path
