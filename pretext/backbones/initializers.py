"""Initialisation of weights: random weights, each from its own stream, and weights that fit the data."""

import hashlib
import math

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from pretext.backbones.data_dependent import POWER_STEPS


def he_normal_(module: nn.Module, seed: int) -> None:
    """Initialise every convolution and linear layer as He et al. (ICCV 2015, equation 10) do for ReLUs.

    Weights are normal with variance 2 / fan_in, biases are zero, and batch norms are reset. Each weight is drawn from
    (seed, layer name), so a layer's weights do not depend on the other layers. A layer that has an ``initial_std`` gets
    that deviation instead.

    Args:
        module: Changed in place; its weights must be on the CPU.
        seed: Any integer.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            # Spectral norm computes the weight from a parameter of another name.
            stored = "parametrizations.weight.original" if is_parametrized(layer, "weight") else "weight"
            weight = layer.get_parameter(stored)
            fan_in = weight[0].numel()
            if isinstance(layer, nn.ConvTranspose2d):
                # Each output pixel sees kernel / stride taps of each input channel.
                taps = weight[0, 0].numel() / (layer.stride[0] * layer.stride[1])
                fan_in = round(weight.shape[0] * taps)
            std = getattr(layer, "initial_std", math.sqrt(2 / fan_in))
            normal_(weight, std=std, seed=seed, name=name)
            if is_parametrized(layer, "weight"):
                with torch.no_grad():
                    for _ in range(POWER_STEPS):
                        _ = layer.weight
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.reset_parameters()


def normal_(weight: torch.Tensor, *, std: float, seed: int, name: str) -> None:
    """Fill ``weight`` in place with N(0, std^2) drawn from (seed, name) alone."""
    with torch.no_grad():
        weight.normal_(0, std, generator=_stream(seed, name))


def uniform_(weight: torch.Tensor, *, bound: float, seed: int, name: str) -> None:
    """Fill ``weight`` in place with U(-bound, bound) drawn from (seed, name) alone."""
    with torch.no_grad():
        weight.uniform_(-bound, bound, generator=_stream(seed, name))


def _stream(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
