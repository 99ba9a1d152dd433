"""Backbones to compare with: untrained ones whose filters fit photos."""

import numpy as np
import torch

from pretext.backbones.base import Backbone
from pretext.backbones.checkpoint import Provenance, build, parse_name
from pretext.checks import check_at_least, check_choice
from pretext.data.crops import center_crop
from pretext.data.decoding import UnreadablePhotoError, decode_rgb
from pretext.data.photos import Photos
from pretext.data.sources import fingerprint
from pretext.errors import InputError
from pretext.initializers import DATA_KINDS, he_normal_, initialize_from_data
from pretext.versions import versions


def initialize_backbone(
    kind: str, photos: Photos, name: str, size: int, count: int, seed: int, source: str = ""
) -> tuple[Backbone, Provenance]:
    """A backbone of `pretext.initializers.initialize_from_data`, and where its weights come from.

    Args:
        kind: ``gaussian``, ``pca`` or ``kmeans``.
        photos: Any photos; unreadable ones are passed over.
        name: ``alexnet`` or ``vgg16``, with ``:INPUT_SPACE`` for other colours than its own (``alexnet:rgb``).
        size: Side of the photos' central crops, in pixels.
        count: How many photos are used, spread over all.
        seed: Of the patches, the clusters and the random filters.
        source: What the photos are called.

    Raises:
        InputError: As `initialize_from_data`; no photo is readable, or a number is out of range.
    """
    check_choice("data-dependent initialisation", kind, DATA_KINDS)
    check_at_least("size", size, 1)
    check_at_least("count", count, 2)
    backbone = build(*parse_name(name))
    views = []
    for index in np.linspace(0, len(photos) - 1, min(count, len(photos)), dtype=np.int64):
        try:
            views.append(center_crop(decode_rgb(photos.read(int(index))), size, size))
        except (UnreadablePhotoError, OSError):
            continue
    if not views:
        raise InputError(
            f"none of {len(photos)} photos can be read; allowed are whole JPEG, PNG and WebP files"
        )
    he_normal_(backbone, seed)
    initialize_from_data(backbone, torch.stack(views), kind, seed)
    provenance = Provenance(
        method=kind,
        seed=seed,
        data=source,
        data_fingerprint=fingerprint(photos),
        config={"size": size, "count": len(views)},
        versions=versions(),
    )
    return backbone.eval(), provenance
