import pytest
import torch
from colorizers import colorizer_file
from made_photos import smooth_photos
from refusals import refused

from pretext.color import ab_bins
from pretext.color.bicone import rgb_to_bicone
from pretext.color.histograms import chi_squared, hue_and_chroma_histograms, mean_histogram
from pretext.color.lab import rgb_to_lab
from pretext.color.spaces import AB, AbBins, HueChroma, LabJoint, LabMarginals, ab_regression
from pretext.colorize.colorizer import load_colorizer
from pretext.colorize.painting import lightness_of, paint, predict
from transfer.networks.true_histogram import led_by_energy, matched_by_quantiles

pytestmark = pytest.mark.usefixtures("one_thread")

SPACES = [LabMarginals(), LabJoint(), AbBins(ab_bins()[::4])]


def predicted(space, folder, photo):
    colorizer = load_colorizer(colorizer_file(folder / "colorizer.safetensors", space))
    return colorizer, predict(colorizer, photo, 64)


def shares_of(space, photo):
    """The share of each bin among a photo's pixels, counted bin by bin."""
    ab = rgb_to_lab(photo[None])[:, AB]
    if isinstance(space, LabMarginals):
        bins = [torch.bucketize(values, space.edges, right=True) for values in ab[0]]
        return [(each.flatten() == k).float().mean() for each in bins for k in range(space.count)]
    indices, weights = space.encode(ab)
    return [(weights * (indices == k)).sum() / weights.sum() for k in range(space.channels)]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_the_energy_brings_distributions_to_the_true_photos_histograms(space, tmp_path):
    photo = smooth_photos(1)[0]
    colorizer, colors = predicted(space, tmp_path, photo)
    led = led_by_energy(colorizer, colors, photo)
    target = torch.stack(shares_of(space, photo))
    before, after = (each.distribution.mean((0, 2, 3)) for each in (colors, led))
    for old, new, wanted in zip(
        *(torch.split(each, list(space.histograms)) for each in (before, after, target)), strict=True
    ):
        assert new.sum() == pytest.approx(1, abs=1e-5)
        assert chi_squared(new[None], wanted[None]) < chi_squared(old[None], wanted[None]) / 2
    assert torch.equal(led.ab, space.decode(led.distribution.log(), lightness=led.lightness))


def test_hue_counts_by_chroma(tmp_path):
    photo = smooth_photos(1)[0]
    colorizer, colors = predicted(HueChroma(), tmp_path, photo)
    led = led_by_energy(colorizer, colors, photo)
    hue, chroma, _ = rgb_to_bicone(photo[None] / 255).unbind(1)
    targets = hue_and_chroma_histograms(hue, chroma)
    hues, chromas = colorizer.space.parts(led.distribution)
    weights = (chromas * colorizer.space.centers[:, None, None]).sum(1)
    assert chi_squared(mean_histogram(hues.log(), weights), targets[0]) < 0.05
    assert chi_squared(chromas.mean((2, 3)), targets[1]) < 0.05


def test_values_have_no_energy(tmp_path):
    photo = smooth_photos(1)[0]
    with refused("regression", received="true_histogram=energy", allowed="true_histogram=quantile"):
        led_by_energy(*predicted(ab_regression(), tmp_path, photo), photo)


def test_quantiles_give_back_the_true_colours_and_keep_the_lightness():
    photo, other = smooth_photos(2)
    errors = (matched_by_quantiles(photo, photo).int() - photo.int()).abs()
    assert errors.float().mean() < 1
    faded = paint(lightness_of(photo), rgb_to_lab(photo[None])[0, AB] / 2)
    matched = matched_by_quantiles(faded, photo)
    assert (matched.int() - photo.int()).abs().float().mean() < (
        faded.int() - photo.int()
    ).abs().float().mean()
    painted = paint(lightness_of(photo), rgb_to_lab(other[None])[0, AB])
    assert (lightness_of(matched_by_quantiles(painted, photo)) - lightness_of(photo)).abs().max() < 1
