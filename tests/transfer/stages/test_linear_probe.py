import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from refusals import refused
from torch.nn import functional as F

from pretext.backbones.base import Layer
from pretext.backbones.checkpoint import build as build_backbone
from pretext.backbones.checkpoint import load_backbone
from pretext.config import build
from pretext.data.crops import VIEWS
from pretext.errors import TrainingDivergedError
from transfer.job import Job
from transfer.networks.reductions import (
    REDUCTIONS,
    AdaptiveAveragePool,
    AdaptiveMaxPool,
    AveragePool,
    TentResize,
    tent_matrix,
)
from transfer.protocols.table import PROTOCOLS, load_stage_config, protocol_label
from transfer.scores.outcomes import load_outcomes
from transfer.stages import linear_probe as stage
from transfer.stages.linear_probe import LayerProbe, linear_probe
from transfer.training.finetuning import optimizer_and_scheduler

PROBES = [p for p in PROTOCOLS.values() if p.stage == "linear-probe"]
CHANNELS = {"conv1": 96, "conv2": 256, "conv3": 384, "conv4": 384, "conv5": 256}


def layer_probe(name, side, reduction=None):
    return LayerProbe(
        Layer(name, CHANNELS[name], 1), (CHANNELS[name], side, side), 10,
        reduction=reduction or TentResize(), batch_norm=True, classifier_init="normal", classifier_std=0.01, seed=0,
    )  # fmt: skip


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
def probe(folders, tmp_path, monkeypatch, small_alexnet):
    """Runs the stage for some layers; returns its measurements and the trained probes."""

    def run(layers, *overrides, on=None):
        small = ["view.size=64", "view.resize=64", "batch_size=4", "workers=0", "mixed_precision=None"]
        settings = load_stage_config("linear-probe", on, [*small, *overrides, f"layers={layers}"])
        made = []
        make = stage._probes
        monkeypatch.setattr(stage, "_probes", lambda *words: made.append(make(*words)) or made[-1])
        job = Job(settings, small_alexnet, folders, 0, tmp_path, torch.device("cpu"))
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
    measurements, _ = probe("conv5", "epochs=1", on="imagenette128")
    assert {m.setting for m in measurements} == {"conv5"}


def test_a_linear_classifier_learns_what_the_features_tell(probe):
    measurements, _ = probe("conv2", "epochs=8", "optimizer.lr=0.01")
    (top1,) = [m.value for m in measurements if m.metric == "top1"]
    assert top1 == 100.0  # guessing has 50


@pytest.mark.parametrize("photo", [96, 128, 227])
def test_classifiers_get_nine_to_ten_thousand_features(photo):
    sizes = []
    for name, channels in CHANNELS.items():
        stride = {"conv1": 4, "conv2": 8}.get(name, 16)
        probe = layer_probe(name, photo // stride)
        assert probe(torch.rand(2, channels, photo // stride, photo // stride)).shape == (2, 10)
        sizes.append(probe.classifier.in_features)
    assert sizes == [9600, 9216, 9600, 9600, 9216]


@pytest.mark.parametrize("reduction", [TentResize(), AdaptiveAveragePool(), AdaptiveMaxPool()])
def test_a_probe_is_reduction_normalisation_and_one_matrix(reduction):
    features = torch.rand(6, 256, 13, 13)
    probe = layer_probe("conv5", 13, reduction=reduction)
    pooled = {
        TentResize: lambda x: tent_matrix(13, 6) @ x @ tent_matrix(13, 6).T,
        AdaptiveAveragePool: lambda x: F.adaptive_avg_pool2d(x, (6, 6)),
        AdaptiveMaxPool: lambda x: F.adaptive_max_pool2d(x, (6, 6)),
    }[type(reduction)](features)
    mean = pooled.mean((0, 2, 3), keepdim=True)
    std = (pooled.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    expected = ((pooled - mean) / std).flatten(1) @ probe.classifier.weight.T
    torch.testing.assert_close(probe(features), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("protocol", PROBES, ids=lambda p: p.id)
def test_every_protocol_reduces_the_published_maps_to_the_published_sizes(protocol):
    side = protocol.settings.view["size"]
    # RotNet, DeepCluster and Asano have another conv1, padded by 2, which gives 224 pixels the same 55 positions.
    side = 227 if side == 224 else side
    reduction = build(protocol.settings.reduction, REDUCTIONS)
    features = load_backbone("random:alexnet", geometry="evaluation").backbone(
        torch.zeros(1, 3, side, side, dtype=torch.uint8), list(CHANNELS)
    )
    assert [maps.shape[-1] for maps in features.values()] == [55, 27, 13, 13, 13]
    sizes = [reduction(Layer(name, CHANNELS[name], 1), maps).numel() for name, maps in features.items()]
    assert sizes == [9600, 9216, 9600, 9600, 9216]


@pytest.mark.parametrize("protocol", PROBES, ids=lambda p: p.id)
def test_every_protocol_runs_shortened_and_says_so(protocol, folders, tmp_path, small_alexnet):
    words = ["scale=1e-6", "batch_size=4", "workers=0"]
    settings = load_stage_config("linear-probe", overrides=words, protocol=protocol.id)
    job = Job(settings, small_alexnet, folders, 0, tmp_path, torch.device("cpu"))
    measured = linear_probe(job)
    assert [m.setting for m in measured[::4]] == list(CHANNELS)
    assert protocol_label(settings.config()) == f"{protocol.id} x1e-06 changed"
    # Ten photos are scored, whatever the number of crops.
    assert {len(m.outcomes) for m in measured} == {10}


@pytest.mark.parametrize(("rule", "std"), [("fan_out", (2 / 40) ** 0.5), ("normal", 0.05)])
def test_a_classifiers_first_weights_follow_their_rule(rule, std):
    probe = LayerProbe(
        Layer("conv5", 256, 16), (256, 13, 13), 40,
        reduction=TentResize(), batch_norm=True, classifier_init=rule, classifier_std=0.05, seed=0,
    )  # fmt: skip
    assert probe.classifier.weight.std().item() == pytest.approx(std, rel=0.01)


# eval_linear_probes.py of yukimasano/linear-probes, lines 49 to 50: xavier_uniform_(gain=1) of a Conv2d from the C
# channels of the reduced map to the classes, whose kernel is the whole map of k x k. PyTorch counts the area in both
# fans, so the weights are uniform up to sqrt(6 / (C k k + classes k k)).
ASANO_SIDES = {"conv1": (55, 10), "conv2": (27, 6), "conv3": (13, 5), "conv4": (13, 5), "conv5": (13, 6)}


@pytest.mark.parametrize("name", ASANO_SIDES)
def test_asanos_first_weights_are_those_of_a_convolution_over_the_whole_map(name):
    settings, (side, kernel) = PROTOCOLS["asano2020"].settings, ASANO_SIDES[name]
    probe = LayerProbe(
        Layer(name, CHANNELS[name], 1), (CHANNELS[name], side, side), 1000,
        reduction=build(settings.reduction, REDUCTIONS), batch_norm=True,
        classifier_init=settings.classifier_init, classifier_std=settings.classifier_std, seed=0,
    )  # fmt: skip
    fan_in = fan_out = 0
    for _ in range(kernel):
        for _ in range(kernel):
            fan_in, fan_out = fan_in + CHANNELS[name], fan_out + 1000
    bound = (6 / (fan_in + fan_out)) ** 0.5
    assert bound == pytest.approx({10: 0.0073990, 6: 0.0115194, 5: 0.0131686}[kernel], rel=1e-5)
    weight = probe.classifier.weight
    assert weight.shape == (1000, fan_in)
    assert weight.abs().max().item() == pytest.approx(bound, rel=1e-4)
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=1e-3)
    assert weight.mean().item() == pytest.approx(0.0, abs=1e-3 * bound)
    assert not probe.classifier.bias.any()


@pytest.mark.parametrize(
    ("id", "no_bias_decay", "nesterov"),
    [("goyal2019_colorization", True, True), ("goyal2019_jigsaw", False, False)],
)
def test_goyals_steps_are_those_of_the_authors_builder(id, no_bias_decay, nesterov):
    """add_parameter_update_ops of FAIR's model_builder.py, one number at a time.

    With NO_BIAS_DECAY only gradients of biases are changed: weights get no decay, whatever WEIGHT_DECAY says.
    """
    settings = PROTOCOLS[id].settings
    probe = layer_probe("conv5", 13).double()
    optimizer, schedule = optimizer_and_scheduler(probe, settings, steps=140_000)
    linear = probe.classifier
    # Far from zero, so that decay would be seen.
    with torch.no_grad():
        linear.weight.fill_(3.0)
        linear.bias.fill_(-2.0)
    values = {"fc_c5_w": 3.0, "fc_c5_b": -2.0}
    velocities = dict.fromkeys(values, 0.0)
    for step in range(5):
        gradients = {"fc_c5_w": 0.1 * step - 0.2, "fc_c5_b": 0.3 - 0.1 * step}
        for name, gradient in gradients.items():
            if not no_bias_decay:
                gradient += 0.0005 * values[name]
            elif name.endswith("_b"):
                gradient *= 2.0
            before = velocities[name]
            velocities[name] = 0.9 * before + 0.01 * gradient
            values[name] -= (1.9 * velocities[name] - 0.9 * before) if nesterov else velocities[name]
        linear.weight.grad = torch.full_like(linear.weight, gradients["fc_c5_w"])
        linear.bias.grad = torch.full_like(linear.bias, gradients["fc_c5_b"])
        optimizer.step()
        schedule.step()
        assert linear.weight[0, 0].item() == pytest.approx(values["fc_c5_w"], rel=1e-12)
        assert linear.bias[0].item() == pytest.approx(values["fc_c5_b"], rel=1e-12)


@pytest.mark.parametrize("id", ["goyal2019_colorization", "goyal2019_jigsaw"])
def test_goyals_rates_fall_where_the_authors_do(id):
    settings = PROTOCOLS[id].settings
    rates = [settings.schedule.factor(step, 140_000) * 0.01 for step in (39_999, 40_000, 80_000, 120_000)]
    assert rates == pytest.approx([1e-2, 1e-3, 1e-4, 1e-5])


def test_goyals_two_protocols_see_photos_as_the_authors_two_configs_do():
    random_crops, centred = (
        build(PROTOCOLS[f"goyal2019_{kind}"].settings.view, VIEWS) for kind in ("colorization", "jigsaw")
    )
    # Red is the column, green is the row.
    columns, rows = np.meshgrid(np.arange(256), np.arange(256))
    photo = Image.fromarray(np.stack([columns, rows, 0 * rows], axis=2).astype(np.uint8))
    seen = [random_crops(photo, np.random.default_rng(seed)) for seed in range(100)]
    assert len({(int(view[0].min()), int(view[1].min())) for view in seen}) > 80
    plain = replace(centred, lighting=0.0)
    middle = torch.from_numpy(np.asarray(photo)[14:241, 14:241].copy()).permute(2, 0, 1)
    seen = [plain(photo, np.random.default_rng(seed)) for seed in range(100)]
    straight = [torch.equal(view, middle) for view in seen]
    assert all(
        torch.equal(view.flip(2), middle) for view, as_is in zip(seen, straight, strict=True) if not as_is
    )
    assert 35 <= sum(straight) <= 65


@pytest.mark.parametrize(
    ("id", "side", "arguments", "odd"),
    [
        ("goyal2019_colorization", 227, {}, None),
        ("goyal2019_jigsaw", 227, {}, None),
        ("deepcluster2018", 224, {"conv1_padding": 2}, None),
        ("asano2020", 224, {"conv1_padding": 2}, None),
        ("asano2020", 224, {}, None),
        (
            "goyal2019_colorization",
            227,
            {"conv1_padding": 2},
            {"conv3": 13824, "conv4": 13824, "conv5": 12544},
        ),
        # torchvision's channels.
        (
            "asano2020",
            224,
            {"conv1_padding": 2, "channels": (64, 192, 384, 256, 256), "groups": 1},
            {"conv1": 6400, "conv2": 6912, "conv4": 6400},
        ),
    ],
)
def test_windows_that_leave_other_sizes_than_the_papers_are_told(id, side, arguments, odd, tmp_path, capsys):
    protocol = PROTOCOLS[id]
    backbone = build_backbone("alexnet", arguments | {"geometry": "evaluation"}).eval()
    job = Job(protocol.settings, "random:alexnet", tmp_path, 0, tmp_path, torch.device("cpu"))
    stage._probes(backbone, tuple(CHANNELS), 2, side, job)
    lines = capsys.readouterr().err.splitlines()
    if odd is None:
        assert lines == []
        return
    (line,) = lines
    ours = ", ".join(f"{layer} {size}" for layer, size in odd.items())
    theirs = ", ".join(f"{layer} {protocol.features[layer]}" for layer in odd)
    assert line.startswith(f"{id}: ")
    assert line.endswith(f"{ours}; there {theirs}")


def test_split_brain_taps_eight_layers():
    backbone = load_backbone("random:alexnet", geometry="evaluation").backbone
    names = ["conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5"]
    features = backbone(torch.zeros(1, 3, 227, 227, dtype=torch.uint8), names)
    reduced = [TentResize()(backbone.layer(name), features[name]).shape[-1] for name in names]
    assert reduced == [10, 10, 6, 6, 5, 5, 6, 6]
    # What the authors leave as it is keeps its size.
    assert features["pool5"].shape[-1] == 6


def test_windows_are_for_the_layers_they_were_made_for():
    with refused("AveragePool", received="pool5", allowed=("conv1",)):
        AveragePool(conv1=(6, 6, 3))(Layer("pool5", 256, 16), torch.zeros(1, 256, 6, 6))
    with refused("AveragePool", "pool5", received=(6, 6)):
        AveragePool(pool5=(6, 6))(Layer("pool5", 256, 16), torch.zeros(1, 256, 6, 6))
    pool = AveragePool()
    pool.windows = {"pool5": 6}
    with refused("AveragePool", "pool5", received=6):
        pool(Layer("pool5", 256, 16), torch.zeros(1, 256, 6, 6))


def test_biases_learn_at_twice_the_rate_and_do_not_decay(probe):
    settings = load_stage_config("linear-probe")
    optimizer, _ = optimizer_and_scheduler(layer_probe("conv5", 13), settings, steps=10)
    weights, biases = optimizer.param_groups
    assert [p.shape for p in biases["params"]] == [(10,)]
    assert biases["lr"] == 2 * weights["lr"]
    assert (weights["weight_decay"], biases["weight_decay"]) == (5e-4, 0.0)


def test_last_and_best_epoch_are_both_recorded(probe, monkeypatch):
    shares = [(5, 9), (7, 8), (6, 9)]
    epochs = iter([torch.stack([torch.arange(10) < n for n in pair], dim=1)[None] for pair in shares])
    monkeypatch.setattr(stage, "_hits", lambda *words: next(epochs))
    measurements, _ = probe("conv5", "epochs=3")
    assert {m.metric: m.value for m in measurements} == {
        "top1": 60.0,
        "top5": 90.0,
        "top1_best": 70.0,
        "top5_best": 90.0,
    }


def test_evaluations_are_spread_evenly_and_end_with_the_run():
    settings = load_stage_config("linear-probe", overrides=["evaluations=4"])
    assert stage._evaluation_steps(settings, 100) == {25, 50, 75, 100}
    by_epoch = replace(settings, evaluations=None, epochs=5)
    assert stage._evaluation_steps(by_epoch, 50) == {10, 20, 30, 40, 50}
    assert stage._evaluation_steps(replace(settings, scale=0.01), 3) == {3}


def test_ten_crops_are_scored_by_their_mean_probability_or_logit(probe, monkeypatch):
    seen, logits = [], []
    score = stage.topk_hits
    monkeypatch.setattr(stage, "topk_hits", lambda *words: seen.append(words[0]) or score(*words))
    for scores in ("probabilities", "logits"):
        _, probes = probe("conv5", "epochs=1", "crops=10", "view.resize=72", f"crop_scores={scores}")
        logits.append(probes["conv5"].classifier.bias)
    outputs = torch.cat(seen)
    assert outputs.shape == (20, 2)
    assert torch.equal(*logits)
    torch.testing.assert_close(outputs[:10].sum(1), torch.ones(10))
    assert not torch.allclose(outputs[10:].sum(1), torch.ones(10))


@pytest.mark.parametrize(
    ("words", "names", "fields"),
    [
        (["crops=5"], ["crops"], {"received": 5, "allowed": (1, 10)}),
        (
            ["crop_scores=votes"],
            ["crop_scores"],
            {"received": "votes", "allowed": ("logits", "probabilities")},
        ),
        (
            ["classifier_init=zeros"],
            ["classifier_init"],
            {"received": "zeros", "allowed": ("normal", "fan_out", "xavier_uniform")},
        ),
        (
            ["reduction.type=MaxPool"],
            ["MaxPool"],
            {
                "received": "conv5",
                "allowed": "write reduction=dict(..., conv5=(size, stride, padding)) in a config",
            },
        ),
        (["scale=0.0"], ["scale", 0.0], {}),
        (["scale=2.0"], ["scale", 2.0], {}),
        (
            ["schedule.type=Linear"],
            ["schedule"],
            {"received": "Linear", "allowed": ("Bottou", "Constant", "Cosine", "Poly", "Step")},
        ),
        (["epoch_rule=worst"], ["epoch_rule"], {"received": "worst", "allowed": ("last", "best")}),
        (["evaluations=0"], ["evaluations"], {"received": 0}),
        (
            ["schedule.factors=(0.1,)"],
            ["schedule.factors", "schedule.milestones"],
            {"received": "2 milestones and 1 factors"},
        ),
        (["steps=5", "epochs=1"], ["steps", "epochs"], {}),
    ],
)
def test_what_a_probe_cannot_do_is_refused(probe, words, names, fields):
    with refused(*names, **fields):
        probe("conv5", *words)


def test_an_interrupted_probe_goes_on_and_ends_alike(folders, tmp_path, monkeypatch, small_alexnet):
    words = [
        "view.size=64",
        "view.resize=64",
        "batch_size=4",
        "workers=0",
        "mixed_precision=None",
        "epochs=2",
    ]
    settings = load_stage_config("linear-probe", overrides=[*words, "checkpoint_interval=3"])

    def run(name, stop=None):
        take, taken = _step, []

        def step(*arguments):
            if len(taken) == stop:
                raise KeyboardInterrupt
            taken.append(take(*arguments))
            return taken[-1]

        monkeypatch.setattr(stage, "_step", step)
        job = Job(settings, small_alexnet, folders, 0, tmp_path / name, torch.device("cpu"))
        return linear_probe(job), len(taken)

    _step = stage._step
    whole, steps = run("whole")
    assert steps == 10
    with pytest.raises(KeyboardInterrupt):
        run("broken", stop=8)
    resumed, rest = run("broken")
    # Six steps were saved, and the first epoch's hits with them.
    assert rest == 4
    assert resumed == whole
    assert [m.metric for m in whole] == ["top1", "top1_best", "top5", "top5_best"]
    assert not (tmp_path / "broken" / "unfinished").exists()


def test_a_probe_that_diverges_scores_nothing(probe):
    with pytest.raises(TrainingDivergedError, match="the loss of the linear probe of conv5 is nan at step"):
        probe("conv5", "epochs=2", "optimizer.lr=1e30", "classifier_std=1e30")


def test_scores_that_are_not_numbers_stop_the_run(probe, monkeypatch):
    step = stage._step

    def last_step(backbone, probes, *words):
        loss = step(backbone, probes, *words)
        probes["conv5"].classifier.bias.data[0] = float("nan")
        return loss

    monkeypatch.setattr(stage, "_step", last_step)
    with pytest.raises(TrainingDivergedError, match="linear probe of conv5"):
        probe("conv4,conv5", "epochs=None", "steps=1")


@pytest.mark.slow
def test_two_processes_compute_what_one_does(probe, folders, tmp_path, small_alexnet):
    words = ["epochs=3", "optimizer.lr=0.01"]
    measured, _ = probe("conv2,conv5", *words)
    small = ["view.size=64", "view.resize=64", "batch_size=2", "workers=0", "mixed_precision=None"]
    subprocess.run(
        [sys.executable, "-m", "transfer", "linear-probe", "conv2,conv5", small_alexnet, *small, *words,
         "--data", str(folders), "--work-dir", str(tmp_path)],
        check=True,
        env={**os.environ, "GPUS": "2", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    scores = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    two = {(score["setting"], score["metric"]): score["value"] for score in scores}
    one = {(m.setting, m.metric): m.value for m in measured}
    assert one == pytest.approx(two, abs=10.1)  # one photo more or less
    # Ten photos are scored, five by each of two processes.
    by_photo = load_outcomes(next(tmp_path.rglob("outcomes.npz")), "conv5", "top1")
    assert len(by_photo) == 10
    assert by_photo.metric(np.arange(10)) == two["conv5", "top1"]
