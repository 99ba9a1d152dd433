"""Baselines: untrained backbones whose filters fit photos."""

import torch

from pretext.backbones.base import Backbone
from pretext.backbones.checkpoint import Provenance, build
from pretext.backbones.data_dependent import DATA_KINDS, initialize_from_data
from pretext.backbones.header import parse_name
from pretext.backbones.initializers import he_normal_
from pretext.checks import check_at_least, check_choice
from pretext.data.crops import center_crop
from pretext.data.photos import Photos
from pretext.data.samples import some_photos
from pretext.data.sources import fingerprint
from pretext.errors import InputError
from pretext.versions import versions


def initialize_backbone(
    kind: str, photos: Photos, name: str, size: int, count: int, seed: int, source: str = ""
) -> tuple[Backbone, Provenance]:
    """Make a backbone by `pretext.backbones.data_dependent.initialize_from_data`, and say where its weights come from.

    Args:
        kind: ``gaussian``, ``pca`` or ``kmeans``.
        photos: Any photos; unreadable ones are skipped.
        name: ``alexnet`` or ``vgg16``; ``:INPUT_SPACE`` chooses another input space (``alexnet:rgb``).
        size: Side of the photos' central crops, in pixels.
        count: How many photos are used, spread over all.
        seed: Seed of the patches, the clusters and the random filters.
        source: What the photos are called.

    Raises:
        InputError: As for `initialize_from_data`; or no photo is readable, or a number is out of range.
    """
    check_choice("data-dependent initialisation", kind, DATA_KINDS)
    check_at_least("size", size, 1)
    check_at_least("count", count, 2)
    backbone = build(*parse_name(name))
    unreadable: dict[str, str] = {}
    views = [center_crop(image, size, size) for _, image in some_photos(photos, count, unreadable)]
    if not views:
        raise InputError(
            f"none of {len(unreadable)} photos can be read",
            received="; ".join(f"{name} ({why})" for name, why in list(unreadable.items())[:3]),
            allowed="allowed are whole JPEG, PNG and WebP files",
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
