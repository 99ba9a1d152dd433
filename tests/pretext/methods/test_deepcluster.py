import itertools
import json
import math
import os
import random
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from refusals import refused
from sklearn.decomposition import PCA
from small_alexnet import CHANNELS, small_alexnet

from pretext.backbones.checkpoint import load_backbone
from pretext.backbones.initializers import he_normal_
from pretext.data.sources import open_photos
from pretext.errors import TrainingDivergedError
from pretext.methods import DeepCluster
from pretext.methods.deepcluster import NONE, cluster, fill_empty, keep_numbers, uniform_over_clusters, whiten
from pretext.training.engine import pretrain
from pretext.training.hooks import BeginEpochs
from pretext.training.runner import latest_checkpoint


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def method(one_thread, photo_folder, tmp_path):
    method = DeepCluster(small_alexnet("lightness"), clusters=5, components=8, head_hidden=16)
    he_normal_(method, 0)
    method.setup(open_photos(photo_folder), tmp_path)
    return method.train()


@pytest.fixture
def batches():
    """Batches of 24 of 48 photos: those of even numbers."""
    image = torch.randint(
        0, 256, (24, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    index = torch.arange(0, 48, 2)
    return [{"image": i, "index": n} for i, n in zip(image.split(10), index.split(10), strict=True)]


def test_features_are_whitened_principal_components_of_length_one(rng):
    features = rng.standard_normal((200, 12)) @ rng.standard_normal((12, 12)) + 3
    expected = PCA(5, whiten=True).fit_transform(features)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    ours = whiten(torch.from_numpy(features), 5).flip(1).numpy()
    signs = np.sign((ours * expected).sum(0))
    np.testing.assert_allclose(ours * signs, expected, atol=1e-6)


def test_components_without_variance_are_not_blown_up():
    features = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)) @ torch.rand(2, 6)
    directions = whiten(features, 6)
    assert directions[:, :4].abs().max() < 0.1
    assert torch.isfinite(whiten(torch.ones(4, 6), 6)).all()


@pytest.mark.parametrize("scale", [1e-25, 1e-8, 1e18])
def test_the_scale_of_features_changes_nothing(scale):
    features = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        whiten(features * scale, 4).abs(), whiten(features, 4).abs(), rtol=1e-3, atol=1e-4
    )


def test_features_that_are_not_numbers_end_the_run(method, batches):
    torch.nn.init.constant_(method.backbone.get_parameter("conv5.conv.weight"), math.nan)
    with pytest.raises(TrainingDivergedError, match="features"):
        method.begin_epoch(0, batches)


def test_k_means_finds_clouds_the_same_each_time(rng):
    centers = 10 * np.eye(4)
    truth = np.repeat(np.arange(4), 25)
    samples = torch.from_numpy(centers[truth] + rng.standard_normal((100, 4)) * 0.1).float()
    found = [cluster(samples, 4, np.random.default_rng(5)) for _ in range(2)]
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(keep_numbers(found[0], truth, 4), truth)


@pytest.mark.parametrize("clusters", [2, 7, 30])
@pytest.mark.parametrize("distinct", [1, 3, 30])
def test_no_cluster_stays_empty(rng, clusters, distinct):
    # Equal samples cannot be told apart, and k-means leaves clusters empty.
    samples = torch.from_numpy(rng.standard_normal((distinct, 3)).astype(np.float32)).repeat(
        30 // distinct, 1
    )
    assert np.bincount(cluster(samples, clusters, rng), minlength=clusters).min() >= 1


def test_there_are_no_more_clusters_than_samples(rng):
    samples = torch.from_numpy(rng.standard_normal((6, 3)).astype(np.float32))
    assert sorted(cluster(samples, 100, rng)) == [0, 1, 2, 3, 4, 5]


def test_an_empty_cluster_takes_the_samples_on_one_side_of_another_ones_centroid(rng):
    samples = rng.standard_normal((40, 3))
    labels = np.repeat([0, 2], 20)
    filled = fill_empty(samples, labels, 3, rng)
    assert set(filled) == {0, 1, 2}
    changed = filled != labels
    (donor,) = set(labels[changed])
    assert np.array_equal(filled == 1, changed)
    # Around the centroid all who left lie on one side of a plane, and all who stayed on the other.
    centered = samples[labels == donor] - samples[labels == donor].mean(0)
    left = (filled == 1)[labels == donor]
    directions = np.random.default_rng(1).standard_normal((20000, 3))
    assert (((centered @ directions.T) > 0) == left[:, None]).all(0).any()


def test_many_empty_clusters_are_filled_from_the_large_ones(rng):
    labels = np.array([0] * 3 + [1] * 97)
    filled = fill_empty(np.zeros((100, 2)), labels, 50, rng)
    counts = np.bincount(filled, minlength=50)
    assert counts.min() >= 1
    assert counts.sum() == 100
    assert labels.max() == 1


def test_clusters_keep_the_numbers_that_most_samples_had(rng):
    before = rng.integers(-1, 4, 60)
    found = rng.integers(0, 4, 60)
    kept = (keep_numbers(found, before, 4) == before).sum()
    assert kept == max((np.array(p)[found] == before).sum() for p in itertools.permutations(range(4)))
    assert np.array_equal(keep_numbers((before + 1).clip(0) % 4, before, 4)[before >= 0], before[before >= 0])


#: Clusters of 60, 25, 9, 5 and 1 photos, and a photo in none.
LABELS = np.repeat([0, 2, 3, 4, 6, NONE], [60, 25, 9, 5, 1, 1])


def drawn_slowly(labels, draws):
    """An epoch as the authors' code draws it, photo by photo; `draws` is random.Random."""
    clusters = {}
    for photo, label in enumerate(labels.tolist()):
        if label != NONE:
            clusters.setdefault(label, []).append(photo)
    each = int(len(labels) / len(clusters)) + 1
    epoch = []
    for photos in clusters.values():
        pool = list(photos)
        for _ in range(each):
            photo = draws.choice(pool)
            epoch.append(photo)
            if len(photos) > each:
                pool.remove(photo)
    draws.shuffle(epoch)
    return epoch[: len(labels)]


def test_photos_are_drawn_as_often_as_by_a_slow_loop(rng):
    epochs, draws = 3000, random.Random(0)
    found, expected = np.zeros((2, len(LABELS)))
    for _ in range(epochs):
        found += np.bincount(uniform_over_clusters(LABELS, rng), minlength=len(LABELS))
        expected += np.bincount(drawn_slowly(LABELS, draws), minlength=len(LABELS))
    # The one photo alone in its cluster, 20 times an epoch; those of the largest cluster, once in three.
    assert found[-2] / epochs == pytest.approx(101 / 5, rel=0.02)
    assert found[:60].mean() / epochs == pytest.approx(101 / 5 / 60, rel=0.02)
    assert found[-1] == expected[-1] == 0
    # Of each photo no farther apart than chance: five standard deviations of a Poisson count.
    assert (np.abs(found - expected) <= 5 * np.sqrt(found + expected) + 1).all()


def test_an_epoch_is_uniform_over_clusters(rng):
    for _ in range(20):
        epoch = uniform_over_clusters(LABELS, rng)
        assert len(epoch) == len(LABELS)
        counts = np.bincount(LABELS[epoch], minlength=7)
        # Of each of 5 clusters 101 // 5 + 1, of which 4 in all are cut off.
        assert counts.max() <= 21
        assert (21 - counts[[0, 2, 3, 4, 6]]).sum() == 4
        # Without repetition where the cluster is large enough.
        large = epoch[LABELS[epoch] == 0]
        assert len(set(large.tolist())) == len(large)
        assert not np.array_equal(LABELS[epoch], np.sort(LABELS[epoch]))


def test_a_cluster_of_just_so_many_photos_repeats_some_as_in_the_authors_code():
    labels = np.repeat([0, 1], [3, 2])
    seen = [uniform_over_clusters(labels, np.random.default_rng(seed)) for seed in range(50)]
    assert any(len(set(epoch[labels[epoch] == 0].tolist())) < (labels[epoch] == 0).sum() for epoch in seen)


def test_the_loss_is_the_mean_over_photos(method, batches):
    method.begin_epoch(0, batches)
    method.eval()
    image = torch.cat([batch["image"] for batch in batches])
    index = torch.cat([batch["index"] for batch in batches])
    losses, logged = method(image, index)
    features = method.backbone(image, ["conv5"])["conv5"]
    scores = method.classifier(method.head(features).relu()).log_softmax(1)
    labels = method.labels[index]
    own = [-scores[place, label] for place, label in enumerate(labels.tolist())]
    torch.testing.assert_close(losses["loss_cluster"], torch.stack(own).mean())
    assert logged["accuracy"] == pytest.approx(float((scores.argmax(1) == labels).float().mean()))
    assert logged["clusters"] == 5


def test_photos_are_chosen_by_their_clusters(method, batches):
    method.begin_epoch(0, batches)
    photos = torch.cat([batch["index"] for batch in batches]).numpy()
    chosen, again = (method.choose(photos, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(chosen, again)
    assert set(chosen) <= set(photos)
    counts = np.bincount(method.labels.numpy()[chosen], minlength=5)
    assert counts.sum() == 24
    assert counts.max() <= 5


def test_photos_without_a_label_add_no_loss(method, batches):
    method.begin_epoch(0, batches)
    image = batches[0]["image"][:2]
    loss = method(image, torch.tensor([1, 3])).losses["loss_cluster"]
    loss.backward()
    assert loss == 0
    assert not any(p.grad.any() for p in method.parameters() if p.grad is not None)


def test_photos_of_the_training_get_labels_and_others_none(method, batches):
    method.begin_epoch(0, batches)
    assert method.labels.shape == (48,)
    assert method.labels[::2].min() >= 0
    assert method.labels[1::2].eq(-1).all()
    assert len(method.labels[::2].unique()) == 5
    assert method.reassigned == 1


def test_a_photo_that_stands_in_for_an_unreadable_one_counts_once(method, batches):
    seen = []
    again = {"image": batches[0]["image"][:3], "index": batches[0]["index"][:3]}
    torch.manual_seed(0)
    method.begin_epoch(0, batches)
    seen.append(method.labels.clone())
    method.labels.fill_(-1)
    torch.manual_seed(0)
    method.begin_epoch(0, [*batches, again])
    assert torch.equal(method.labels, seen[0])


def test_clusters_change_as_the_network_does(method, batches):
    torch.manual_seed(0)
    method.begin_epoch(0, batches)
    first = method.labels.clone()
    torch.manual_seed(0)
    method.begin_epoch(1, batches)
    assert torch.equal(method.labels, first)
    assert method.reassigned == 0
    he_normal_(method.backbone, 1)
    torch.manual_seed(0)
    method.begin_epoch(2, batches)
    changed = (method.labels != first)[::2].float().mean()
    assert method.reassigned == changed > 0
    assert method(batches[0]["image"], batches[0]["index"]).logged["reassigned"] == changed


def test_clustering_leaves_the_backbone_as_it_is(method, batches):
    before = {name: value.clone() for name, value in method.backbone.state_dict().items()}
    anew = method.begin_epoch(0, batches)
    assert all(torch.equal(value, before[name]) for name, value in method.backbone.state_dict().items())
    assert method.backbone.training
    assert all(a is b for a, b in zip(anew, method.classifier.parameters(), strict=True))
    assert not method.classifier.bias.any()
    assert method.classifier.weight.detach().std() == pytest.approx(0.01, rel=0.3)


def test_labels_go_with_the_weights(method, batches, photo_folder, tmp_path):
    method.begin_epoch(0, batches)
    other = DeepCluster(small_alexnet("lightness"), clusters=5, components=8, head_hidden=16)
    other.setup(open_photos(photo_folder), tmp_path)
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.labels, method.labels)
    image, index = batches[0]["image"], batches[0]["index"]
    for ours, theirs in zip(method.eval()(image, index), other.eval()(image, index), strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(theirs[name], value) for name, value in ours.items())


def test_the_optimiser_forgets_the_old_classifier_alone(method, batches):
    optimizer = torch.optim.AdamW(method.parameters())
    method.begin_epoch(0, batches)
    method(batches[0]["image"], batches[0]["index"]).losses["loss_cluster"].backward()
    optimizer.step()
    assert len(optimizer.state) == len(list(method.parameters()))
    wrapper = SimpleNamespace(optimizer=optimizer)
    runner = SimpleNamespace(model=method, optim_wrapper=wrapper, iter=4, max_iters=9)
    hook = BeginEpochs(3, [{**batch, "unreadable": []} for batch in batches], 0, 0)
    # Epochs begin before steps 0, 3 and 6; nothing begins behind the last step.
    hook.before_train(runner)
    hook.after_train_iter(runner, 3)
    hook.after_train_iter(runner, 8)
    assert len(optimizer.state) == len(list(method.parameters()))
    hook.after_train_iter(runner, 5)
    kept = {id(parameter) for parameter in optimizer.state}
    assert kept == {id(p) for name, p in method.named_parameters() if not name.startswith("classifier")}
    assert all((p.grad is None) == (id(p) not in kept) for p in method.parameters())


def test_it_learns_its_clusters(train_method, photo_folder, tmp_path):
    generator = torch.Generator().manual_seed(0)
    stripes = (torch.arange(64) % 16 < 8).float() * 200
    image = torch.stack([stripes.expand(64, 64), stripes.expand(64, 64).T]).repeat(4, 1, 1)[:, None]
    image = (image + 20 * torch.rand(8, 3, 64, 64, generator=generator)).to(torch.uint8)
    method = DeepCluster(small_alexnet("lightness"), clusters=2, components=1, head_hidden=32)
    he_normal_(method, 0)
    method.setup(open_photos(photo_folder), tmp_path)
    method.begin_epoch(0, [{"image": image, "index": torch.arange(8)}])
    # Stripes that stand and stripes that lie.
    assert method.labels[:8].tolist() in ([0, 1] * 4, [1, 0] * 4)
    logged = train_method(method, image, steps=15)
    assert logged[-1]["accuracy"] == 1
    assert logged[-1]["loss_cluster"] < 0.2 * logged[0]["loss_cluster"]


def test_a_run_resumed_in_mid_epoch_goes_on_with_its_labels(
    small_config, photo_folder, tmp_path, monkeypatch
):
    # 11 photos, one of 12 being held out, are 5 steps an epoch: it stops in the second and goes on from step 6, and a
    # third begins.
    data = tmp_path / "list.txt"
    data.write_text("\n".join(str(photo_folder / f"{number:02d}.jpg") for number in range(12)))
    overrides = ["batch_size=2", "steps=12", "checkpoint_interval=3"]
    overrides += ["method.clusters=4", "method.components=6", "method.feature_size=1"]
    config = small_config("deepcluster", *overrides)
    config["backbone"]["channels"] = CHANNELS
    whole = pretrain(config, work_dir=tmp_path / "whole", data=str(data))
    steps, original = itertools.count(), DeepCluster.forward

    def interrupted(self, **batch):
        if next(steps) == 8:
            raise KeyboardInterrupt
        return original(self, **batch)

    with monkeypatch.context() as patch:
        patch.setattr(DeepCluster, "forward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pretrain(config, work_dir=tmp_path / "broken", data=str(data))
    assert latest_checkpoint(tmp_path / "broken").name == "step_00000006.pth"
    resumed = pretrain(config, work_dir=tmp_path / "broken", data=str(data))
    states = [
        torch.load(latest_checkpoint(tmp_path / name), weights_only=False)["state_dict"]
        for name in ("whole", "broken")
    ]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert load_backbone(whole).sha256 == load_backbone(resumed).sha256
    assert states[0]["labels"].eq(-1).sum() == 1
    assert len(states[0]["labels"].unique()) == 5
    assert 0 < states[0]["reassigned"] < 1


def recorded(monkeypatch):
    """What the method is shown from now on, step by step: photos' numbers, their labels, the sum of their pixels."""
    seen, original = [], DeepCluster.forward

    def forward(self, image, index, **kwargs):
        seen.append((index.tolist(), self.labels[index].tolist(), int(image.long().sum())))
        return original(self, image=image, index=index, **kwargs)

    monkeypatch.setattr(DeepCluster, "forward", forward)
    return seen


def tiny_clusters(tiny_config, *overrides):
    """A run of 46 photos in batches of 8: 5 steps an epoch."""
    words = ["batch_size=8", "method.clusters=6", "method.components=6", "method.head_hidden=16"]
    return tiny_config("deepcluster", *words, *overrides)


def test_a_run_shows_its_clusters_equally_often(tiny_config, photo_folder, tmp_path, monkeypatch):
    seen = recorded(monkeypatch)
    pretrain(tiny_clusters(tiny_config, "steps=15"), work_dir=tmp_path, data=str(photo_folder))
    for epoch in range(3):
        steps = seen[5 * epoch : 5 * epoch + 5]
        counts = Counter(label for _, labels, _ in steps for label in labels)
        # 46 // 6 + 1 of each; of 48, 46 are kept, and 40 fill batches.
        assert sum(counts.values()) == 40
        assert max(counts.values()) <= 8
        assert len(counts) == 6


def test_photos_may_be_shown_once_each(tiny_config, photo_folder, tmp_path, monkeypatch):
    seen = recorded(monkeypatch)
    config = tiny_clusters(tiny_config, "steps=5", "method.sampling=photos")
    pretrain(config, work_dir=tmp_path, data=str(photo_folder))
    shown = [photo for index, _, _ in seen for photo in index]
    assert len(set(shown)) == len(shown) == 40


def test_a_run_killed_at_any_step_goes_on_in_the_same_order(
    tiny_config, photo_folder, tmp_path, monkeypatch, interrupt_at
):
    config = tiny_clusters(tiny_config, "steps=8", "checkpoint_interval=2")
    seen = recorded(monkeypatch)
    whole = load_backbone(pretrain(config, work_dir=tmp_path / "whole", data=str(photo_folder))).sha256
    expected = list(seen)
    assert len(expected) == 8
    for step in range(1, 8):
        monkeypatch.undo()
        go_on = interrupt_at(step)
        with pytest.raises(KeyboardInterrupt):
            pretrain(config, work_dir=tmp_path / str(step), data=str(photo_folder))
        go_on()
        seen = recorded(monkeypatch)
        broken = load_backbone(pretrain(config, work_dir=tmp_path / str(step), data=str(photo_folder))).sha256
        assert seen == expected[step // 2 * 2 :]
        assert broken == whole


def test_a_checkpoint_of_weighted_clusters_is_refused(method):
    state = method.state_dict() | {"cluster_weights": torch.ones(5)}
    with refused(received="a checkpoint with cluster_weights", allowed="--fresh"):
        method.load_state_dict(state)


@pytest.mark.slow
def test_two_processes_learn_the_same_clusters_as_one(photo_folder, tmp_path):
    # By SGD, as in test_engine. Two epochs of 5 steps each and the begin of a third.
    def run(gpus, batch_size):
        words = [
            "view.size=64", "view.resize=64", "held_out=2", "epochs=None", "steps=12", "workers=0",
            "mixed_precision=None", "optimizer.type=SGD", "optimizer.lr=0.001", "method.clusters=6",
            "method.components=16", f"batch_size={batch_size}", "checkpoint_interval=12", "preview_interval=100",
            "--work-dir", str(tmp_path / str(gpus)), "--data", str(photo_folder),
        ]  # fmt: skip
        environment = {**os.environ, "GPUS": str(gpus), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pretext", "train", "deepcluster", "toyworld", *words]
        subprocess.run(command, check=True, env=environment)
        assert json.loads((tmp_path / str(gpus) / "config.json").read_text())["processes"] == gpus
        checkpoint = torch.load(latest_checkpoint(tmp_path / str(gpus)), weights_only=False)
        losses, counts = checkpoint["message_hub"]["log_scalars"]["train/loss"].data
        return checkpoint["state_dict"]["labels"], torch.tensor(losses) / torch.tensor(counts)

    (labels, losses), (others, other_losses) = run(1, 8), run(2, 4)
    assert torch.equal(labels, others)
    torch.testing.assert_close(losses, other_losses, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        ({"clusters": 1}, "from 2 up"),
        ({"components": 0}, "from 1 up"),
        ({"layer": "conv9"}, "conv5"),
        ({"sampling": "weighted"}, ("clusters", "photos")),
    ],
)
def test_bad_arguments_are_named(arguments, allowed):
    ((name, value),) = arguments.items()
    with refused(name, received=value, allowed=allowed):
        DeepCluster(small_alexnet("lightness"), **arguments)
