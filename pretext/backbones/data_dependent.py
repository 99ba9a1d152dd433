"""Filters fitted to photos, and layers scaled to change at one rate (Kraehenbuehl et al., ICLR 2016)."""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float, UInt8
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn import functional as F

from pretext.backbones.base import Backbone, ConvBlock
from pretext.checks import check_at_least, check_choice
from pretext.errors import InputError

#: Number of patches drawn for each filter.
PATCHES_PER_FILTER = 20


#: Most principal components of the patches that are clustered.
COMPONENTS = 256


#: Least variance of a component that is clustered, as a share of the first one's.
MIN_VARIANCE = 1e-3


#: Steps of the power iteration by which spectral norm learns the norm of newly drawn weights.
POWER_STEPS = 15


#: Ways to make filters from photos.
DATA_KINDS = ("gaussian", "pca", "kmeans")


#: Mean of every channel before the ReLU, after a data-dependent initialisation.
CHANNEL_MEAN = 0.1


def initialize_from_data(
    backbone: Backbone,
    photos: UInt8[Tensor, "n 3 h w"],
    kind: str = "kmeans",
    seed: int = 0,
    halves: Mapping[str, int] = MappingProxyType({}),
    done: Callable[[str], None] = lambda name: None,
) -> None:
    """Make every filter from patches of photos, and give every channel unit variance on them.

    "Data-dependent Initializations of Convolutional Neural Networks" (Kraehenbuehl et al., ICLR 2016, section 3.1),
    layer by layer from the photo upwards. ``kmeans`` makes each filter the centre of a cluster of whitened patches of
    its layer's input (Coates and Ng, 2012), ``pca`` one of their principal components, ``gaussian`` random. Every
    channel then has variance 1 and mean 0.1 over all positions before the ReLU: the variance through its weights, the
    mean through its bias or its batch norm, which gets the statistics and is else reset. A batch norm behind a ReLU
    gets the statistics of its input. Every other photo gives patches, and the variance is measured on the rest, since
    it is larger on the photos that gave the patches.

    Args:
        backbone: Changed in place. A transposed convolution keeps the filters that it has, which are only scaled.
        photos: Two or more photos with values 0..255; a hundred are enough.
        kind: ``gaussian``, ``pca`` or ``kmeans``.
        seed: Seed of the patches, the clusters and the random filters.
        halves: For a network of two halves: by the name of each layer that must not mix them, how many input channels
            the first half of its filters sees. The second half sees the others. What leads across becomes zero.
        done: Called with the name of each layer that is finished.

    Raises:
        InputError: The kind is unknown; there are too few photos for the number of filters; or the photos do not vary.

    Differences from the paper: patches are whitened within their first 256 principal components.
    """
    check_choice("data-dependent initialisation", kind, DATA_KINDS)
    check_at_least("number of photos", len(photos), 2)
    # Each channel by itself: a single colour has other values in each.
    spread = float(backbone.prepare(photos).std((0, 2, 3)).max())
    if not spread > 1e-6:
        raise InputError(
            "photos do not vary",
            received=f"{len(photos)} photos of a single colour",
            allowed="give photos that differ",
        )
    rng = np.random.default_rng(seed)
    # On one thread: sums depend on how many add them up, and so do the clusters.
    with threadpool_limits(1):
        for name, layer in initialized_layers(backbone).items():
            _initialize_layer(backbone, name, layer, photos, kind, rng, halves.get(name))
            done(name)


def _initialize_layer(
    backbone: Backbone,
    name: str,
    layer: nn.Module,
    photos: Tensor,
    kind: str,
    rng: np.random.Generator,
    seen: int | None,
) -> None:
    inputs = _inputs(backbone, name, layer, photos)
    conv = layer.conv if isinstance(layer, ConvBlock) else layer
    with torch.no_grad():
        if isinstance(conv, nn.Conv2d):
            sections = [conv.in_channels // conv.groups] * conv.groups
            parts = sections if seen is None else [seen, conv.in_channels - seen]
            conv.weight.copy_(_weight(conv, inputs[::2], parts, kind, rng, name))
        _normalise_channels(layer, inputs[1::2], name)


def initialized_layers(backbone: Backbone) -> dict[str, nn.Module]:
    """Return what `initialize_from_data` initialises, by name, from the photo upwards.

    It is each convolution, with the batch norm between it and its ReLU if there is one, and each other batch norm.
    """
    layers: dict[str, nn.Module] = {}
    for name, module in backbone.named_modules():
        if name.rpartition(".")[0] in layers:
            continue
        if isinstance(module, (ConvBlock, nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)):
            layers[name] = module
    return layers


def _inputs(backbone: Backbone, name: str, layer: nn.Module, photos: Tensor) -> Tensor:
    """Return the input of the layer of that name, (N, C, H, W)."""
    seen: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    training = backbone.training
    with torch.no_grad():
        backbone.eval()(photos, [name.partition(".")[0]])
    backbone.train(training)
    handle.remove()
    return seen[0]


def _weight(
    conv: nn.Conv2d, inputs: Tensor, parts: Sequence[int], kind: str, rng: np.random.Generator, name: str
) -> Float[Tensor, "out in_of_group kh kw"]:
    """Return new filters; those of each part are made from its own input channels, so many as ``parts`` says."""
    taps = math.prod(conv.kernel_size)
    count = conv.out_channels // len(parts)
    patches = _patches(conv, inputs, max(PATCHES_PER_FILTER * count, COMPONENTS), rng)
    filters, first = [], 0
    for channels, part in zip(
        parts, torch.split(patches, [taps * number for number in parts], dim=1), strict=True
    ):
        found = _filters(part, count, kind, rng, name)
        if conv.groups == 1:
            found = F.pad(found, (taps * first, taps * (conv.in_channels - first - channels)))
        filters.append(found)
        first += channels
    return torch.cat(filters).view_as(conv.weight)


def _patches(conv: nn.Conv2d, inputs: Tensor, count: int, rng: np.random.Generator) -> Float[Tensor, "m d"]:
    """Draw patches that the convolution sees, at random positions."""
    each = math.ceil(count / len(inputs))
    drawn = []
    for photo in inputs:
        columns = F.unfold(photo[None], conv.kernel_size, conv.dilation, conv.padding, conv.stride)[0]  # type: ignore[arg-type]
        chosen = rng.choice(columns.shape[1], min(each, columns.shape[1]), replace=False)
        drawn.append(columns[:, torch.from_numpy(chosen)].T)
    return torch.cat(drawn)


def _filters(
    patches: Float[Tensor, "m d"], count: int, kind: str, rng: np.random.Generator, name: str
) -> Float[Tensor, "count d"]:
    samples, size = patches.shape
    if kind == "gaussian":
        return torch.from_numpy(rng.standard_normal((count, size))).float()
    wanted = min(size, count if kind == "pca" else COMPONENTS)
    if kind == "pca" and size < count:
        raise InputError(
            f"{name} has fewer principal components than filters",
            received=size,
            allowed=f"{count} filters need as many; choose another kind",
        )
    if samples < max(count, wanted):
        raise InputError(
            f"too few patches for {count} filters of {name} by {kind}",
            received=samples,
            allowed="give more or larger photos, or choose another kind",
        )
    # Imported here because it takes a second, which no other command needs to spend.
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.decomposition import PCA

    state = int(rng.integers(2**31))
    # Again, because what was just imported has threads of its own; where cores are shared, k-means by two of them takes
    # ten times as long as by one.
    with threadpool_limits(1):
        pca = PCA(wanted, random_state=state).fit(patches.cpu().numpy())
        if kind == "pca":
            return torch.from_numpy(pca.components_).float()
        # Components that hardly vary are noise, which whitening would amplify.
        kept = pca.explained_variance_ > MIN_VARIANCE * pca.explained_variance_[0]
        whitening = pca.components_[kept] / np.sqrt(pca.explained_variance_[kept])[:, None]
        white = (patches.cpu().numpy() - pca.mean_) @ whitening.T
        clusters = MiniBatchKMeans(count, random_state=state, n_init=1).fit(white)
    return torch.from_numpy(clusters.cluster_centers_ @ whitening).float()


def _normalise_channels(layer: nn.Module, inputs: Tensor, name: str) -> None:
    if isinstance(layer, nn.BatchNorm2d):
        _set_statistics(layer, *torch.std_mean(inputs, dim=(0, 2, 3)))
        return
    conv = layer.conv if isinstance(layer, ConvBlock) else layer
    assert isinstance(conv, (nn.Conv2d, nn.ConvTranspose2d))
    if conv.bias is not None:
        conv.bias.zero_()
    std, mean = torch.std_mean(conv(inputs), dim=(0, 2, 3))
    if not bool((std > 0).all()):
        raise InputError(
            f"photos do not vary: {int((std <= 0).sum())} of {len(std)} channels of {name} are constant",
            received=f"{len(inputs)} photos",
            allowed="give photos that differ",
        )
    # The filters of a transposed convolution are in the second dimension. Batch norm undoes any scale, but how far a
    # step of training turns a filter depends on it.
    conv.weight.div_(std.view((1, -1, 1, 1) if isinstance(conv, nn.ConvTranspose2d) else (-1, 1, 1, 1)))
    if conv.bias is not None:
        conv.bias.copy_(CHANNEL_MEAN - mean / std)
        return
    norm = layer.norm
    assert isinstance(norm, nn.BatchNorm2d)
    _set_statistics(norm, torch.ones_like(std), mean / std)
    if norm.affine:
        norm.bias.fill_(CHANNEL_MEAN)


def _set_statistics(norm: nn.BatchNorm2d, std: Tensor, mean: Tensor) -> None:
    """Reset a batch norm, and give it the statistics of its input."""
    norm.reset_parameters()
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_var.copy_((std.square() - norm.eps).clamp(min=0))
    norm.running_mean.copy_(mean)


def rescale_between_layers(
    backbone: Backbone, photos: UInt8[Tensor, "n 3 h w"], seed: int = 0
) -> dict[str, float]:
    """Scale each layer so that all weights change at the same relative rate; the features change only in scale.

    "Data-dependent Initializations of Convolutional Neural Networks" (Kraehenbuehl et al., ICLR 2016, section 3.2);
    ``-cs`` in the authors' script, which papers run on pretrained weights before they fine-tune them. A layer's rate of
    change is the root mean square of its weights' gradient over that of its weights, for a random gradient at the top.
    Without normalisation the network is positively homogeneous: scaling one layer by s divides the gradients of that
    layer by s and multiplies those of all others by s.

    Args:
        backbone: Changed in place; its batch norm must have been absorbed.
        photos: Photos to measure the rates on, values 0..255.
        seed: Seed of the gradient at the top.

    Returns:
        The factor of each layer's weights, by name. Afterwards the features of the top layer have a standard deviation
        of 1; they are the former ones times the product of all factors.

    Raises:
        InputError: The backbone has batch norm, or a layer is dead on these photos.

    Differences from the paper: the paper approaches the factors in ten damped iterations. Once the product of all
    factors is fixed, every rate falls with the square of its own factor alone, so they are computed directly.
    """
    blocks = _plain_blocks(backbone)
    top = backbone.layer_names[-1] if "fc7" in backbone.layer_names else list(blocks)[-1]
    weights = [block.conv.weight for block in blocks.values()]
    with torch.enable_grad():
        features = backbone(photos, [top])[top]
        generator = torch.Generator().manual_seed(seed)
        direction = torch.randn(features.shape, generator=generator).to(features.device)
        gradients = torch.autograd.grad(features, weights, direction)
    rates = torch.tensor([float(_rms(g) / _rms(w)) for g, w in zip(gradients, weights, strict=True)])
    spread = float(features.detach().std())
    if not (spread > 0 and bool((rates > 0).all()) and bool(torch.isfinite(rates).all())):
        dead = [name for name, rate in zip(blocks, rates.tolist(), strict=True) if not 0 < rate < math.inf]
        raise InputError("cannot rescale layers without a gradient", received=", ".join(dead) or top)
    factors = (rates.log() - rates.log().mean()).div(2).exp() * spread ** (-1 / len(blocks))
    above = factors.cumprod(0).tolist()
    with torch.no_grad():
        for block, factor, product in zip(blocks.values(), factors.tolist(), above, strict=True):
            assert block.conv.bias is not None
            block.conv.weight.mul_(factor)
            block.conv.bias.mul_(product)
    return dict(zip(blocks, factors.tolist(), strict=True))


def _plain_blocks(backbone: Backbone) -> dict[str, ConvBlock]:
    """Return the convolutions of a backbone without batch norm, by name, from the photo upwards."""
    blocks = {name: block for name, block in backbone.named_children() if isinstance(block, ConvBlock)}
    if not blocks or backbone.norm != "none":
        raise InputError(
            f"cannot rescale the layers of {backbone.architecture}",
            received=f"norm={backbone.norm}",
            allowed="allowed are alexnet and vgg16 with norm=none: absorb batch norm first",
        )
    return blocks


def _rms(values: Tensor) -> Tensor:
    return values.detach().double().square().mean().sqrt()
