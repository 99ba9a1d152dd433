import pytest
import torch
from refusals import refused

from transfer.data.voc import open_voc
from transfer.job import Job
from transfer.networks.preparation import prepare_backbone
from transfer.protocols.table import load_stage_config

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def prepare(voc_tree, tmp_path, small_alexnet):
    def run(*words):
        settings = load_stage_config("voc-classification", overrides=["geometry=evaluation", *words])
        job = Job(settings, small_alexnet, voc_tree, 0, tmp_path, torch.device("cpu"))
        return prepare_backbone(
            job, [photo.path for photo in open_voc(voc_tree, 2007).photos("train")]
        ).backbone

    return run


@pytest.fixture
def photos():
    torch.manual_seed(0)
    return torch.randint(0, 256, (4, 3, 96, 96), dtype=torch.uint8)


def test_rescaling_changes_nothing_but_the_scale_of_the_features(prepare, photos):
    with torch.no_grad():
        plain, rescaled = (prepare(*words)(photos, ["conv5"])["conv5"] for words in ((), ("rescale=True",)))
    factor = rescaled.norm() / plain.norm()
    torch.testing.assert_close(rescaled, plain * factor, rtol=1e-3, atol=1e-4 * float(rescaled.max()))
    assert float(factor) != pytest.approx(1, abs=0.01)


def test_colour_is_seen_only_after_it_is_learned(prepare, photos):
    backbone = prepare("color=True", "rescale=True")
    with torch.no_grad():
        gray = prepare("rescale=True")(photos, ["conv5"])["conv5"]
        torch.testing.assert_close(backbone(photos, ["conv5"])["conv5"], gray, rtol=1e-4, atol=1e-5)
    assert backbone.input_space == "lab"
    assert backbone.conv1.conv.weight.requires_grad
    backbone(photos, ["conv5"])["conv5"].square().sum().backward()
    assert (backbone.conv1.conv.weight.grad[:, 1:].abs().amax((1, 2, 3)) > 0).any()


def test_a_prepared_backbone_does_not_depend_on_what_was_drawn_before(prepare):
    weights = []
    for seed in (1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            weights.append(prepare("rescale=True").conv3.conv.weight)
    assert torch.equal(*weights)


def test_only_absorbed_layers_are_rescaled(prepare):
    with refused("rescale=True", received="batch_norm=frozen", allowed="batch_norm=absorb"):
        prepare("rescale=True", "batch_norm=frozen")
