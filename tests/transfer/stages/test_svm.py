from dataclasses import replace

import numpy as np
import pytest
import torch
from refusals import refused
from sklearn.svm import LinearSVC

from transfer.job import Job
from transfer.protocols.table import load_stage_config
from transfer.stages import svm
from transfer.stages.svm import train_machines, voc_svm

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = load_stage_config("voc-svm", overrides=["costs=(0.01, 1.0)", "workers=1"])


@pytest.fixture
def job(voc_tree, tmp_path, small_alexnet):
    def make(*overrides, on=None, protocol=None):
        words = ["workers=1", "train_split=train", "test_split=val", *overrides]
        settings = load_stage_config("voc-svm", on, words, protocol=protocol)
        return Job(settings, small_alexnet, voc_tree, 0, tmp_path, torch.device("cpu"))

    return make


@pytest.fixture
def samples():
    """60 photos to train on and 40 to score; the first feature tells the first class, with some noise."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (100, 2))
    features = rng.normal(size=(100, 8))
    features[:, 0] += 2 * labels[:, 0]
    return features[:60], labels[:60].astype(np.uint8), features[60:], labels[60:]


def test_it_tells_classes_apart(job):
    measured = voc_svm(job("layers=conv2"))
    assert {m.metric for m in measured} == {"mean_ap_sklearn", "mean_ap_voc07", "mean_ap_voc10"}
    assert {(m.setting, m.split) for m in measured} == {("conv2", "train->val")}
    # Each class is on half of the photos: chance is 50.
    assert min(m.value for m in measured) > 80


def test_the_settings_for_real_photos_run(job):
    assert {m.setting for m in voc_svm(job("layers=conv1", on="voc256"))} == {"conv1"}


def test_the_published_protocol_runs_and_tells_a_narrower_backbone(job, capsys):
    measured = voc_svm(job("layers=conv1,conv5", "costs=(0.1, 1.0)", protocol="goyal2019_svm"))
    assert [m.setting for m in measured] == [*["conv1"] * 3, *["conv5"] * 3]
    told = "conv1 1600, conv5 1152; there conv1 9600, conv5 9216"
    assert [line for line in capsys.readouterr().err.splitlines() if line.endswith(told)]


def test_scores_are_those_of_one_machine_of_the_chosen_cost(samples):
    train, labels, test, _ = samples
    results = train_machines(train, labels, test, SETTINGS, seed=0)
    for column, result in zip(labels.T, results, strict=True):
        targets = np.where(column == 1, 1, -1)
        machine = LinearSVC(
            C=result.cost, class_weight={1: 2, -1: 1}, dual=True, max_iter=2000, random_state=0
        )
        np.testing.assert_allclose(result.scores, machine.fit(train, targets).decision_function(test))


@pytest.mark.slow
def test_machines_side_by_side_are_those_of_one_worker(samples):
    train, labels, test, _ = samples
    one, two = (train_machines(train, labels, test, replace(SETTINGS, workers=n), seed=0) for n in (1, 2))
    for first, second in zip(one, two, strict=True):
        np.testing.assert_array_equal(first.scores, second.scores)


def test_the_cost_is_that_of_the_best_cross_validation(samples, monkeypatch):
    train, labels, test, _ = samples
    validation = {0.01: np.array([0.5, 0.9]), 1.0: np.array([0.6, 0.6])}
    monkeypatch.setattr(svm, "cross_val_score", lambda machine, *words, **options: validation[machine.C])
    assert {r.cost for r in train_machines(train, labels, test, SETTINGS, seed=0)} == {0.01}


def test_photos_with_difficult_objects_only_are_trained_on_as_negatives(samples):
    train, labels, test, _ = samples
    difficult = labels.copy()
    difficult[np.flatnonzero(labels[:, 0] == 0)[:5], 0] = 255
    first, second = (
        train_machines(train, each, test, SETTINGS, seed=0)[0].scores for each in (labels, difficult)
    )
    np.testing.assert_array_equal(first, second)


def test_features_have_unit_norm(job):
    whole = job()
    year = svm.open_voc(whole.data, 2007).photos("val")
    backbone = whole.load_backbone("evaluation", "keep").backbone
    features = svm._features(backbone, year, ("conv1", "conv5"), whole)
    for rows in features.values():
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3)


@pytest.mark.parametrize(
    ("words", "names", "fields"),
    [
        (["costs=()"], ["costs"], {"received": ()}),
        (["costs=(0.1, -1.0)"], ["costs"], {"received": (0.1, -1.0)}),
        (["costs=('a',)"], ["costs"], {"received": "('a',)"}),
        (["tolerance=0.0"], ["tolerance"], {"received": 0.0}),
        (["positive_weight=0.0"], ["positive_weight"], {"received": 0.0}),
        (["scale=0.0"], ["scale", 0.0], {}),
        (["size=20"], ["alexnet", "size=20"], {}),
        (["folds=1"], ["folds"], {"received": 1}),
        (["folds=1000"], ["folds=1000", "train_split=train", "with bars", "with plain"], {}),
        (["layers=conv9"], ["layer", "alexnet"], {"received": "conv9", "allowed": "conv5"}),
    ],
)
def test_what_it_cannot_do_is_refused(job, words, names, fields):
    with refused(*names, **fields):
        voc_svm(job(*words))


def test_a_class_that_every_photo_shows_is_refused(job, new_voc_tree):
    """As in a devkit of one class."""
    first, *others = sorted(new_voc_tree.rglob("Annotations/*.xml"))
    for annotation in others:
        annotation.write_bytes(first.read_bytes())
    (labels,) = new_voc_tree.rglob("labels.txt")
    labels.write_text("bars\n")
    with refused("folds=3", "train_split=train", received="fewer without bars"):
        voc_svm(replace(job(), data=new_voc_tree))


def test_features_that_are_not_numbers_are_refused(job, monkeypatch):
    load = Job.load_backbone

    def damaged(*words):
        loaded = load(*words)
        loaded.backbone.conv2.conv.weight.data[0] = float("nan")
        return loaded

    monkeypatch.setattr(Job, "load_backbone", damaged)
    with refused("small.safetensors", received="conv2"):
        voc_svm(job("layers=conv1,conv2"))
