"""Narrow networks: layers, kernels, strides and names of the real ones, with few channels, so that tests are fast."""

import torch
import torchvision
from torch import nn

from pretext.backbones import alexnet, checkpoint, colornet, vgg

#: The channels of the real networks are divided by this.
NARROW_BY = 16


def narrow_backbones(monkeypatch):
    """Make `build` and the returned classes, by name, give narrow networks for the arguments of the real ones."""
    for module, name in ((alexnet, "FC_CHANNELS"), (vgg, "FC_CHANNELS"), (colornet, "CONV8_CHANNELS")):
        monkeypatch.setattr(module, name, getattr(module, name) // NARROW_BY)
    for module in (vgg, colornet):
        blocks = tuple((depth, channels // NARROW_BY, *rest) for depth, channels, *rest in module.BLOCKS)
        monkeypatch.setattr(module, "BLOCKS", blocks)

    class NarrowAlexNet(alexnet.AlexNet):
        def __init__(self, *args, channels=alexnet.CHANNELS, **kwargs):
            super().__init__(*args, channels=[number // NARROW_BY for number in channels], **kwargs)
            self.arguments["channels"] = tuple(channels)

    architectures = checkpoint.ARCHITECTURES | {"alexnet": NarrowAlexNet}
    monkeypatch.setattr(checkpoint, "ARCHITECTURES", architectures)
    return architectures


def narrow_torchvision(name):
    """Return a narrow network of torchvision's with random weights, in eval mode."""
    # On the meta device the wide layers, which are replaced, take no time.
    with torch.device("meta"):
        network = getattr(torchvision.models, name)(weights=None)
    for part in (network.features, network.classifier):
        for position, layer in enumerate(part):
            if isinstance(layer, nn.Conv2d):
                inputs = layer.in_channels if layer.in_channels == 3 else layer.in_channels // NARROW_BY
                outputs = layer.out_channels // NARROW_BY
                part[position] = nn.Conv2d(inputs, outputs, layer.kernel_size, layer.stride, layer.padding)
            elif isinstance(layer, nn.BatchNorm2d):
                part[position] = nn.BatchNorm2d(layer.num_features // NARROW_BY)
            elif isinstance(layer, nn.Linear):
                part[position] = nn.Linear(layer.in_features // NARROW_BY, layer.out_features // NARROW_BY)
    return network.eval()
