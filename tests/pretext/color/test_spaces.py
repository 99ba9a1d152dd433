import colorsys
import json
import math
from itertools import pairwise

import naive_histograms
import numpy as np
import pytest
import torch
from refusals import refused

from pretext.color.bins import ab_bins
from pretext.color.histograms import apply_bias, chi_squared, mean_histogram
from pretext.color.lab import lab_to_rgb, rgb_to_lab
from pretext.color.prior import imagenet_prior
from pretext.color.rebalance import rebalance_weights
from pretext.color.spaces import (
    SPACES,
    AbBins,
    HueChroma,
    LabJoint,
    LabMarginals,
    LightnessBins,
    OutputSpace,
    RebalancedAbBins,
    Regression,
    SigmoidRegression,
    ab_regression,
)
from pretext.colorize.settings import RULES

#: Bins that no two colours of a test are equally near to.
FEW = [[0.0, 0.0], [31.0, 4.0], [-22.0, 17.0], [5.0, -43.0], [12.0, 55.0], [-60.0, -9.0]]


def rebalanced(*arguments):
    """Bins with weights that differ."""
    space = RebalancedAbBins(*arguments)
    space.balance(torch.arange(1.0, space.channels + 1), mix=0.5)
    return space


#: A space of each kind by its name, and a second one with other arguments.
MAKE = {
    "regression": ab_regression,
    "regression of lightness": lambda: Regression((0, 1), (50.0,), (25.0,)),
    "sigmoid_regression": SigmoidRegression,
    "ab_bins": lambda: AbBins(ab_bins()),
    "ab_bins one-hot": lambda: AbBins(FEW, neighbors=1, sigma=3.0, temperature=1.0),
    "rebalanced_ab_bins": lambda: rebalanced(ab_bins("gamut_center")),
    "rebalanced_ab_bins few": lambda: rebalanced(FEW, 3, 20.0, 0.5),
    "lightness_bins": LightnessBins,
    "lightness_bins few": lambda: LightnessBins(7),
    "lab_marginals": LabMarginals,
    "lab_marginals few": lambda: LabMarginals(5, 40.0, 0.5),
    "lab_joint": LabJoint,
    "lab_joint few": lambda: LabJoint(3, 40.0, 0.5),
    "hue_chroma": HueChroma,
    "hue_chroma few": lambda: HueChroma(6, 2.0, "release", 0.4, "sum"),
}
SMALL = ["regression", "sigmoid_regression", "lightness_bins", *(name for name in MAKE if " " in name)]


@pytest.fixture(params=MAKE)
def space(request):
    return MAKE[request.param]()


def target_of(n=2, h=3, w=4, dtype=torch.float32):
    """Lab of random colours, as far out as those of sRGB are."""
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(n, 3, h, w, generator=generator, dtype=torch.float64)
    scale = torch.tensor([100.0, 160.0, 160.0], dtype=torch.float64).view(3, 1, 1)
    return (uniform * scale - torch.tensor([0.0, 80.0, 80.0]).view(3, 1, 1)).to(dtype)


def prediction_of(space, n=2, h=3, w=4, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, space.channels, h, w, generator=generator, dtype=dtype) * 2


def lightness_of(n=2, h=3, w=4, dtype=torch.float32):
    return torch.linspace(10, 90, n * h * w, dtype=dtype).view(n, 1, h, w)


def decoded_by(space, prediction, *arguments, **options):
    n, _, h, w = prediction.shape
    return space.decode(prediction, *arguments, lightness=lightness_of(n, h, w, prediction.dtype), **options)


def log_softmax(scores):
    largest = scores.max()
    return scores - largest - math.log(np.exp(scores - largest).sum())


def naive_pixel_loss(space, scores, lab):
    """The loss of one pixel from the papers' equations, in NumPy."""
    if isinstance(space, Regression):
        # Zhang et al. (ECCV 2016), equation 1, in the units of the prediction.
        values = lab[space.lab_channels]
        mean, std = space.mean.numpy().ravel(), space.std.numpy().ravel()
        return 0.5 * sum((s - (v - m) / d) ** 2 for s, v, m, d in zip(scores, values, mean, std, strict=True))
    if isinstance(space, SigmoidRegression):
        return sum(
            (1 / (1 + math.exp(-s)) - (v + 128) / 255) ** 2 for s, v in zip(scores, lab[1:], strict=True)
        )
    if isinstance(space, LightnessBins):
        width = 100 / space.channels
        return -log_softmax(scores)[min(int(lab[0] // width), space.channels - 1)]
    if isinstance(space, LabMarginals | LabJoint):
        loss = {"lab_marginals": naive_histograms.marginals_loss, "lab_joint": naive_histograms.joint_loss}
        return loss[space.name](scores, lab[None, 1:] * 25 / space.std, space.count)
    if isinstance(space, HueChroma):
        rgb = lab_to_rgb(torch.tensor(lab).view(1, 3, 1, 1)).view(1, 3).numpy()
        release = space.chroma_weight == "release"
        return naive_histograms.hue_chroma_loss(scores, rgb, space.count, space.hue_weight, release)
    # Zhang et al. (ECCV 2016), section 2.2 and equation 2.
    squared = ((np.array(space.arguments()["bins"]) - lab[1:]) ** 2).sum(1)
    nearest = squared.argsort(kind="stable")[: space.arguments()["neighbors"]]
    weights = np.exp(-squared[nearest] / (2 * space.arguments()["sigma"] ** 2))
    weights /= weights.sum()
    rarity = space.bin_weights[nearest[0]].item() if isinstance(space, RebalancedAbBins) else 1.0
    return -rarity * (weights * log_softmax(scores)[nearest]).sum()


def naive_loss(space, prediction, target, photo_weights):
    n, _, h, w = prediction.shape
    prediction, target = prediction.double().numpy(), target.double().numpy()
    total = 0.0
    for photo in range(n):
        for y in range(h):
            for x in range(w):
                loss = naive_pixel_loss(space, prediction[photo, :, y, x], target[photo, :, y, x])
                total += photo_weights[photo] * loss
    return total / (n * h * w)


@pytest.mark.parametrize("photo_weights", [None, [1.0, 0.0], [0.5, 2.0]])
def test_the_loss_is_that_of_the_equations(space, photo_weights):
    prediction, target = prediction_of(space), target_of()
    expected = naive_loss(space, prediction, target, photo_weights or [1.0, 1.0])
    given = None if photo_weights is None else torch.tensor(photo_weights)
    assert space.loss(prediction, target, given).item() == pytest.approx(expected, rel=1e-5)


def naive_decoded(space, scores, temperature):
    """One pixel, decoded as the papers say, in NumPy."""
    if isinstance(space, Regression):
        return scores * space.std.numpy().ravel() + space.mean.numpy().ravel()
    if isinstance(space, SigmoidRegression):
        return 255 / (1 + np.exp(-scores)) - 128
    if isinstance(space, LabMarginals):
        centers = naive_histograms.gaussian_centers(space.count, space.std)
        halves = scores[: space.count], scores[space.count :]
        return np.array([naive_histograms.softmax(half, temperature) @ centers for half in halves])
    probabilities = np.exp(log_softmax(scores)) ** (1 / temperature)
    probabilities /= probabilities.sum()
    if isinstance(space, LightnessBins):
        width = 100 / space.channels
        return np.array([(probabilities * (np.arange(space.channels) + 0.5) * width).sum()])
    if isinstance(space, LabJoint):
        centers = naive_histograms.gaussian_centers(space.count, space.std)
        table = probabilities.reshape(space.count, space.count)
        return np.array([table.sum(1) @ centers, table.sum(0) @ centers])
    return (probabilities[:, None] * np.array(space.arguments()["bins"])).sum(0)


def test_decoding_is_the_annealed_mean_or_the_inverse_of_the_normalisation(space):
    prediction = prediction_of(space, dtype=torch.float64)
    decoded = decoded_by(space, prediction)
    assert decoded.shape == (2, space.lab_channels.stop - space.lab_channels.start, 3, 4)
    if isinstance(space, HueChroma):
        return  # see test_hue_chroma.py
    own = space.arguments().get("temperature", 1.0)
    for photo in range(2):
        for y in range(3):
            for x in range(4):
                expected = naive_decoded(space, prediction[photo, :, y, x].numpy(), own)
                np.testing.assert_allclose(decoded[photo, :, y, x].numpy(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["ab_bins", "rebalanced_ab_bins few", "lightness_bins", "lab_marginals few", "lab_joint few"]
)
def test_another_temperature_may_decode_scores_and_logarithms_of_probabilities(name):
    space = MAKE[name]()
    prediction = prediction_of(space, dtype=torch.float64)
    distribution = space.distribution(prediction)
    decoded = space.decode(prediction, 0.7)
    torch.testing.assert_close(space.decode(distribution.log(), 0.7), decoded)
    expected = naive_decoded(space, prediction[1, :, 2, 3].numpy(), 0.7)
    np.testing.assert_allclose(decoded[1, :, 2, 3].numpy(), expected, rtol=1e-6, atol=1e-6)


def test_a_distribution_sums_to_one_and_is_that_of_the_scores(space):
    prediction = prediction_of(space)
    distribution = space.distribution(prediction)
    if isinstance(space, Regression | SigmoidRegression):
        assert distribution is None
        return
    assert distribution.shape == prediction.shape
    assert sum(space.histograms) == space.channels
    for part, scores in zip(space.parts(distribution), space.parts(prediction), strict=True):
        torch.testing.assert_close(part.sum(1), torch.ones(2, 3, 4))
        expected = np.exp(log_softmax(scores[0, :, 1, 2].double().numpy()))
        np.testing.assert_allclose(part[0, :, 1, 2].numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_the_gradient_is_that_of_the_loss(name):
    space = MAKE[name]().double()
    target, photo_weights = target_of(2, 2, 2, torch.float64), torch.tensor([1.0, 0.5], dtype=torch.float64)
    prediction = prediction_of(space, 2, 2, 2, torch.float64).requires_grad_()
    # The product is no leaf, and so may be overwritten, as a network's output may be. The backward pass of a
    # cross-entropy runs only once, which does not do for gradcheck.
    (gradient,) = torch.autograd.grad(space.loss(prediction * 1.0, target, photo_weights), prediction)
    steps = 1e-6 * torch.eye(prediction.numel(), dtype=torch.float64).view(-1, *prediction.shape)
    with torch.no_grad():
        losses = [
            [space.loss(prediction + sign * step, target, photo_weights) for step in steps]
            for sign in (1, -1)
        ]
    numeric = (torch.stack(losses[0]) - torch.stack(losses[1])) / 2e-6
    torch.testing.assert_close(gradient, numeric.view_as(gradient), rtol=1e-5, atol=1e-8)
    if not isinstance(space, HueChroma):
        assert torch.autograd.gradcheck(space.decode, prediction)


def test_a_prediction_that_was_cut_from_another_is_not_overwritten(space):
    whole = prediction_of(space, h=4, w=5).requires_grad_() * 1.0
    before = whole.detach().clone()
    space.loss(whole[..., :3, :4], target_of()).backward()
    assert torch.equal(whole, before)


def test_arguments_make_the_same_space_again_after_json(space):
    again = SPACES[space.name](**json.loads(json.dumps(space.arguments())))
    again.load_state_dict(space.state_dict())
    assert type(again) is type(space)
    assert (again.channels, again.lab_channels) == (space.channels, space.lab_channels)
    assert again.arguments() == space.arguments()
    prediction, target = prediction_of(space), target_of()
    assert torch.equal(decoded_by(again, prediction), decoded_by(space, prediction))
    assert torch.equal(again.loss(prediction, target), space.loss(prediction, target))


def test_bins_are_kept_to_the_last_bit():
    bins = torch.rand(20, 2, generator=torch.Generator().manual_seed(0)) * 200 - 100
    arguments = json.loads(json.dumps(AbBins(bins).arguments()))
    assert torch.equal(AbBins(**arguments).bins, bins)


def rules():
    return [(name, rule) for name in MAKE for rule in MAKE[name]().rules if " " in name]


@pytest.mark.parametrize(("name", "rule"), rules())
def test_every_rule_gives_colours_of_scores_and_of_logarithms_of_probabilities(name, rule):
    space = MAKE[name]()
    prediction = prediction_of(space, dtype=torch.float64)

    def decoded(scores):
        return decoded_by(space, scores, rule=rule, generator=torch.Generator().manual_seed(0))

    ab = decoded(prediction)
    assert ab.shape == (2, space.lab_channels.stop - space.lab_channels.start, 3, 4)
    assert ab.isfinite().all()
    torch.testing.assert_close(decoded(space.distribution(prediction).log()), ab)
    assert rule in RULES


@pytest.mark.parametrize("name", [name for name in MAKE if " " in name and MAKE[name]().rules])
def test_the_annealed_mean_lies_between_the_mean_and_the_mode(name):
    space = MAKE[name]()
    prediction = prediction_of(space, dtype=torch.float64)
    for temperature, limit in ((1.0, "mean"), (1e-4, "mode")):
        expected = decoded_by(space, prediction, rule=limit)
        torch.testing.assert_close(decoded_by(space, prediction, temperature), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", MAKE)
def test_other_rules_are_refused(name):
    space = MAKE[name]()
    with refused("rule", name.split()[0], received="vivid", allowed=space.rules):
        decoded_by(space, prediction_of(space), rule="vivid")


@pytest.mark.parametrize("name", [name for name in MAKE if " " in name and MAKE[name]().histograms])
def test_a_window_is_compared_by_the_mean_of_its_pixels(name):
    # The cross-entropy is linear in the target, so that it is the mean over the pixels but for their weights, which
    # are those of the middle.
    space = MAKE[name]()
    prediction, windows = prediction_of(space), target_of(2, 9, 12).view(2, 3, 9, 3, 4)
    photo_weights = torch.tensor([0.5, 2.0])
    expected = [
        naive_window_loss(space, prediction[n, :, y, x].double().numpy(), windows[n, :, :, y, x])
        * photo_weights[n]
        for n in range(2)
        for y in range(3)
        for x in range(4)
    ]
    assert space.loss(prediction, windows, photo_weights).item() == pytest.approx(np.mean(expected), rel=1e-5)
    middle = windows[:, :, 4]
    same = middle[:, :, None].expand(2, 3, 9, 3, 4)
    torch.testing.assert_close(space.loss(prediction, same), space.loss(prediction, middle))


def naive_window_loss(space, scores, window):
    """The loss of one position whose window is (3, R * R)."""
    lab = window.double().numpy().T
    if isinstance(space, HueChroma):
        rgb = lab_to_rgb(window.T.reshape(-1, 3, 1, 1)).view(-1, 3).double().numpy()
        release = space.chroma_weight == "release"
        return naive_histograms.hue_chroma_loss(scores, rgb, space.count, space.hue_weight, release)
    losses = [naive_pixel_loss(space, scores, pixel) for pixel in lab]
    if not isinstance(space, RebalancedAbBins):
        return np.mean(losses)
    rarities = space.bin_weights[space.encoder.nearest_bin(window[None, 1:, :, None])].flatten().numpy()
    return rarities[len(lab) // 2] * np.mean(losses / rarities)


def test_names_are_those_of_the_table():
    assert all(space.name == name for name, space in SPACES.items())
    assert all(issubclass(space, OutputSpace) for space in SPACES.values())
    assert {name.split()[0] for name in MAKE} == set(SPACES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_and_colours_have_the_type_of_the_prediction(space, dtype):
    space = space.to(dtype)
    prediction, target = prediction_of(space, dtype=dtype), target_of(dtype=dtype)
    assert decoded_by(space, prediction).dtype == dtype
    assert space.loss(prediction, target).dtype == dtype


def test_all_of_a_space_follows_the_device(space):
    assert {buffer.device.type for buffer in space.to("meta").buffers()} <= {"meta"}


def test_ab_regression_is_the_colours_over_20():
    space, target = ab_regression(), target_of()
    assert (space.channels, space.lab_channels) == (2, slice(1, 3))
    assert space.loss(target[:, 1:] / 20, target).item() == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(space.decode(target[:, 1:] / 20), target[:, 1:])


def test_weights_are_one_until_there_is_a_prior_and_then_equation_4s():
    space, plain = RebalancedAbBins(ab_bins()), AbBins(ab_bins())
    prediction, target = prediction_of(space), target_of()
    assert torch.equal(space.loss(prediction, target), plain.loss(prediction, target))
    prior = imagenet_prior().probabilities
    space.balance(prior, mix=0.3)
    torch.testing.assert_close(space.bin_weights, rebalance_weights(prior, mix=0.3).float())
    assert space.state_dict().keys() == {"bin_weights"}
    assert plain.state_dict() == {}


def test_bins_of_lightness_are_of_equal_width_from_black_to_white():
    lightness = torch.tensor([-1e-5, 0.0, 1.99, 2.0, 50.0, 97.9, 98.1, 100.0, 100.0001]).view(1, 1, 1, 9)
    for count, expected in ((50, [0, 0, 0, 1, 25, 48, 49, 49, 49]), (100, [0, 0, 1, 2, 50, 97, 98, 99, 99])):
        indices, weights = LightnessBins(count).encode(lightness)
        assert indices.flatten().tolist() == expected
        assert torch.equal(weights, torch.ones(1, 1, 1, 9))


@pytest.mark.parametrize(
    ("make", "names", "fields"),
    [
        (lambda: LightnessBins(1), ["lightness_bins"], {"received": 1, "allowed": "from 2 up"}),
        (lambda: AbBins(FEW, neighbors=7), ["neighbors"], {"received": 7, "allowed": "1 to 6"}),
        (lambda: AbBins(FEW, sigma=0.0), ["sigma"], {"received": 0.0}),
        (lambda: AbBins([[0.0, 200.0]], neighbors=1), ["bins"], {"received": (0.0, 200.0)}),
        (lambda: Regression((1, 3), (0.0,), (1.0, 1.0)), ["2 channels"], {"received": (1, 2)}),
        (lambda: LabMarginals(1), ["count", "lab_marginals"], {"received": 1, "allowed": "from 2 up"}),
        (lambda: LabJoint(std=0.0), ["std", "lab_joint"], {"received": 0.0, "allowed": "above 0"}),
        (lambda: HueChroma(hue_weight=-1.0), ["hue_weight"], {"received": -1.0}),
        (lambda: HueChroma(chroma_weight="none"), ["chroma_weight"], {"allowed": "release"}),
        (lambda: HueChroma(eta=0.0), ["eta"], {"received": 0.0, "allowed": "above 0"}),
        (lambda: HueChroma(fading="max"), ["fading"], {"received": "max", "allowed": "sum"}),
    ],
)
def test_bad_arguments_are_refused(make, names, fields):
    with refused(*names, **fields):
        make()


def test_a_temperature_that_cannot_be_is_refused():
    with refused("temperature", received=0.0, allowed="above 0"):
        AbBins(FEW).decode(prediction_of(AbBins(FEW)), 0.0)
    with refused("temperature", received=0.5, allowed=(None,)):
        ab_regression().decode(prediction_of(ab_regression()), 0.5)


class TestHistogramsOfPhotos:
    @pytest.fixture
    def rgb(self):
        """Two photos of 8-bit colours, some of them gray."""
        photos = np.random.default_rng(0).integers(0, 256, (2, 9, 7, 3))
        photos[:, :2, :2] = 90
        return photos

    @pytest.fixture
    def lab(self, rgb):
        return rgb_to_lab(torch.from_numpy(rgb).permute(0, 3, 1, 2).to(torch.uint8))

    @pytest.mark.parametrize("name", ["ab_bins", "rebalanced_ab_bins few", "lab_joint few", "lightness_bins"])
    def test_bins_are_those_that_colours_are_encoded_to(self, name, lab):
        space = MAKE[name]()
        (found,) = space.histograms_of(lab)
        indices, weights = space.encode(lab[:, space.lab_channels])
        for n in range(2):
            counts = np.bincount(indices[n].flatten(), weights[n].flatten(), minlength=space.channels)
            assert found[n].numpy() == pytest.approx(counts / 63, abs=1e-6)

    def test_marginals_are_counted(self, lab):
        space = LabMarginals(5)
        edges = np.concatenate([[-np.inf], space.edges, [np.inf]])
        for channel, found in enumerate(space.histograms_of(lab)):
            for n in range(2):
                values = lab[n, 1 + channel].flatten()
                counts = [((values >= low) & (values < high)).sum() for low, high in pairwise(edges)]
                assert found[n].numpy() == pytest.approx(np.array(counts) / 63)

    def test_hues_count_by_their_chroma(self, rgb, lab):
        space = HueChroma(6)
        of_hue, of_chroma = space.histograms_of(lab)
        for n in range(2):
            pixels = [colorsys.rgb_to_hsv(*(pixel / 255)) for pixel in rgb[n].reshape(-1, 3)]
            hues, chromas = np.array([(hue, saturation * value) for hue, saturation, value in pixels]).T
            wanted, _ = np.histogram(hues, 6, (0, 1), weights=chromas / chromas.sum())
            assert of_hue[n].numpy() == pytest.approx(wanted, abs=2e-4)
            assert of_chroma[n].numpy() == pytest.approx(np.histogram(chromas, 6, (0, 1))[0] / 63, abs=1e-6)

    @pytest.mark.parametrize(
        "name", ["ab_bins one-hot", "lab_joint few", "lab_marginals few", "hue_chroma few"]
    )
    def test_biases_bring_the_mean_near_it(self, name, lab):
        space = MAKE[name]()
        scores = 3 * torch.randn(2, space.channels, 5, 4, generator=torch.Generator().manual_seed(0))
        targets = space.histograms_of(lab)
        for part, bias, target in zip(
            space.parts(scores), space.biases(scores, targets), targets, strict=True
        ):
            before, after = (
                chi_squared(mean_histogram(each), target) for each in (part, apply_bias(part, bias))
            )
            assert (after < 0.3 * before).all()

    def test_values_have_none(self, lab):
        with refused("regression"):
            ab_regression().histograms_of(lab)
