"""The classifier: a backbone and a head that name the folder of a photo, and their file."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jaxtyping import Float, Shaped
from safetensors.torch import save
from torch import Tensor, nn

from pretext.backbones.base import Backbone
from pretext.backbones.checkpoint import (
    Provenance,
    build,
    build_from_header,
    check_sha256,
    described_sha256,
    load_weights,
    read_provenance,
    weights_of,
)
from pretext.backbones.header import read_file_header
from pretext.backbones.heads import MapHead
from pretext.errors import InputError
from pretext.files import is_file, write_whole

#: Name of the classifier's file in the folder of a run.
CLASSIFIER_NAME = "classifier.safetensors"
FORMAT_VERSION = 1
HEADER_KEY = "pretext_classifier"
#: Keys that a header must have, and the types of their values. ``architecture`` and ``arguments`` are the backbone's.
REQUIRED = {
    "architecture": str,
    "arguments": dict,
    "layer": str,
    "head": dict,
    "classes": list,
    "provenance": dict,
    "sha256": str,
}


class PhotoClassifier(nn.Module):
    """Predicts the classes of photos.

    Args:
        backbone: Does its own colour conversion.
        head: Sees the layer's map; gives one number per class.
        layer: The backbone's layer under the head.
        classes: Their names, in the order of the head's numbers: those of the folders of the training photos.

    Attributes:
        provenance: Where the weights come from; None if they were not loaded from a file.

    Raises:
        InputError: The backbone has no such layer, or the head does not fit the classes.
    """

    def __init__(self, backbone: Backbone, head: MapHead, layer: str, classes: Sequence[str]):
        super().__init__()
        self.layer = backbone.layer(layer)
        if head.out_features != len(classes):
            raise InputError(
                "a classifier's head does not fit its classes",
                received=head.out_features,
                allowed=f"it needs {len(classes)} outputs",
            )
        self.backbone = backbone
        self.head = head
        self.classes = tuple(classes)
        self.provenance: Provenance | None = None

    def forward(self, photos: Shaped[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        """Return the logits of the classes.

        Args:
            photos: RGB with values 0..255, uint8 or floating point.
        """
        logits: Tensor = self.head(self.backbone.features(photos, self.layer.name))
        return logits.float()


def classifier_sha256(classifier: PhotoClassifier) -> str:
    """Return the SHA-256 of what a classifier is made of and the bytes of every weight."""
    return described_sha256(_description(classifier), classifier)


def save_classifier(classifier: PhotoClassifier, path: Path | str, provenance: Provenance) -> str:
    """Write a classifier file, whole or not at all.

    Args:
        classifier: Any classifier, on any device.
        path: File to write; should end in ``.safetensors``.
        provenance: Goes into the header.

    Returns:
        The SHA-256 that `classifier_sha256` gives of the loaded classifier.
    """
    sha256 = classifier_sha256(classifier)
    header = {
        "format_version": FORMAT_VERSION,
        **_description(classifier),
        "provenance": asdict(provenance),
        "sha256": sha256,
    }
    write_whole(Path(path), save(weights_of(classifier), metadata={HEADER_KEY: json.dumps(header)}))
    return sha256


def load_classifier(path: Path | str) -> PhotoClassifier:
    """Load a classifier from its file.

    Returns:
        The classifier in eval mode, with its provenance.

    Raises:
        InputError: The file is missing, not a classifier file, of another format version, damaged, or its weights
            differ from what its header describes in any key, shape or byte.
    """
    path = Path(path)
    if not is_file(path):
        raise InputError(
            "no classifier file",
            received=str(path),
            allowed=f"name the {CLASSIFIER_NAME} that pretraining by labels (supervised) leaves",
        )
    header = read_file_header(path, HEADER_KEY, FORMAT_VERSION, REQUIRED)
    backbone = build(header["architecture"], header["arguments"])
    sizes = {"in_channels": backbone.layer(header["layer"]).channels, "out_features": len(header["classes"])}
    head = build_from_header("head", MapHead, {**sizes, **header["head"]})
    classifier = PhotoClassifier(backbone, head, header["layer"], header["classes"])
    load_weights(classifier, path, "its classifier")
    check_sha256(path, classifier_sha256(classifier), header["sha256"])
    classifier.provenance = read_provenance(header)
    return classifier.eval()


def _description(classifier: PhotoClassifier) -> dict[str, Any]:
    """Everything that is needed to make the classifier again, but the weights."""
    return {
        "architecture": classifier.backbone.architecture,
        "arguments": classifier.backbone.arguments,
        "layer": classifier.layer.name,
        "head": {"size": classifier.head.size, "hidden": classifier.head.hidden},
        "classes": list(classifier.classes),
    }
