import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from pretext.backbones.base import Layer
from pretext.config import load_config
from transfer import linear_probe as stage
from transfer.linear_probe import LayerProbe, linear_probe
from transfer.stage import Job

CHANNELS = {"conv1": 96, "conv2": 256, "conv3": 384, "conv4": 384, "conv5": 256}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Ten photos of each of two classes to train on and five to score on: horizontal and vertical stripes."""
    root = tmp_path_factory.mktemp("labeled")
    for split, count in (("train", 10), ("val", 5)):
        for kind in range(2):
            (root / split / f"class{kind}").mkdir(parents=True)
            for number in range(count):
                rng = np.random.default_rng((kind, number, count))
                wave = np.sin(np.arange(64) / rng.uniform(1, 3)) * 90 + 128
                pixels = np.broadcast_to(wave if kind else wave[:, None], (64, 64)).astype(np.uint8)
                Image.fromarray(pixels).convert("RGB").save(root / split / f"class{kind}" / f"{number}.png")
    return root


@pytest.fixture
def probe(folders, tmp_path, monkeypatch):
    """Runs the stage for some layers; returns its measurements and the trained probes."""

    def run(layers, *overrides, config="linear_probe"):
        small = ["view.size=64", "view.resize=64", "batch_size=4", "workers=0", "mixed_precision=False"]
        config = load_config(f"transfer/{config}", [*small, *overrides])
        config["layers"] = layers
        made = []
        make = stage._probes
        monkeypatch.setattr(stage, "_probes", lambda *words: made.append(make(*words)) or made[-1])
        job = Job(config, "random:alexnet", folders, 0, tmp_path, torch.device("cpu"))
        return linear_probe(job), made[0]

    return run


def test_each_layer_trains_as_it_does_alone(probe):
    # A rate at which a norm of gradients, shared by all layers, would be clipped.
    words = ["epochs=4", "optimizer.lr=0.1"]
    together, joint = probe("all", *words)
    for name in ("conv1", "conv5"):
        alone, own = probe(name, *words)
        for key, value in own[name].state_dict().items():
            assert torch.equal(joint[name].state_dict()[key], value), key
        assert {m.metric: m.value for m in together if m.setting == name} == {
            m.metric: m.value for m in alone
        }


def test_the_config_for_real_photos_runs(probe):
    measurements, _ = probe("conv5", "epochs=1", config="linear_probe_imagenette128")
    assert {m.setting for m in measurements} == {"conv5"}


def test_a_linear_classifier_learns_what_the_features_tell(probe):
    measurements, _ = probe("conv2", "epochs=8", "optimizer.lr=0.01")
    (top1,) = [m.value for m in measurements if m.metric == "top1"]
    assert top1 == 100.0  # guessing has 50


@pytest.mark.parametrize("photo", [96, 128, 227])
def test_classifiers_get_nine_to_ten_thousand_features(photo):
    sizes = []
    for name, channels in CHANNELS.items():
        map_side = {"conv1": 4, "conv2": 8}.get(name, 16)
        probe = LayerProbe(Layer(name, channels, map_side), 10, "bilinear", True, seed=0)
        assert probe(torch.rand(2, channels, photo // map_side, photo // map_side)).shape == (2, 10)
        sizes.append(probe.classifier.in_features)
    assert sizes == [9600, 9216, 9600, 9600, 9216]


@pytest.mark.parametrize("pooling", ["bilinear", "average"])
def test_a_probe_is_pooling_normalisation_and_one_matrix(pooling):
    features = torch.rand(6, 256, 13, 13)
    probe = LayerProbe(Layer("conv5", 256, 16), 10, pooling, True, seed=0)
    pooled = {
        "bilinear": F.interpolate(features, size=(6, 6), mode="bilinear"),
        "average": F.adaptive_avg_pool2d(features, (6, 6)),
    }[pooling]
    mean = pooled.mean((0, 2, 3), keepdim=True)
    std = (pooled.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    expected = ((pooled - mean) / std).flatten(1) @ probe.classifier.weight.T
    torch.testing.assert_close(probe(features), expected, atol=1e-5, rtol=1e-4)


def test_biases_learn_at_twice_the_rate_and_do_not_decay(probe):
    config = load_config("transfer/linear_probe")
    layer = LayerProbe(Layer("conv5", 256, 16), 10, "bilinear", True, seed=0)
    optimizer, _ = stage._optimizer(layer, config, steps=10)
    weights, biases = optimizer.param_groups
    assert [p.shape for p in biases["params"]] == [(10,)]
    assert biases["lr"] == 2 * weights["lr"]
    assert (weights["weight_decay"], biases["weight_decay"]) == (5e-4, 0.0)


def test_last_and_best_epoch_are_both_recorded(probe, monkeypatch):
    epochs = iter([{"conv5": (50.0, 90.0)}, {"conv5": (70.0, 80.0)}, {"conv5": (60.0, 85.0)}])
    monkeypatch.setattr(stage, "_accuracies", lambda *words: next(epochs))
    measurements, _ = probe("conv5", "epochs=3")
    assert {m.metric: m.value for m in measurements} == {
        "top1": 60.0,
        "top5": 85.0,
        "top1_best": 70.0,
        "top5_best": 90.0,
    }
