import pytest
import torch
from torch.nn import functional as F

from pretext.backbones.base import Layer
from pretext.config import build
from transfer.networks.reductions import REDUCTIONS, TentResize, tent_matrix
from transfer.protocols.table import PROTOCOLS


def resized_by_the_layer(values, out):
    """One axis of a map, as the layer Resize of philkr/caffe takes it to ``out`` values.

    ``Forward_cpu`` of src/caffe/layers/resize_layer.cpp, branch future (fb5f6cd), which does the same along x and then
    along y; ``height`` and ``width`` of the output are given, as in richzhang/colorization's
    feature_learning_tests/linear/train_val.prototxt.
    """
    last = len(values) - 1
    scale = (out - 1) / last
    if scale < 1:
        radius = 1 / scale
        whole = int(radius)
        norm = (2 * whole + 1) * radius - whole * (whole + 1)
        blurred = []
        for place in range(len(values)):
            total = radius * values[place]
            for step in range(1, whole + 1):
                total += (radius - step) * (values[max(place - step, 0)] + values[min(place + step, last)])
            blurred.append(total / norm)
        values = blurred
    resized = []
    for number in range(out):
        place = min(max(number / scale, 0.0), last)
        before = int(place)
        after = min(before + 1, last)
        weight = after - place
        resized.append(weight * values[before] + (1 - weight) * values[after])
    return resized


def map_by_the_layer(image, side):
    rows = [resized_by_the_layer(row, side) for row in image.tolist()]
    columns = [resized_by_the_layer(list(column), side) for column in zip(*rows, strict=True)]
    return torch.tensor(columns).T


#: By the side that is left of a map, a layer with so many channels.
LAYERS = {side: Layer("conv1", channels, 1) for side, channels in ((10, 96), (6, 256), (5, 384), (2, 2500))}


@pytest.mark.parametrize(
    ("height", "width", "side"),
    [
        *((55, 55, 10), (27, 27, 6), (13, 13, 5), (13, 13, 6)),  # AlexNet's at 227 pixels
        *((30, 30, 10), (14, 14, 6), (6, 6, 5), (7, 7, 6), (32, 31, 10), (23, 40, 6)),
        *((4, 4, 5), (2, 3, 6), (3, 9, 6), (20, 2, 10)),  # smaller, or along one axis alone
        *((9, 14, 2), (2, 2, 2)),
    ],
)
def test_the_probe_resizes_as_the_layer_does(height, width, side):
    reduction = build(PROTOCOLS["splitbrain2017"].settings.reduction, REDUCTIONS)
    features = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(height * width))
    reduced = reduction(LAYERS[side], features)
    assert reduced.shape == (2, 3, side, side)
    for photo in range(2):
        for channel in range(3):
            expected = map_by_the_layer(features[photo, channel], side)
            torch.testing.assert_close(reduced[photo, channel], expected, atol=1e-6, rtol=1e-5)


def test_a_ramp_by_hand():
    """Five values to three: the tent is (1, 2, 1) / 4, the ends are repeated, and every other value is read."""
    expected = torch.tensor([(0 + 2 * 0 + 1) / 4, (1 + 2 * 2 + 3) / 4, (3 + 2 * 4 + 4) / 4])
    torch.testing.assert_close(tent_matrix(5, 3) @ torch.arange(5.0), expected)


@pytest.mark.parametrize(("side", "layer"), LAYERS.items())
def test_a_map_of_its_size_stays(side, layer):
    features = torch.rand(2, 4, side, side)
    assert torch.equal(TentResize()(layer, features), features)


@pytest.mark.parametrize(("height", "width"), [(5, 5), (2, 3), (1, 6), (4, 1)])
def test_a_smaller_map_is_interpolated_alone(height, width):
    features = torch.rand(2, 4, height, width)
    expected = F.interpolate(features, size=(6, 6), mode="bilinear", align_corners=True)
    torch.testing.assert_close(TentResize()(LAYERS[6], features), expected)


@pytest.mark.parametrize(("height", "width"), [(6, 6), (1, 1), (3, 8)])
def test_one_position_is_the_mean(height, width):
    features = torch.rand(2, 4, height, width)
    reduced = TentResize()(Layer("fc6", 4096, 32), features)
    torch.testing.assert_close(reduced, features.mean((2, 3), keepdim=True))


@pytest.mark.parametrize("size", [11, 30, 55, 224])
def test_every_position_counts_and_weights_add_up_to_one(size):
    matrix = tent_matrix(size, 10, torch.float64)
    assert (matrix.sum(0) > 0).all()
    assert (matrix >= 0).all()
    torch.testing.assert_close(matrix.sum(1), torch.ones(10, dtype=torch.float64))
    torch.testing.assert_close(matrix, matrix.flip(0, 1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_maps_keep_their_type(dtype):
    features = torch.rand(2, 4, 13, 14)
    reduced = TentResize()(LAYERS[6], features.to(dtype))
    assert reduced.dtype == dtype
    torch.testing.assert_close(reduced.float(), TentResize()(LAYERS[6], features), atol=0.01, rtol=0.01)


def test_the_layout_of_a_map_changes_nothing():
    features = torch.rand(2, 4, 13, 14)
    last = features.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(TentResize()(LAYERS[6], last), TentResize()(LAYERS[6], features))


def test_gradients_pass():
    features = torch.rand(1, 2, 7, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: TentResize()(LAYERS[5], x), features)
