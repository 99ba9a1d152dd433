import numpy as np
import pytest
import torch
from made_photos import encoded, gradient, smooth_photos
from PIL import Image
from refusals import refused
from small_alexnet import small_alexnet

from pretext.backbones.initializers import he_normal_
from pretext.color.bicone import bicone_ab, rgb_to_bicone
from pretext.color.bins import ab_bins
from pretext.color.histograms import chi_squared, hue_and_chroma_histograms
from pretext.color.lab import lab_to_rgb, rgb_to_lab
from pretext.color.spaces import AbBins, HueChroma, LabJoint, LabMarginals, RebalancedAbBins, ab_regression
from pretext.colorize import painting, reference, steering
from pretext.colorize.colorizer import ColorHead, Colorizer, Colors
from pretext.colorize.painting import Decoding, decode, entropy, lightness_of, paint_decoded, predict
from pretext.colorize.reference import open_reference, read_reference
from pretext.colorize.settings import PaintingSettings, Steering
from pretext.colorize.steering import check_steering, find_biases, recolor, steer, turned

BINS = ab_bins()[::9]
SPACES = {
    "ab_bins": lambda: AbBins(BINS),
    "rebalanced_ab_bins": lambda: RebalancedAbBins(BINS),
    "lab_joint": lambda: LabJoint(8),
    "lab_marginals": LabMarginals,
    "hue_chroma": HueChroma,
}


def colorizer_of(space):
    made = Colorizer(small_alexnet("lightness"), ColorHead(32, space.channels), space, "conv5").eval()
    he_normal_(made, 0)
    return made


@pytest.fixture(scope="module", params=SPACES)
def any_colorizer(request):
    return colorizer_of(SPACES[request.param]())


@pytest.fixture(scope="module")
def of_hue():
    return colorizer_of(HueChroma())


@pytest.fixture(scope="module")
def warm():
    """A reference of reds and oranges, muted and vivid."""
    x, y = np.meshgrid(np.linspace(0, 1, 40), np.linspace(0, 1, 30))
    photo = np.stack([130 + 90 * x, 90 + 40 * y, 90 - 60 * x], 2).astype(np.uint8)
    return read_reference(encoded(Image.fromarray(photo)), "warm.png")


@pytest.fixture(scope="module")
def photo():
    """Lightness of a photo, in a range in which sRGB has many colours."""
    return lightness_of(smooth_photos(1)[0] // 4 + 90)


def colors_of(rgb):
    """Histograms of hue and chroma of sRGB in [0, 1], (1, 3, H, W)."""
    hue, chroma, _ = rgb_to_bicone(rgb).unbind(1)
    return torch.cat(hue_and_chroma_histograms(hue, chroma, 12), 1)


def distance(painted, warm):
    wanted = torch.from_numpy(np.frombuffer(warm.rgb, np.uint8).reshape(1, 1, -1, 3).copy()).movedim(-1, 1)
    return chi_squared(colors_of(painted[None] / 255), colors_of(wanted / 255)).item()


def painted_by(colorizer, lightness, steering, **choices):
    colors = steer(colorizer, predict(colorizer, lightness, 64), steering)
    painted = paint_decoded(colorizer, lightness, colors, Decoding(), **choices)
    return recolor(painted, lightness, steering)


@pytest.mark.parametrize("decode_at", ["map", "photo"])
@pytest.mark.parametrize("transfer", ["energy", "quantile"])
def test_colours_come_near_the_references_and_lightness_stays(
    any_colorizer, transfer, decode_at, warm, photo
):
    plain = painted_by(any_colorizer, photo, Steering(), decode_at=decode_at)
    led = painted_by(any_colorizer, photo, Steering(warm, transfer), decode_at=decode_at)
    assert distance(led, warm) < 0.8 * distance(plain, warm)
    assert (lightness_of(led) - photo).abs().max() < 0.5


def test_predicted_histograms_come_near_the_references(any_colorizer, warm, photo):
    colors = predict(any_colorizer, photo, 64)
    led = steer(any_colorizer, colors, Steering(warm, "energy"))
    space = any_colorizer.space
    pixels = torch.frombuffer(bytearray(warm.rgb), dtype=torch.uint8).view(1, 1, -1, 3).movedim(-1, 1)
    targets = space.histograms_of(rgb_to_lab(pixels))
    before, after = (
        [chi_squared(part.mean((2, 3)), target).item() for part, target in zip(space.parts(p), targets, strict=True)]
        for p in (colors.distribution, led.distribution)
    )  # fmt: skip
    assert sum(after) < 0.3 * sum(before)
    for part in space.parts(led.distribution):
        torch.testing.assert_close(part.sum(1), torch.ones_like(part.sum(1)))
    expected = space.decode(led.distribution.log(), lightness=led.lightness)
    assert torch.equal(decode(any_colorizer, led, Decoding()), expected)


@pytest.mark.parametrize("rule", ["mean", "median", "mode", "sample", "coherent"])
def test_every_rule_and_the_uncertainty_go_on(any_colorizer, rule, warm, photo):
    if rule not in any_colorizer.space.rules:
        return
    colors = predict(any_colorizer, photo, 64)
    led = steer(any_colorizer, colors, Steering(warm, "energy"))
    for decode_at in ("map", "photo"):
        painted = paint_decoded(any_colorizer, photo, led, Decoding(rule), decode_at=decode_at)
        assert not torch.equal(
            painted, paint_decoded(any_colorizer, photo, colors, Decoding(rule), decode_at=decode_at)
        )
    assert entropy(led.distribution).isfinite().all()


def test_values_are_matched_by_quantiles_alone(warm, photo):
    colorizer = colorizer_of(ab_regression())
    plain, led = (painted_by(colorizer, photo, each) for each in (Steering(), Steering(warm, "quantile")))
    assert distance(led, warm) < distance(plain, warm)
    for refused_one in (Steering(warm, "energy"), Steering(bias=20.0)):
        with refused("regression"):
            check_steering(colorizer, refused_one)


def test_without_wishes_nothing_changes(any_colorizer, photo):
    colors = predict(any_colorizer, photo, 64)
    assert steer(any_colorizer, colors, Steering(bias=0.0)) is colors
    painted = paint_decoded(any_colorizer, photo, colors, Decoding())
    assert recolor(painted, photo, Steering()) is painted


def one_hue(space, bin_of_hue, chroma_bin=8):
    """A prediction that is certain of one hue and one chroma everywhere."""
    distribution = torch.zeros(1, space.channels, 2, 3)
    distribution[:, bin_of_hue] = 1
    distribution[:, space.count + chroma_bin] = 1
    lightness = torch.full((1, 1, 2, 3), 60.0)
    return Colors(space.decode(distribution.log(), lightness=lightness), distribution, lightness)


def hue_of(colors):
    rgb = lab_to_rgb(torch.cat([colors.lightness, colors.ab], 1))
    return 360 * rgb_to_bicone(rgb)[0, 0]


@pytest.mark.parametrize("degrees", [45.0, 17.0, -30.0, 180.0, -180.0])
def test_a_bias_turns_a_certain_hue_by_as_many_degrees(of_hue, degrees):
    colors = one_hue(of_hue.space, 3)
    turned_colors = steer(of_hue, colors, Steering(bias=degrees))
    angle = (hue_of(turned_colors) - hue_of(colors) - degrees + 180).remainder(360) - 180
    assert angle.abs().max() < 0.5
    chromas = turned_colors.distribution[:, of_hue.space.count :]
    assert torch.equal(chromas, colors.distribution[:, of_hue.space.count :])


def test_with_a_reference_the_bias_that_was_found_is_turned(of_hue, warm, photo):
    """Where all hues are equally likely, hues lean to those of the reference, and then to others."""
    uniform = predict(of_hue, photo, 64)
    uniform = uniform._replace(distribution=torch.full_like(uniform.distribution, 1 / of_hue.space.count))
    found = find_biases(of_hue, uniform, warm)
    leans = []
    for degrees in (0.0, 90.0):
        led = steer(of_hue, uniform, Steering(warm, "energy", degrees), found)
        leans.append(led.distribution[0, : of_hue.space.count, 0, 0])
    torch.testing.assert_close(leans[1], leans[0].roll(of_hue.space.count // 4))
    again = steer(of_hue, uniform, Steering(warm, "energy"))
    torch.testing.assert_close(again.distribution[0, : of_hue.space.count, 0, 0], leans[0])


def test_of_quantiles_the_references_hues_are_turned(any_colorizer, warm, photo):
    found = [
        painted_by(any_colorizer, photo, Steering(warm, "quantile", degrees)) for degrees in (0.0, 120.0)
    ]
    hues = [rgb_to_bicone(painted[None] / 255)[0, :2] for painted in found]
    means = [
        360 / 2 / torch.pi * torch.atan2(*((c * f(2 * torch.pi * h)).sum() for f in (torch.sin, torch.cos)))
        for h, c in hues
    ]
    assert (means[1] - means[0]) % 360 == pytest.approx(120, abs=20)


def test_turned_colours_keep_chroma_and_lightness():
    rgb = 0.3 + 0.3 * torch.rand(2, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    assert turned(rgb, 0.0) is rgb
    hue, chroma, _ = rgb_to_bicone(rgb).split(1, 1)
    lightness = rgb_to_lab(rgb)[:, :1]
    expected = bicone_ab((hue + 1 / 3).remainder(1), chroma, lightness)
    torch.testing.assert_close(rgb_to_lab(turned(rgb, 120.0))[:, 1:], expected, rtol=0, atol=0.05)
    torch.testing.assert_close(turned(turned(rgb, 120.0), -120.0), rgb, rtol=0, atol=2e-3)


def test_bands_and_large_photos_leave_no_trace(of_hue, warm, photo, monkeypatch):
    wish = Steering(warm, "quantile")
    whole = painted_by(of_hue, photo, wish)
    monkeypatch.setattr(painting, "BAND_PIXELS", 100)
    assert torch.equal(painted_by(of_hue, photo, wish), whole)
    monkeypatch.setattr(steering, "MAX_LOOKED_AT", 1000)
    monkeypatch.setattr(steering, "MAX_POSITIONS", 4)
    few = painted_by(of_hue, photo, wish)
    assert (few.int() - whole.int()).abs().float().mean() < 4
    led = painted_by(of_hue, photo, Steering(warm, "energy"))
    assert distance(led, warm) < distance(painted_by(of_hue, photo, Steering()), warm)
    thin = recolor(torch.full((3, 1, 5000), 90, dtype=torch.uint8), torch.full((1, 1, 5000), 38.0), wish)
    assert thin.shape == (3, 1, 5000)


def test_a_bias_needs_hues(warm):
    colorizer = colorizer_of(AbBins(BINS))
    for wish in (Steering(bias=30.0), Steering(warm, "energy", -5.0)):
        with refused("ab_bins", f"bias {wish.bias:g}"):
            check_steering(colorizer, wish)
    check_steering(colorizer, Steering(warm, "energy"))
    check_steering(colorizer, Steering(warm, "quantile", 30.0))


@pytest.mark.parametrize("bias", [181.0, -200.0, float("nan"), float("inf")])
def test_a_bias_out_of_range_is_refused(bias):
    with refused("bias"):
        Steering(bias=bias)


def test_a_reference_and_a_transfer_need_each_other(warm):
    with refused("transfer energy"):
        Steering(None, "energy")
    with refused("reference"):
        Steering(warm)
    with refused("transfer", received="both", allowed="quantile"):
        Steering(warm, "both")


def test_settings_name_the_reference_by_its_hash(warm):
    values = PaintingSettings(steering=Steering(warm, "energy", 12.5)).as_json()
    assert (values["reference"], values["transfer"], values["bias"]) == (warm.sha256, "energy", 12.5)
    assert values["rule"] == "annealed"
    assert values["upsampling"] == "bilinear"
    assert not {"steering", "decoding"} & values.keys()


def pixels_of(read):
    return np.frombuffer(read.rgb, np.uint8).reshape(-1, 3)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_a_reference_is_read_like_any_photo(mode):
    kind = "JPEG" if mode == "CMYK" else "PNG"
    pixels = pixels_of(read_reference(encoded(gradient().convert(mode), kind), "photo"))
    assert len(pixels) == 256
    assert np.abs(pixels.mean(0) - np.array(gradient()).reshape(-1, 3).mean(0)).max() < 12


def test_a_large_reference_is_looked_at_in_part(monkeypatch):
    monkeypatch.setattr(reference, "MAX_LOOKED_AT", 100)
    pixels = pixels_of(read_reference(encoded(gradient(64)), "photo"))
    assert len(pixels) <= 100
    assert pixels[:, 0].std() > 50
    wide = pixels_of(read_reference(encoded(gradient(64).resize((1000, 1))), "photo"))
    assert 0 < len(wide) <= 1000


def test_what_cannot_be_seen_does_not_count():
    photo = gradient().convert("RGBA")
    photo.putalpha(Image.fromarray(np.repeat(np.uint8([[0], [255]]), 16, 1).repeat(8, 0)))
    pixels = pixels_of(read_reference(encoded(photo), "photo"))
    np.testing.assert_array_equal(pixels, np.array(gradient())[8:].reshape(-1, 3))
    with refused("transparent", received="glass.png"):
        read_reference(encoded(Image.new("RGBA", (9, 9), (255, 0, 0, 0))), "glass.png")


def test_gray_references_and_what_is_no_photo_are_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (24, 30), dtype=np.uint8)
    gray = Image.fromarray(noise)
    for data in (encoded(gray), encoded(gray, "JPEG"), encoded(gray.convert("RGB"), "JPEG")):
        with refused("gray", received="photo"):
            read_reference(data, "photo")
    with refused("reference", received="photo"):
        read_reference(b"GIF89a", "photo")
    with refused("reference", received=str(tmp_path)):
        open_reference(str(tmp_path))
    (tmp_path / "warm.png").write_bytes(encoded(gradient()))
    assert (
        open_reference(str(tmp_path / "warm.png")).sha256 == read_reference(encoded(gradient()), "x").sha256
    )
