"""Networks whose features tell how alike photos look: LPIPS, and the features of the Frechet Inception distance.

Their weights are files that the user gives. Nothing is downloaded.
"""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models
from torchvision.models import inception

from transfer.networks.given_weights import load_given, no_weights, read_weights

#: Side of the photos that Inception sees, in pixels.
INCEPTION_SIDE = 299
#: Channels of the features that LPIPS compares: AlexNet's five convolutions, after ReLU.
_CHANNELS = (64, 192, 384, 256, 256)
#: Where those features are in torchvision's ``AlexNet.features``.
_RELUS = (1, 4, 7, 9, 11)
#: What LPIPS subtracts from RGB in [-1, 1], and divides by: the scaling layer of its version 0.1.
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_CLASSES = {1000: "inception_v3", 1008: "inception_2015"}

Photos = UInt8[Tensor, "n 3 h w"]


class Lpips(nn.Module):
    """Learned perceptual image patch similarity over AlexNet, version 0.1 (Zhang et al., CVPR 2018, equation 1).

    The features of both photos are scaled to unit length over their channels at each position; the squared differences
    are weighted by channel, averaged over positions and added up over the five layers.

    Args:
        features: ``AlexNet.features`` of torchvision.
        weights: Of the channels of each layer, (1, C, 1, 1).
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, features: nn.Sequential, weights: Sequence[Tensor]):
        super().__init__()
        self.features = features[: _RELUS[-1] + 1]
        self.weights = nn.ParameterList(nn.Parameter(weight, requires_grad=False) for weight in weights)
        for name, values in (("shift", _SHIFT), ("scale", _SCALE)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, photos: Photos, truths: Photos) -> Float[Tensor, " n"]:
        """Return the distance between each photo and its true one, 0 up, of photos of one size."""
        x = torch.cat([photos, truths]) / 127.5 - 1
        x = (x - self.shift) / self.scale
        total = torch.zeros(len(photos), device=x.device)
        weights = iter(self.weights)
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in _RELUS:
                unit = x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + 1e-10)
                first, second = unit.chunk(2)
                total += ((first - second).square() * next(weights)).sum(1).mean((1, 2))
        return total


def load_lpips(weights: Path, linear: Path | None) -> Lpips:
    """Load LPIPS in eval mode.

    Args:
        weights: State dict of torchvision's ``alexnet``.
        linear: The channels' weights, as ``alex.pth`` of richzhang/PerceptualSimilarity (version 0.1) has them; None
            takes that file from torchmetrics, which brings it.

    Raises:
        InputError: A file does not hold these weights.
    """
    with torch.device("meta"):  # most of AlexNet is fc6, which is not needed
        alexnet = models.alexnet()
    load_given(alexnet, weights, "alexnet", "torchvision's alexnet, a state dict")
    features = alexnet.features
    assert isinstance(features, nn.Sequential)
    for number in _RELUS:
        features[number] = nn.ReLU()  # not in place: a layer's features are read before the next one
    channels = nn.ModuleDict({f"lin{k}": _Linear(count) for k, count in enumerate(_CHANNELS)})
    load_given(
        channels,
        linear or linear_weights(),
        "LPIPS over AlexNet",
        "alex.pth of LPIPS 0.1: lin0.model.1.weight to lin4.model.1.weight",
    )
    return Lpips(features, list(channels.state_dict().values())).eval()


class _Linear(nn.Module):
    """One layer's weights, under the name that the published file gives them; number 0 is dropout in training."""

    def __init__(self, channels: int):
        super().__init__()
        self.model = nn.Sequential(nn.Identity(), nn.Conv2d(channels, 1, 1, bias=False))


def linear_weights() -> Path:
    """Return the published weights of LPIPS 0.1 for AlexNet's channels, which torchmetrics brings."""
    return Path(str(files("torchmetrics.functional.image") / "lpips_models" / "alex.pth"))


class InceptionFeatures(nn.Module):
    """The 2,048 features of Inception-v3 after its last average pooling.

    Args:
        network: Inception-v3 whose last layer gives what it sees; takes RGB in [-1, 1].
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, photos: Photos) -> Float[Tensor, "n 2048"]:
        """Return the features of photos, resized whole to 299 x 299: bilinear, without a filter, as pytorch-fid."""
        side = (INCEPTION_SIDE, INCEPTION_SIDE)
        x = F.interpolate(photos / 127.5 - 1, size=side, mode="bilinear")
        features: Tensor = self.network(x)
        return features


def load_inception(weights: Path) -> tuple[str, InceptionFeatures]:
    """Load Inception-v3 in eval mode, in the one of two forms whose weights the file holds.

    Args:
        weights: State dict of torchvision's ``inception_v3`` (1000 classes), or that of the network by which FIDs are
            published, ``pt_inception-2015-12-05`` of pytorch-fid (1008 classes).

    Returns:
        The form, ``inception_v3`` or ``inception_2015``, and the network.

    Raises:
        InputError: The file does not hold the weights of either.
    """
    allowed = "a state dict of torchvision's inception_v3, or pt_inception-2015-12-05 of pytorch-fid"
    try:
        form = _CLASSES[len(read_weights(weights)["fc.weight"])]
    except Exception as error:  # torch raises many kinds for files that are not weights
        raise no_weights(weights, "Inception-v3", error, allowed) from error
    with torch.device("meta"):
        network = inception.Inception3(init_weights=False) if form == "inception_v3" else _inception_2015()
    load_given(network, weights, form, allowed)
    network.fc = nn.Identity()
    return form, InceptionFeatures(network).eval()


def _inception_2015() -> inception.Inception3:
    blocks = [
        *(inception.BasicConv2d, _PooledA, inception.InceptionB, _PooledC, inception.InceptionD, _PooledE),
        inception.InceptionAux,
    ]
    network = inception.Inception3(1008, aux_logits=False, inception_blocks=blocks, init_weights=False)
    network.Mixed_7c = _MaxPooledE(2048)
    return network


def _average(x: Tensor) -> Tensor:
    """Average over 3 x 3 pixels, as TensorFlow does: at the border, over those that there are."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class _PooledA(inception.InceptionA):  # type: ignore[misc]  # torchvision is not typed
    def _forward(self, x: Tensor) -> list[Tensor]:
        return [*super()._forward(x)[:-1], self.branch_pool(_average(x))]


class _PooledC(inception.InceptionC):  # type: ignore[misc]
    def _forward(self, x: Tensor) -> list[Tensor]:
        return [*super()._forward(x)[:-1], self.branch_pool(_average(x))]


class _PooledE(inception.InceptionE):  # type: ignore[misc]
    def _forward(self, x: Tensor) -> list[Tensor]:
        return [*super()._forward(x)[:-1], self.branch_pool(_average(x))]


class _MaxPooledE(inception.InceptionE):  # type: ignore[misc]
    """The last block, which takes the maximum where the paper's takes the average."""

    def _forward(self, x: Tensor) -> list[Tensor]:
        return [*super()._forward(x)[:-1], self.branch_pool(F.max_pool2d(x, 3, stride=1, padding=1))]
