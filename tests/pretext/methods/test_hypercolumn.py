import itertools

import pytest
import torch
from made_photos import gray_folder, smooth_photos
from refusals import refused
from small_alexnet import small_alexnet
from torch.nn import functional as F

from pretext.backbones import VGG16
from pretext.backbones.checkpoint import load_backbone
from pretext.backbones.hypercolumn import column_layers, hypercolumns
from pretext.backbones.initializers import he_normal_
from pretext.color.bins import ab_bins
from pretext.color.lab import rgb_to_lab, rgb_to_lightness
from pretext.color.spaces import RebalancedAbBins
from pretext.colorize.colorizer import load_colorizer
from pretext.data.sources import open_photos
from pretext.methods import Hypercolumn
from pretext.methods.hypercolumn import colors_at
from pretext.training.engine import pretrain
from pretext.training.runner import latest_checkpoint

SMALL = {
    "loss": "classification",
    "layers": ("data", "conv1", "conv2", "conv5"),
    "hidden_channels": 8,
    "places": 6,
}
INDEX = torch.arange(3)


@pytest.fixture(scope="module")
def image():
    return smooth_photos(3)


@pytest.fixture
def method():
    def make(**arguments):
        built = Hypercolumn(small_alexnet("lightness"), **(SMALL | arguments))
        he_normal_(built, 0)
        return built.eval()

    return make


def test_the_loss_is_that_of_the_places_colours(method, image):
    hypercolumn = method(neighbors=1)
    torch.manual_seed(5)
    loss = hypercolumn(image, INDEX).losses["loss_color"]
    torch.manual_seed(5)
    rows, columns = hypercolumn.draw(image)
    assert rows.shape == columns.shape == (3, 6)
    inputs = hypercolumn.backbone.normalize(rgb_to_lightness(image))
    layers = column_layers(hypercolumn.backbone, SMALL["layers"])
    found = hypercolumns(hypercolumn.backbone, inputs, layers, rows, columns)
    assert found.shape == (3, 1 + 16 + 32 + 32, 6, 1)
    logits = hypercolumn.head(found)[..., 0]
    lab = rgb_to_lab(image)
    labels = torch.empty(3, 6, dtype=torch.int64)
    for n, p in itertools.product(range(3), range(6)):
        distance = (ab_bins() - lab[n, 1:, rows[n, p], columns[n, p]]).square().sum(1)
        labels[n, p] = distance.argmin()
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels))


def test_places_lie_within_the_borders_and_everywhere_there(method, image):
    places = torch.cat([torch.stack(method(border=20, places=400).draw(image)) for _ in range(2)])
    assert (places.min(), places.max()) == (20, 43)
    assert set(places.flatten().tolist()) == set(range(20, 44))
    assert not torch.equal(places[0], places[1])
    with refused("border", received="border=32 of 64 pixels"):
        method(border=32)(image, INDEX)


@pytest.mark.parametrize("window", [1, 3, 7])
def test_targets_are_the_colours_around_each_place(window, image):
    rows, columns = torch.tensor([[0, 30, 63]] * 3), torch.tensor([[5, 63, 0]] * 3)
    found = colors_at(image, rows, columns, window)
    lab = rgb_to_lab(image)
    if window == 1:
        assert found.shape == (3, 3, 3, 1)
        torch.testing.assert_close(found[0, :, :, 0], lab[0, :, rows[0], columns[0]])
        return
    assert found.shape == (3, 3, window * window, 3, 1)
    reach = window // 2
    padded = F.pad(lab, (reach,) * 4, mode="replicate")
    for p in range(3):
        row, column = int(rows[0, p]), int(columns[0, p])
        square = padded[:, :, row : row + window, column : column + window]
        torch.testing.assert_close(found[:, :, :, p, 0], square.flatten(2))
    middle = found[:, :, window * window // 2]
    torch.testing.assert_close(middle, colors_at(image, rows, columns))


def test_a_window_goes_to_the_output_space_with_the_weights_of_photos(method, image, monkeypatch):
    mixed = image.clone()
    mixed[0] = mixed[0, :1]
    hypercolumn, seen = method(window=3), []

    def loss(prediction, target, photo_weights):
        seen.append((prediction.shape, target.shape, photo_weights))
        return prediction.sum()

    monkeypatch.setattr(hypercolumn.space, "loss", loss)
    hypercolumn(mixed, INDEX)
    ((prediction, target, weights),) = seen
    assert (prediction, target) == ((3, 313, 6, 1), (3, 3, 9, 6, 1))
    assert weights.tolist() == [0, 1, 1]


def test_gray_photos_count_or_not(method, image):
    mixed = image.clone()
    mixed[0] = mixed[0, :1]
    losses = {}
    for threshold in (5.0, None):
        for name, photos in (("mixed", mixed), ("colorful", image)):
            torch.manual_seed(0)
            hypercolumn = method(gray_threshold=threshold)
            losses[threshold, name] = hypercolumn(photos, INDEX).losses["loss_color"].item()
    assert losses[5.0, "mixed"] < 0.75 * losses[5.0, "colorful"]
    assert losses[None, "mixed"] > 0.9 * losses[None, "colorful"]
    assert losses[None, "colorful"] == losses[5.0, "colorful"]


@pytest.mark.parametrize("norm", ["batch", "batch_no_affine", "none"])
def test_every_layer_is_balanced_on_training_photos(norm, image):
    backbone = small_alexnet("lightness", norm=norm)
    hypercolumn = Hypercolumn(backbone, **SMALL | {"places": 3000})
    he_normal_(hypercolumn, 0)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    hypercolumn.begin_epoch(0, [{"image": image}, {"image": image.flip(3)}])
    # Nothing but the factors has changed, not even the statistics of batch norm.
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    scales = hypercolumn.head.scales.clone()
    places = torch.cartesian_prod(torch.arange(64), torch.arange(64))
    rows, columns = (each.expand(3, -1) for each in places.T)
    layers = column_layers(backbone, SMALL["layers"])
    with torch.no_grad():
        inputs = backbone.normalize(rgb_to_lightness(image))
        found = hypercolumns(backbone.train(), inputs, layers, rows, columns)
    parts = found.split([layer.channels for layer in layers], 1)
    moments = [float((scale * part).square().mean()) for scale, part in zip(scales, parts, strict=True)]
    # Interpolation smooths, and mirrored photos are other photos.
    assert moments[0] == pytest.approx(1, rel=1e-3)
    assert all(0.4 < moment < 1.2 for moment in moments)
    hypercolumn.begin_epoch(1, [])
    assert torch.equal(hypercolumn.head.scales, scales)


def test_batches_are_read_until_there_are_enough_photos(method, image):
    read = []

    def batches():
        for number in range(100):
            read.append(number)
            yield {"image": image}

    method().begin_epoch(0, batches())
    assert len(read) == 22  # of 3 photos: 64 at least


@pytest.mark.parametrize("loss", ["rebalanced", "l2", "hue_chroma"])
def test_it_learns_from_a_few_places(loss, train_method, photo_folder, image):
    hypercolumn = Hypercolumn(
        small_alexnet("lightness"),
        prior="imagenet",
        dropout=0.0,
        **SMALL | {"loss": loss, "places": 64, "hidden_channels": 32},
    )
    logged = train_method(hypercolumn, image, steps=30, lr=1e-2, photos=open_photos(photo_folder))
    first, last = (next(iter(logged[k].values())) for k in (0, -1))
    assert last < 0.85 * first
    assert isinstance(hypercolumn.space, RebalancedAbBins) == (loss == "rebalanced")


def test_a_reduced_vgg16_of_the_release_learns(train_method, image):
    backbone = VGG16(width=1 / 32, fully_connected=True, pool5_stride=2, norm="batch_no_affine")
    hypercolumn = Hypercolumn(backbone, loss="l2", hidden_channels=16, dropout=0.0)
    assert hypercolumn.head.layers[::15] == ("data", "fc7")
    logged = train_method(hypercolumn, image, steps=6)
    assert logged[-1]["loss_l2"] < logged[0]["loss_l2"]


def test_only_layers_under_the_head_are_trained(method, image):
    hypercolumn = method(layers=("conv1", "conv3")).train()
    hypercolumn(image, INDEX).losses["loss_color"].backward()
    for name, parameter in hypercolumn.named_parameters():
        assert (parameter.grad is None) == name.startswith(("backbone.conv4", "backbone.conv5")), name


def test_previews_show_lightness_truth_and_prediction(method, image):
    pictures = method().preview(image)
    assert pictures.shape == (3, 3, 64, 192)
    assert torch.equal(pictures[..., 64:128], image)


def test_the_colorizer_predicts_at_every_fourth_pixel(method, image):
    hypercolumn = method()
    assert hypercolumn.colorizer()(rgb_to_lightness(image)).ab.shape == (3, 2, 16, 16)
    shared = {parameter.data_ptr() for parameter in hypercolumn.colorizer().parameters()}
    assert shared == {parameter.data_ptr() for parameter in hypercolumn.parameters()}


def test_photos_without_colour_are_refused(method, tmp_path):
    gray = open_photos(gray_folder(tmp_path / "gray", 3))
    for threshold in (5.0, None):
        with refused("hypercolumn", received="3 gray photos of 3"):
            method(gray_threshold=threshold).setup(gray, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "names", "received"),
    [
        ({"loss": "hue"}, ["hypercolumn loss"], "hue"),
        ({"layers": ("conv9",)}, ["alexnet"], "conv9"),
        ({"layers": "conv1,conv2"}, ["layers"], "conv1,conv2"),
        ({"places": 0}, ["places"], 0),
        ({"border": -1}, ["border"], -1),
        ({"window": 4}, ["window"], 4),
        ({"window": 0}, ["window"], 0),
    ],
)
def test_bad_arguments_are_refused(arguments, names, received, method):
    with refused(*names, received=received):
        method(**arguments)
    with refused("hypercolumn", "input_space", received="lab"):
        Hypercolumn(small_alexnet("lab"))


def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(tiny_config, photo_folder, tmp_path, interrupt_at):
    config = tiny_config(
        "hypercolumn",
        *("batch_size=8", "steps=5", "checkpoint_interval=2", "view.size=64", "view.resize=64"),
        *("method.hidden_channels=8", "method.places=6"),
    )
    whole = pretrain(config, work_dir=tmp_path / "whole", data=str(photo_folder))
    go_on = interrupt_at(3)
    with pytest.raises(KeyboardInterrupt):
        pretrain(config, work_dir=tmp_path / "broken", data=str(photo_folder))
    go_on()
    assert latest_checkpoint(tmp_path / "broken").name == "step_00000002.pth"
    resumed = pretrain(config, work_dir=tmp_path / "broken", data=str(photo_folder))
    assert load_backbone(whole).sha256 == load_backbone(resumed).sha256
    states = [load_colorizer(path.parent / "colorizer.safetensors").state_dict() for path in (whole, resumed)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert not torch.equal(states[0]["head.scales"], torch.ones(6))


def test_values_have_no_window(method, image):
    with refused("window", "l2", received=3, allowed="window=1"):
        method(loss="l2", window=3)
    assert method(loss="hue_chroma", window=3)(image, INDEX).losses["loss_color"] > 0
