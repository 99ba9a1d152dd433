import pytest
import torch
from PIL import Image
from refusals import refused

from pretext.data.sources import open_photos
from pretext.methods.parts.photo_prior import prior_of_photos


def folder_of(tmp_path, *colors):
    for number, color in enumerate(colors):
        Image.new("RGB", (80, 80), color).save(tmp_path / f"{number}.png")
    return open_photos(tmp_path)


def test_the_mass_is_where_the_photos_are(tmp_path):
    red, blue = (180, 40, 40), (40, 60, 200)
    prior = prior_of_photos(folder_of(tmp_path, red, red, red, blue), sigma=0.0)
    assert prior.num_photos == 4
    assert sorted(prior.probabilities[prior.probabilities > 0.01].tolist()) == pytest.approx(
        [0.25, 0.75], abs=1e-6
    )
    assert prior.probabilities.min() > 0


def test_gray_and_unreadable_photos_are_left_out(tmp_path):
    (tmp_path / "9.png").write_bytes(b"broken")
    prior = prior_of_photos(folder_of(tmp_path, (180, 40, 40), (90, 90, 90)))
    assert prior.num_photos == 1


def test_only_gray_photos_are_an_error(tmp_path):
    with refused("colour prior", received="1 photos, all gray or unreadable"):
        prior_of_photos(folder_of(tmp_path, (90, 90, 90)))


def test_a_sample_of_the_photos_is_spread(tmp_path):
    colors = [(180, 40, 40)] * 5 + [(40, 60, 200)] * 5
    prior = prior_of_photos(folder_of(tmp_path, *colors), max_photos=2, sigma=0.0)
    assert torch.count_nonzero(prior.probabilities > 0.4) == 2


def test_bins_from_data_are_those_the_photos_use(tmp_path):
    prior = prior_of_photos(folder_of(tmp_path, (180, 40, 40), (40, 60, 200)), bins="from_data")
    assert prior.rule == "from_data"
    assert 10 <= len(prior.bins) < 50
    whole = prior_of_photos(open_photos(tmp_path), bins="full529")
    commonest, everywhere = prior.bins[prior.probabilities.argmax()], whole.bins[whole.probabilities.argmax()]
    assert torch.equal(commonest, everywhere)


def test_a_sample_of_no_photos_is_an_error(tmp_path):
    with refused("max_photos", received=-3, allowed="from 1"):
        prior_of_photos(folder_of(tmp_path, (180, 40, 40)), max_photos=-3)


@pytest.mark.parametrize(
    ("option", "received", "allowed"), [("sigma", -1.0, "0.0"), ("bins", "official", "official313")]
)
def test_bad_options_are_an_error(option, received, allowed, tmp_path):
    with refused(option, received=received, allowed=allowed):
        prior_of_photos(folder_of(tmp_path, (180, 40, 40)), **{option: received})
