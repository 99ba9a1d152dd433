import json
import pickle

import pytest
import torch
from refusals import refused
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_alexnet import small_alexnet

from pretext.backbones.checkpoint import Provenance, save_backbone
from pretext.backbones.classifier import (
    PhotoClassifier,
    classifier_sha256,
    load_classifier,
    save_classifier,
)
from pretext.backbones.heads import MapHead
from pretext.backbones.initializers import he_normal_

pytestmark = pytest.mark.usefixtures("one_thread")

PROVENANCE = Provenance("supervised", seed=3, data="photos", config={"a": [1]})
CLASSES = ("ape", "bee", "zebra \udcff")


@pytest.fixture
def saved(tmp_path):
    """A classifier, its file and its hash."""
    made = PhotoClassifier(small_alexnet("rgb"), MapHead(32, 3, size=2, hidden=8), "conv5", CLASSES).eval()
    he_normal_(made, 0)
    path = tmp_path / "classifier.safetensors"
    return made, path, save_classifier(made, path, PROVENANCE)


def rewritten(path, weights=None, change=lambda header: None):
    """Write a classifier file anew, with other weights or a changed header."""
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["pretext_classifier"])
    change(header)
    save_file(weights or load_file(path), path, {"pretext_classifier": json.dumps(header)})


@torch.no_grad()
def test_what_is_saved_says_the_same_once_it_is_loaded(saved):
    made, path, sha256 = saved
    loaded = load_classifier(path)
    assert sha256 == classifier_sha256(loaded)
    assert (loaded.classes, loaded.provenance, loaded.layer) == (CLASSES, PROVENANCE, made.layer)
    assert not any(module.training for module in loaded.modules())
    photos = torch.randint(
        0, 256, (2, 3, 64, 72), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    logits = loaded(photos)
    assert torch.equal(logits, made(photos))
    assert torch.equal(logits, made.head(made.backbone(photos, ["conv5"])["conv5"]))
    assert logits.shape == (2, 3)


def test_a_head_that_does_not_fit_is_refused():
    with refused("classes", received=4):
        PhotoClassifier(small_alexnet("rgb"), MapHead(32, 4), "conv5", CLASSES)


@pytest.mark.parametrize(
    ("change", "names", "fields"),
    [
        (lambda header: header.update(format_version=99), [], {"received": 99}),
        (lambda header: header.pop("classes"), [], {"received": "classes"}),
        (lambda header: header["classes"].reverse(), ["SHA-256"], {}),
        (lambda header: header["classes"].pop(), ["head.layers"], {}),
        (lambda header: header.update(layer="conv9"), ["layer"], {"received": "conv9"}),
        (lambda header: header["head"].update(size=0), ["head size"], {"received": 0}),
        (lambda header: header["head"].update(shape=0), ["head", "shape"], {}),
    ],
)
def test_a_header_that_describes_no_classifier_is_an_error(saved, change, names, fields):
    rewritten(saved[1], change=change)
    with refused(*names, **fields):
        load_classifier(saved[1])


def test_changed_weights_are_noticed(saved):
    weights = load_file(saved[1])
    weights["head.layers.0.weight"][0, 0] += 1
    rewritten(saved[1], weights)
    with refused(saved[1], "SHA-256", allowed=saved[2][:12]):
        load_classifier(saved[1])


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


def test_other_files_are_refused_and_pickles_never_opened(saved, tmp_path):
    with refused(received=str(tmp_path / "gone.safetensors"), allowed="classifier.safetensors"):
        load_classifier(tmp_path / "gone.safetensors")
    other = tmp_path / "other.safetensors"
    other.write_bytes(pickle.dumps(Bomb()))
    with refused(other, allowed="classifier.safetensors"):
        load_classifier(other)
    save_backbone(saved[0].backbone, other, PROVENANCE)
    with refused(other, "not a classifier file", received="a backbone file"):
        load_classifier(other)
