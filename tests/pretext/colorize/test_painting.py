import copy
import math

import pytest
import torch
from made_photos import smooth_photos
from refusals import refused
from small_alexnet import small_alexnet
from torch import nn
from torch.nn import functional as F

from pretext.backbones.checkpoint import Provenance
from pretext.backbones.initializers import he_normal_
from pretext.color.bins import ab_bins
from pretext.color.decode import annealed_mean, mode
from pretext.color.gamut import reduce_chroma
from pretext.color.lab import lab_to_rgb, rgb_to_lab, rgb_to_lightness
from pretext.color.spaces import AbBins, HueChroma, LabJoint, LabMarginals, ab_regression
from pretext.colorize import painting
from pretext.colorize.colorizer import ColorHead, Colorizer, Colors
from pretext.colorize.heads import Grid
from pretext.colorize.painting import (
    Decoding,
    decode,
    entropy,
    lightness_of,
    network_size,
    own_size,
    paint,
    paint_decoded,
    predict,
)
from pretext.colorize.settings import RULES
from pretext.colorize.upsampling import LIGHTNESS_SIGMA, UNLIKE

BINS = ab_bins()


@pytest.fixture(scope="module")
def colorizer():
    made = Colorizer(small_alexnet("lightness"), ColorHead(32, 313), AbBins(BINS), "conv5").eval()
    he_normal_(made, 0)
    made.head[0].weight.data *= 4  # distributions that are far from uniform
    made.provenance = Provenance("colorization", config={"view": {"size": 48, "resize": 64}})
    return made


@pytest.fixture
def small_bands(monkeypatch):
    monkeypatch.setattr(painting, "BAND_PIXELS", 150)


def ramp(height, width):
    """Lightness that rises from the left to the right."""
    return torch.linspace(5, 95, width).expand(1, height, width).contiguous()


def test_the_size_is_that_of_the_photos_it_was_trained_on(colorizer):
    assert own_size(colorizer) == 64
    other = Colorizer(small_alexnet("lightness"), ColorHead(32, 2), ab_regression(), "conv5")
    assert own_size(other) == 256
    other.provenance = Provenance("elsewhere", config={"view": "unknown"})
    assert own_size(other) == 256


@pytest.mark.parametrize(
    ("photo", "seen"),
    [
        ((512, 512), (64, 64)),
        ((100, 300), (64, 192)),
        ((300, 100), (192, 64)),
        ((37, 53), (64, 96)),
        ((1, 1), (64, 64)),
        ((1, 4000), (32, 512)),
        ((4000, 1), (512, 32)),
    ],
)
def test_the_network_sees_the_photo_in_its_shape_at_multiples_of_the_stride(photo, seen):
    assert network_size(*photo, 64, 16) == seen


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 4000), (31, 53), (200, 64)])
@pytest.mark.parametrize("upsampling", painting.UPSAMPLINGS)
def test_a_photo_of_any_size_is_painted_at_its_size(height, width, upsampling, colorizer):
    photo = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    colors = predict(colorizer, photo)
    assert colors.distribution.shape[-2:] == colors.ab.shape[-2:]
    painted = paint(lightness_of(photo), colors.ab[0], upsampling)
    assert painted.shape == photo.shape
    assert painted.dtype == torch.uint8


def test_a_photo_and_its_lightness_get_the_same_colours(colorizer):
    photo = smooth_photos(1)[0]
    first, second = predict(colorizer, photo, 48), predict(colorizer, lightness_of(photo), 48)
    assert torch.equal(first.ab, second.ab)
    assert first.ab.shape == (1, 2, 3, 3)
    with refused("size", received=0):
        predict(colorizer, photo, 0)


class Positions(Colorizer):
    """A colorizer whose ab at each position is the lightness of the row on which it is centred."""

    def __init__(self, stride, offset):
        nn.Module.__init__(self)
        self.grid = Grid(stride, offset, stride)
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, lightness):
        stride = self.grid.stride
        rows, columns = (length // stride for length in lightness.shape[2:])
        centers = (self.grid.offset + stride * torch.arange(rows)).clamp_min(0).long()
        return Colors(lightness[:, :, centers, :1].expand(1, 2, rows, columns), None)


@pytest.mark.parametrize(("stride", "offset"), [(16, 0.0), (8, 0.0), (4, -2.0), (16, 7.5), (4, 1.5)])
def test_the_map_lies_evenly_in_the_photo(stride, offset):
    side = 64
    rows = torch.arange(side, dtype=torch.float32).view(1, side, 1).expand(1, side, side)
    ab = predict(Positions(stride, offset), rows.contiguous(), side).ab[0, 0, :, 0]
    expected = torch.arange(side // stride) * stride + (stride - 1) / 2
    assert len(ab) == len(expected)
    assert (ab - expected).abs().max() <= 1


def test_rules_choose_from_the_distribution(colorizer):
    colors = predict(colorizer, smooth_photos(1)[0])
    scores = colors.distribution.log()
    expected = {
        Decoding(): annealed_mean(scores, BINS, 0.38),
        Decoding("annealed", 0.2): annealed_mean(scores, BINS, 0.2),
        Decoding("mean"): annealed_mean(scores, BINS, 1.0),
        Decoding("mode"): mode(scores, BINS),
        Decoding("sample", 1e-6): mode(scores, BINS),
        Decoding("coherent", 1e-6): mode(scores, BINS),
    }
    for decoding, ab in expected.items():
        torch.testing.assert_close(decode(colorizer, colors, decoding), ab, rtol=1e-3, atol=1e-3)
    for rule in ("sample", "coherent"):
        drawn = [decode(colorizer, colors, Decoding(rule, seed=seed)) for seed in (1, 1, 2)]
        assert torch.equal(drawn[0], drawn[1])
        assert not torch.equal(drawn[0], drawn[2])


#: Colorizers of all kinds of distributions.
SPACES = {
    "ab_bins": lambda: AbBins(BINS[::9]),
    "lab_joint": lambda: LabJoint(8),
    "lab_marginals": LabMarginals,
    "hue_chroma": HueChroma,
}


@pytest.fixture(scope="module", params=SPACES)
def any_colorizer(request):
    space = SPACES[request.param]()
    made = Colorizer(small_alexnet("lightness"), ColorHead(32, space.channels), space, "conv5").eval()
    he_normal_(made, 0)
    made.head[0].weight.data *= 4
    return made


@torch.no_grad()
def test_every_rule_of_a_space_decodes_what_is_kept(any_colorizer):
    space, lightness = any_colorizer.space, lightness_of(smooth_photos(1)[0])
    colors = predict(any_colorizer, lightness, 64)
    assert torch.equal(decode(any_colorizer, colors, Decoding()), colors.ab)
    torch.testing.assert_close(colors.lightness[0], F.adaptive_avg_pool2d(lightness, 4), rtol=0, atol=0.5)
    for rule in RULES:
        decoding = Decoding(rule, seed=5)
        if rule not in space.rules:
            with refused("rule", space.name, received=rule, allowed="mode"):
                decode(any_colorizer, colors, decoding)
            continue
        ab = decode(any_colorizer, colors, decoding)
        generator = torch.Generator().manual_seed(5)
        expected = space.decode(
            colors.distribution.log(), rule=rule, lightness=colors.lightness, generator=generator
        )
        torch.testing.assert_close(ab, expected, rtol=1e-3, atol=2e-2)


@torch.no_grad()
@pytest.mark.parametrize(
    "decoding", [Decoding(), Decoding("annealed", 0.5), Decoding("mode"), Decoding("coherent")]
)
def test_decoding_at_the_photo_is_that_of_the_enlarged_distribution(decoding, any_colorizer, monkeypatch):
    monkeypatch.setattr(painting, "BAND_PROBABILITIES", 3000)  # rows of a band: some, the last fewer
    lightness = lightness_of(smooth_photos(1)[0])[:, :31, :23]
    colors = predict(any_colorizer, lightness, 64)
    large = F.interpolate(colors.distribution, size=lightness.shape[1:], mode="bilinear")
    ab = any_colorizer.decode(
        large,
        decoding.temperature,
        rule=decoding.rule,
        lightness=lightness[None],
        generator=torch.Generator().manual_seed(decoding.seed),
    )
    expected = lab_to_rgb(reduce_chroma(torch.cat([lightness[None], ab], 1)))[0] * 255
    painted = paint_decoded(any_colorizer, lightness, colors, decoding, decode_at="photo")
    difference = (painted.float() - expected).abs().amax(0)
    # A most probable bin among equals may be another one by rounding.
    assert (difference < 1.01).float().mean() > 0.999


@torch.no_grad()
def test_single_draws_at_the_photo_do_not_repeat_from_band_to_band(any_colorizer, monkeypatch):
    monkeypatch.setattr(painting, "BAND_PROBABILITIES", 1)
    lightness = torch.full((1, 8, 40), 60.0)
    colors = Colors(*(None if v is None else v[..., :1, :1] for v in predict(any_colorizer, lightness, 64)))
    painted = paint_decoded(any_colorizer, lightness, colors, Decoding("sample"), decode_at="photo")
    assert not torch.equal(painted[:, 0], painted[:, 1])
    again = paint_decoded(any_colorizer, lightness, colors, Decoding("sample"), decode_at="photo")
    assert torch.equal(painted, again)


def test_decoding_at_the_map_is_what_it_was(colorizer):
    photo = smooth_photos(1)[0]
    lightness, colors = lightness_of(photo), predict(colorizer, photo)
    for upsampling in painting.UPSAMPLINGS:
        expected = paint(lightness, decode(colorizer, colors, Decoding("mode"))[0], upsampling)
        assert torch.equal(
            paint_decoded(colorizer, lightness, colors, Decoding("mode"), upsampling), expected
        )
    with refused("decode_at", received="network", allowed="photo"):
        paint_decoded(colorizer, lightness, colors, Decoding(), decode_at="network")


def test_coherent_samples_have_the_distribution_of_each_position(colorizer):
    colors = predict(colorizer, smooth_photos(1)[0])
    count = 500
    drawn = torch.stack(
        [decode(colorizer, colors, Decoding("coherent", seed=s))[0, :, 1, 2] for s in range(count)]
    )
    likely = colors.distribution[0, :, 1, 2]
    frequency = torch.stack([(drawn == center).all(1).float().mean() for center in BINS])
    # Five standard deviations of a share.
    assert ((frequency - likely).abs() <= 5 * (likely * (1 - likely) / count).sqrt() + 5e-3).all()


@pytest.mark.parametrize("decoding", [Decoding("mean"), Decoding("coherent"), Decoding(temperature=0.5)])
def test_values_leave_nothing_to_choose(decoding):
    made = Colorizer(small_alexnet("lightness"), ColorHead(32, 2), ab_regression(), "conv5").eval()
    photo = smooth_photos(1)[0]
    colors = predict(made, photo, 64)
    assert torch.equal(decode(made, colors, Decoding()), colors.ab)
    with refused("regression"):
        decode(made, colors, decoding)
    with refused("regression", received="decode_at photo"):
        paint_decoded(made, lightness_of(photo), colors, Decoding(), decode_at="photo")


def test_colours_that_are_no_numbers_are_told_and_never_painted(any_colorizer):
    """A byte of NaN is 0, and the photo would be black."""
    photo = smooth_photos(1)[0]
    lightness, colors = lightness_of(photo), predict(any_colorizer, photo, 64)
    for decode_at in ("map", "photo"):
        with refused("not finite", allowed="temperature"):
            paint_decoded(any_colorizer, lightness, colors, Decoding(temperature=1e-60), decode_at=decode_at)
    with refused("not finite"):
        paint(lightness, torch.full((2, 3, 3), math.nan))
    broken = copy.deepcopy(any_colorizer)
    broken.head[0].bias.data[0] = math.nan
    with refused("not finite", allowed="another colorizer"):
        predict(broken, photo, 64)


@pytest.mark.parametrize(
    ("arguments", "names", "received"),
    [
        ({"rule": "vivid"}, ["rule"], "vivid"),
        ({"temperature": 0.0}, ["temperature"], 0.0),
        ({"rule": "coherent", "temperature": -1.0}, ["temperature"], -1.0),
        ({"rule": "mode", "temperature": 0.5}, ["mode", "temperature"], 0.5),
        ({"rule": "median", "temperature": 0.5}, ["median", "temperature"], 0.5),
        ({"seed": -1}, ["seed"], -1),
    ],
)
def test_what_cannot_be_decoded_is_refused(arguments, names, received):
    with refused(*names, received=received):
        Decoding(**arguments)
    with refused("temperature"):
        Decoding(temperature=math.nan)


def test_entropy_is_in_bits():
    distribution = torch.zeros(1, 8, 1, 3)
    distribution[0, 2, 0, 0] = 1
    distribution[0, :, 0, 1] = 1 / 8
    distribution[0, :2, 0, 2] = 0.5
    assert entropy(distribution).flatten().tolist() == pytest.approx([0, 3, 1], abs=1e-6)
    # That of two marginal histograms is their sum.
    both = torch.cat([distribution, distribution.flip(3)], 1)
    assert entropy(both).flatten().tolist() == pytest.approx([1, 6, 1], abs=1e-6)


def test_bilinear_colours_are_those_of_interpolate(small_bands):
    ab = torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(0)) * 20 - 10
    lightness = torch.full((1, 90, 61), 60.0)
    whole = F.interpolate(ab[None], size=(90, 61), mode="bilinear")
    expected = lab_to_rgb(torch.cat([lightness[None], whole], 1)) * 255
    assert (paint(lightness, ab).float() - expected[0]).abs().max() < 0.51


@pytest.mark.parametrize("upsampling", painting.UPSAMPLINGS)
def test_bands_leave_no_trace(upsampling, monkeypatch):
    ab = torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(0)) * 80 - 40
    lightness = ramp(61, 40)
    whole = paint(lightness, ab, upsampling)
    monkeypatch.setattr(painting, "BAND_PIXELS", 500)
    assert torch.equal(paint(lightness, ab, upsampling), whole)
    photo = smooth_photos(1)[0]
    assert torch.equal(lightness_of(photo), rgb_to_lightness(photo[None])[0])


@pytest.mark.parametrize("upsampling", painting.UPSAMPLINGS)
def test_the_lightness_is_the_photos_own(upsampling):
    generator = torch.Generator().manual_seed(0)
    gray = torch.randint(0, 256, (1, 40, 50), dtype=torch.uint8, generator=generator).expand(3, -1, -1)
    lightness = lightness_of(gray)
    ab = torch.rand(2, 3, 4, generator=generator) * 220 - 110
    painted = paint(lightness, ab, upsampling)
    assert (rgb_to_lab(painted[None])[0, :1] - lightness).abs().max() < 0.5


def test_without_colours_a_gray_photo_comes_back():
    gray = torch.arange(256, dtype=torch.uint8).view(1, 16, 16).expand(3, -1, -1)
    assert torch.equal(paint(lightness_of(gray), torch.zeros(2, 2, 2)), gray)


def naive_bilateral(lightness, ab):
    """The weighted mean of each pixel, as the docstring says it."""
    _, height, width = lightness.shape
    down, across = ab.shape[1:]
    cells = F.adaptive_avg_pool2d(lightness, (down, across))[0]
    colors = torch.zeros(2, height, width)
    for y in range(height):
        for x in range(width):
            at_y, at_x = (y + 0.5) * down / height - 0.5, (x + 0.5) * across / width - 0.5
            total, summed = 0.0, torch.zeros(2)
            for j in range(-2, down + 2):
                for i in range(-2, across + 2):
                    near = max(0, 1 - abs(at_y - j) / 2) * max(0, 1 - abs(at_x - i) / 2)
                    cell = min(max(j, 0), down - 1), min(max(i, 0), across - 1)
                    unlike = (float(lightness[0, y, x] - cells[cell])) / LIGHTNESS_SIGMA
                    weight = near * (math.exp(-0.5 * unlike**2) + UNLIKE)
                    total += weight
                    summed += weight * ab[:, cell[0], cell[1]]
            colors[:, y, x] = summed / total
    return colors


def test_bilateral_colours_are_those_of_a_slow_loop():
    ab = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0)) * 20 - 10
    lightness = 40 + 20 * torch.rand(1, 9, 13, generator=torch.Generator().manual_seed(1))
    expected = lab_to_rgb(torch.cat([lightness, naive_bilateral(lightness, ab)])[None])[0] * 255
    assert (paint(lightness, ab, "bilateral").float() - expected).abs().max() < 0.51


def test_bilateral_colours_end_at_an_edge_and_bilinear_ones_blur_over_it():
    lightness = torch.full((1, 64, 64), 40.0)
    lightness[..., 32:] = 70
    ab = torch.zeros(2, 4, 4)
    ab[0, :, :2], ab[0, :, 2:] = 20, -20
    a = {up: rgb_to_lab(paint(lightness, ab, up)[None])[0, 1, 32] for up in painting.UPSAMPLINGS}
    assert abs(a["bilinear"][31] - a["bilinear"][32]) < 3
    assert a["bilateral"][31] - a["bilateral"][32] > 35
    with refused("upsampling", received="nearest", allowed="bilateral"):
        paint(lightness, ab, "nearest")
