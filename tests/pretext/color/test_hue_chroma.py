import naive_histograms
import numpy as np
import pytest
import torch
from made_photos import smooth_photos
from refusals import refused

from pretext.color.bicone import bicone_ab, rgb_to_bicone
from pretext.color.decode import circular_mean
from pretext.color.hue_chroma import HueChroma
from pretext.color.lab import lab_to_rgb, rgb_to_lab

COUNT = 32
NEAR = {"atol": 1e-2, "rtol": 1e-3}


def prediction_of(n=1, h=3, w=4, count=COUNT):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 2 * count, h, w, generator=generator, dtype=torch.float64) * 3


def lightness_of(h=3, w=4):
    return torch.linspace(25, 75, h * w, dtype=torch.float64).view(1, 1, h, w)


def certain(hue, chroma, count=COUNT):
    """Scores of one bin of hue and one of chroma."""
    scores = torch.full((1, 2 * count, 1, 1), -200.0)
    scores[0, [hue, count + chroma]] = 200.0
    return scores


def expected_of(prediction, lightness, rule, fading=lambda length: 1.0, temperature=1.0):
    ab = np.empty((2, *prediction.shape[2:]))
    for y in range(ab.shape[1]):
        for x in range(ab.shape[2]):
            scores = prediction[0, :, y, x].numpy()
            length = naive_histograms.circular_mean(naive_histograms.softmax(scores[:COUNT]))[1]
            ab[:, y, x] = naive_histograms.hue_chroma_decoded(
                scores, lightness[0, 0, y, x].item(), COUNT, rule, temperature, fading(length)
            )
    return ab


@pytest.mark.parametrize("rule", ["median", "mean", "mode"])
def test_rules_are_those_of_the_paper(rule):
    prediction, lightness = prediction_of(), lightness_of()
    ab = HueChroma().decode(prediction, rule=rule, lightness=lightness)
    np.testing.assert_allclose(ab[0].numpy(), expected_of(prediction, lightness, rule), atol=0.02)


@pytest.mark.parametrize(
    ("arguments", "fading"),
    [
        # The paper's code: |z| is the mean over the bins, clipped at 0.03.
        ({}, lambda length: min(length / 32, 0.03) / 0.03),
        ({"eta": 0.96, "fading": "sum"}, lambda length: min(length, 0.96) / 0.96),
        ({"eta": 0.03, "fading": "sum"}, lambda length: min(length, 0.03) / 0.03),
    ],
)
def test_its_own_decoding_fades_where_hues_do_not_agree(arguments, fading):
    prediction, lightness = prediction_of(), lightness_of()
    ab = HueChroma(**arguments).decode(prediction, lightness=lightness)
    np.testing.assert_allclose(ab[0].numpy(), expected_of(prediction, lightness, "own", fading), atol=0.02)


def test_the_two_conventions_of_eta_differ_by_the_number_of_bins():
    prediction, lightness = prediction_of(), lightness_of()
    decoded = [
        HueChroma(eta=eta, fading=fading).decode(prediction, lightness=lightness)
        for eta, fading in ((0.03, "mean"), (0.96, "sum"))
    ]
    torch.testing.assert_close(*decoded)


@pytest.mark.parametrize("fading", ["mean", "sum"])
def test_a_uniform_hue_fades_to_gray_and_a_certain_one_does_not_fade(fading):
    space, lightness = HueChroma(fading=fading), torch.full((1, 1, 1, 1), 60.0)
    assert space.fade(torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)).flatten().tolist() == [0.0, 1.0]
    uniform = certain(0, 12)
    uniform[:, :COUNT] = 0
    assert space.decode(uniform, lightness=lightness).abs().max() < 1e-2
    for hue in range(COUNT):
        ab = space.decode(certain(hue, 12), lightness=lightness)
        center = (torch.tensor(hue + 0.5) / COUNT).view(1, 1, 1, 1)
        expected = bicone_ab(center, torch.full_like(center, 12.5 / COUNT), lightness)
        torch.testing.assert_close(ab, expected, **NEAR)
        torch.testing.assert_close(
            space.decode(certain(hue, 12), lightness=lightness, rule="mode"), ab, **NEAR
        )


def test_the_expectation_of_hues_around_red_is_red():
    scores = torch.full((1, COUNT, 1, 1), -200.0)
    scores[0, [0, 31]] = 0.0
    hue, length = circular_mean(scores)
    assert min(hue.item(), 1 - hue.item()) < 1e-6
    assert length.item() == pytest.approx(np.cos(np.pi / 32), abs=1e-6)


def test_a_temperature_anneals_both_histograms_and_does_not_fade():
    prediction, lightness = prediction_of(), lightness_of()
    ab = HueChroma().decode(prediction, 0.6, lightness=lightness)
    np.testing.assert_allclose(
        ab[0].numpy(), expected_of(prediction, lightness, "mean", temperature=0.6), atol=0.02
    )


@pytest.mark.parametrize("rule", ["sample", "coherent"])
def test_draws_are_centres_of_bins(rule):
    space, lightness = HueChroma(), lightness_of()
    ab = space.decode(
        prediction_of(), rule=rule, lightness=lightness, generator=torch.Generator().manual_seed(3)
    )
    rgb = lab_to_rgb(torch.cat([lightness, ab], 1))
    hue, chroma, _ = rgb_to_bicone(rgb).unbind(1)
    inside = (rgb.amin(1) > 0.01) & (rgb.amax(1) < 0.99)
    assert inside.sum() > 3
    for values in (hue[inside], chroma[inside]):
        offset = (values * COUNT - 0.5).remainder(1)
        assert torch.minimum(offset, 1 - offset).max() < 1e-2


def test_coherent_draws_agree_where_histograms_do():
    prediction = prediction_of(h=1, w=1).expand(2, -1, 5, 6)
    lightness = torch.full((2, 1, 5, 6), 50.0, dtype=torch.float64)
    drawn = [
        HueChroma().decode(
            prediction, rule="coherent", lightness=lightness, generator=torch.Generator().manual_seed(seed)
        )
        for seed in range(8)
    ]
    assert all(torch.equal(ab, ab[:1, :, :1, :1].expand_as(ab)) for ab in drawn)
    assert len({tuple(ab[0, :, 0, 0].tolist()) for ab in drawn}) > 3


@pytest.mark.parametrize("chroma_weight", ["paper", "release"])
def test_the_loss_of_a_photo_is_that_of_its_8_bit_colours(chroma_weight):
    # Not of Lab as the network's target holds it, which must not move hues over edges.
    rgb = smooth_photos(1)[:, :, ::8, ::8].clone()
    rgb[0, 2, :2] = rgb[0, 1, :2]  # green as much as blue: reds, on an edge between two bins
    prediction = prediction_of(h=8, w=8).float()
    loss = HueChroma(chroma_weight=chroma_weight).loss(prediction, rgb_to_lab(rgb))
    scores, colors = prediction[0].double().flatten(1).T.numpy(), (rgb[0].double() / 255).flatten(1).T.numpy()
    expected = [
        naive_histograms.hue_chroma_loss(one, color[None], COUNT, release=chroma_weight == "release")
        for one, color in zip(scores, colors, strict=True)
    ]
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-4)


def test_grays_learn_nothing_of_hue():
    prediction = prediction_of().float().requires_grad_()
    gray = torch.cat([lightness_of().float(), torch.zeros(1, 2, 3, 4)], 1)
    HueChroma().loss(prediction, gray).backward()
    hue, chroma = prediction.grad.split(COUNT, 1)
    assert hue.abs().max() < 1e-4
    assert chroma.abs().max() > 1e-3


def test_the_weight_of_the_release_ends_at_black_and_white():
    scores = torch.zeros(1, 64, 1, 1)
    for lightness, weight in ((0.0, 0.0), (50.0, 1.0), (100.0, 0.0)):
        gray = torch.tensor([lightness, 0.0, 0.0]).view(1, 3, 1, 1)
        loss = HueChroma(hue_weight=0.0, chroma_weight="release").loss(scores, gray).item()
        assert loss == pytest.approx(weight * np.log(32), abs=1e-3)


def test_without_a_lightness_there_is_no_colour():
    with refused("lightness", received=None):
        HueChroma().decode(prediction_of())
