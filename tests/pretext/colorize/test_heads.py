import copy

import pytest
import torch
from refusals import refused
from small_alexnet import small_alexnet

from pretext.backbones import VGG16
from pretext.backbones.checkpoint import Provenance
from pretext.backbones.hypercolumn import all_column_layers, column_layers
from pretext.backbones.initializers import he_normal_
from pretext.color.bins import ab_bins
from pretext.color.lab import rgb_to_lightness
from pretext.color.spaces import AbBins, ab_regression
from pretext.colorize import heads
from pretext.colorize.colorizer import Colorizer, colorizer_sha256, load_colorizer, save_colorizer
from pretext.colorize.exports import onnx_colorizer
from pretext.colorize.header import read_colorizer_header
from pretext.colorize.heads import Grid, HypercolumnHead
from pretext.colorize.painting import predict

NAMES = ("data", "conv1", "conv2", "conv5")
CHANNELS = (1, 16, 32, 32)


def head_over(backbone, names, out_channels=5, **arguments):
    """A head whose layers have factors and weights that can be told apart."""
    layers = column_layers(backbone, names)
    arguments = {"hidden_channels": 6} | arguments
    made = HypercolumnHead(
        [layer.name for layer in layers], [layer.channels for layer in layers], out_channels, **arguments
    )
    he_normal_(made, 0)
    with torch.no_grad():
        for weights in made.columns.values():
            weights.weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(weights.in_channels))
        made.bias.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
        made.scales.copy_(torch.linspace(0.5, 2, len(layers)))
    return made.eval()


def colorizer_over(names=NAMES, space=None, **arguments):
    backbone = small_alexnet("lightness")
    space = space or AbBins(ab_bins())
    head = head_over(backbone, names, space.channels, **arguments)
    made = Colorizer(backbone, head, space, head.layers[-1]).eval()
    he_normal_(made.backbone, 0)
    return made


def vgg(**arguments):
    backbone = VGG16(fully_connected=True, width=1 / 32, **arguments).eval()
    he_normal_(backbone, 0)
    return backbone


@torch.no_grad()
@pytest.mark.parametrize("stride", [1, 4, 3])
@pytest.mark.parametrize(
    ("backbone", "names"),
    [
        (small_alexnet("lightness").eval(), NAMES),
        (vgg(pool5_stride=2), None),
        (vgg(), ("conv1_2", "conv3_3", "fc7")),
    ],
    ids=["alexnet", "release", "subset"],
)
@pytest.mark.parametrize("band", [1, 1 << 23])
def test_the_map_is_what_the_places_alone_give(backbone, names, stride, band, monkeypatch):
    monkeypatch.setattr(heads, "BAND_NUMBERS", band)
    head = head_over(backbone, names or all_column_layers(backbone), stride=stride)
    inputs = torch.randn(2, 1, 50, 39, generator=torch.Generator().manual_seed(0))
    layer = backbone.layer(head.layers[-1])
    dense = head.predict(backbone, inputs, layer)
    grid = head.under(backbone, layer)
    height, width = dense.shape[-2:]
    assert (height, width) == (-(-50 // stride), -(-39 // stride))
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = (grid.offset + grid.stride * each.flatten().expand(2, -1) for each in (rows, columns))
    sparse = head.at(backbone, inputs, *places)
    torch.testing.assert_close(dense.flatten(2), sparse[..., 0], rtol=1e-5, atol=1e-5)
    assert dense.std() > 0.01


def test_gradients_of_sparse_and_dense_agree():
    backbone = small_alexnet("lightness").double().eval()
    head = head_over(backbone, NAMES, stride=4).double()
    inputs = torch.randn(2, 1, 40, 36, dtype=torch.float64)
    rows, columns = (torch.randint(side // 4, (2, 9)) for side in (40, 36))
    parameters = [*head.parameters(), *(p for p in backbone.parameters() if p.requires_grad)]
    dense = head.predict(backbone, inputs, backbone.layer("conv5"))
    indexed = dense.permute(0, 2, 3, 1)[torch.arange(2).unsqueeze(1), rows, columns]
    sparse = head.at(backbone, inputs, 4 * rows + 1.5, 4 * columns + 1.5)[..., 0].transpose(1, 2)
    torch.testing.assert_close(sparse, indexed)
    found = torch.autograd.grad(sparse.square().sum(), parameters)
    expected = torch.autograd.grad(indexed.square().sum(), parameters)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@torch.no_grad()
def test_it_is_a_hidden_layer_over_the_scaled_hypercolumn():
    head = head_over(small_alexnet("lightness"), NAMES)
    columns = torch.randn(2, 81, 7, 1)
    weights = torch.cat([each.weight for each in head.columns.values()], 1).flatten(1)
    scales = head.scales.repeat_interleave(torch.tensor(CHANNELS))
    hidden = torch.einsum("hd,ndp->nhp", weights * scales, columns[..., 0]) + head.bias[:, None]
    classifier = head.classifier[2]
    expected = torch.einsum("qh,nhp->nqp", classifier.weight.flatten(1), hidden.relu())
    torch.testing.assert_close(head(columns)[..., 0], expected + classifier.bias[:, None])


def test_the_hidden_layer_starts_small_as_the_release_does():
    head = HypercolumnHead(["data", "conv1"], [1, 4096], 2)
    he_normal_(head, 0)
    assert head.columns["conv1"].weight.std().item() == pytest.approx(1e-4, rel=0.01)
    assert head.classifier[2].weight.std().item() == pytest.approx((2 / 1024) ** 0.5, rel=0.1)


@torch.no_grad()
def test_balanced_layers_have_a_second_moment_of_1():
    head = HypercolumnHead(["data", "conv1", "conv2"], [1, 2, 3], 2)
    columns = torch.randn(4, 6, 1000, 1) * torch.tensor([3, 0.1, 0.1, 0, 0, 0]).view(1, 6, 1, 1)
    moments = torch.stack([part.square().mean() for part in columns.split([1, 2, 3], 1)])
    head.balance(moments)
    # A layer that gives nothing keeps its factor.
    assert head.scales[2] == 1
    assert (head.scales * moments.sqrt())[:2].tolist() == pytest.approx([1, 1])


@torch.no_grad()
@pytest.mark.parametrize("space", [AbBins(ab_bins()), ab_regression()], ids=["bins", "regression"])
def test_a_file_of_several_layers_predicts_the_same(space, tmp_path):
    colorizer = colorizer_over(space=space, stride=2, dropout=0.25)
    path = tmp_path / "colorizer.safetensors"
    sha256 = save_colorizer(colorizer, path, Provenance("hypercolumn"))
    loaded = load_colorizer(path)
    assert sha256 == colorizer_sha256(loaded) == read_colorizer_header(path)["sha256"]
    assert loaded.head.arguments() == colorizer.head.arguments()
    assert loaded.grid == colorizer.grid == Grid(2, 0.5, 16)
    assert torch.equal(loaded.head.scales, colorizer.head.scales)
    lightness = torch.rand(2, 1, 32, 48) * 100
    assert torch.equal(loaded.predict(lightness), colorizer.predict(lightness))
    colors = loaded(lightness)
    assert colors.ab.shape == (2, 2, 16, 24)


def test_factors_and_layers_are_part_of_the_hash():
    one, other = colorizer_over(), colorizer_over()
    assert colorizer_sha256(one) == colorizer_sha256(other)
    other.head.scales[1] *= 2
    third = copy.deepcopy(one)
    third.head.stride = 8
    assert len({colorizer_sha256(each) for each in (one, other, third)}) == 3


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(64, 64), (1, 1), (31, 90), (7, 300)])
def test_a_photo_of_any_size_is_predicted_at_every_fourth_pixel(height, width):
    photo = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    colors = predict(colorizer_over(), photo, 48)
    down, across = (4 * side for side in colors.ab.shape[-2:])
    assert down % 16 == across % 16 == 0
    assert min(down, across) >= 32


@torch.no_grad()
def test_the_map_lies_evenly_in_the_photo():
    # `data` alone decides: the prediction is the mean lightness of the pixels around a position.
    backbone = small_alexnet("lightness")
    head = head_over(backbone, ("data", "conv1"), 2, hidden_channels=1)
    for parameter in head.parameters():
        torch.nn.init.zeros_(parameter)
    head.scales.fill_(1)
    head.columns["data"].weight.fill_(1)
    head.classifier[2].weight.fill_(1)
    head.bias.fill_(10)  # beyond the ReLU
    colorizer = Colorizer(backbone, head, ab_regression(), "conv1").eval()
    photo = torch.randint(0, 256, (1, 64, 48), dtype=torch.uint8).expand(3, -1, -1)
    found = predict(colorizer, photo.contiguous(), 48).ab[0, 0] / 20 - 10
    inputs = backbone.normalize(rgb_to_lightness(photo[None].contiguous()))[0, 0]
    expected = inputs.unfold(0, 4, 4).unfold(1, 4, 4)[..., 1:3, 1:3].mean((2, 3))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_head_that_does_not_fit_its_backbone_is_refused():
    backbone = small_alexnet("lightness")
    for layers, channels, top in (
        (("data", "conv2"), (1, 33), "conv2"),
        (("conv2", "data"), (32, 1), "conv2"),
        (("data", "conv2"), (1, 32), "conv5"),
    ):
        head = HypercolumnHead(layers, channels, 2, hidden_channels=4)
        with refused(backbone.architecture, top, received=list(zip(layers, channels, strict=True))):
            Colorizer(backbone, head, ab_regression(), top)
    with refused("alexnet", received="fc6", allowed="conv5"):
        Colorizer(backbone, HypercolumnHead(["fc6"], [4], 2), ab_regression(), "conv5")


@pytest.mark.parametrize(
    ("arguments", "name", "received"),
    [
        ({"hidden_channels": 0}, "hidden_channels", 0),
        ({"dropout": 1.0}, "dropout", 1.0),
        ({"stride": 0}, "stride", 0),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, name, received):
    with refused(name, received=received):
        HypercolumnHead(["conv1"], [4], 2, **arguments)
    with refused("layer", received="1 layers and 2 numbers"):
        HypercolumnHead(["conv1"], [4, 5], 2)


def test_it_is_no_onnx_model():
    with refused("hypercolumn", "ONNX"):
        onnx_colorizer(colorizer_over())


def test_an_unknown_head_in_a_header_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "colorizer.safetensors"
    monkeypatch.setattr(HypercolumnHead, "name", "columns")
    save_colorizer(colorizer_over(), path, Provenance("hypercolumn"))
    with refused("head", received="columns", allowed=("convolutions", "hypercolumn")):
        load_colorizer(path)
