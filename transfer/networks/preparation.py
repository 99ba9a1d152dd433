"""How papers prepare pretrained weights before they fine-tune them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from pretext.backbones.checkpoint import LoadedBackbone
from pretext.backbones.data_dependent import rescale_between_layers
from pretext.backbones.surgery import add_color_channels, drop_fully_connected
from pretext.data.crops import center_crop
from transfer.data.voc import read_image
from transfer.job import Job
from transfer.protocols.settings import FineTuningSettings

#: Number and side in pixels of the photos on which the layers' rates of change are measured.
PHOTOS, SIDE = 16, 227


def prepare_backbone(job: Job[FineTuningSettings], photos: Sequence[Path]) -> LoadedBackbone:
    """Load the job's backbone and prepare it as the settings say.

    Args:
        job: Those that matter are ``reinit_from`` ("fc6" drops fc6 and fc7 first), ``batch_norm`` ("absorb" folds it
            into the convolutions), ``rescale`` (see `rescale_between_layers`) and ``color`` (gives a backbone that sees
            lightness alone the ab channels, with weights of zero, to learn: the "color" rows of Zhang et al. 2016).
        photos: Paths of the training photos.

    Returns:
        The backbone in eval mode on the job's device, with the hash of the weights as stored.

    Raises:
        InputError: The backbone cannot be loaded or prepared.
    """
    settings = job.settings
    absorb = settings.batch_norm == "absorb"
    loaded = job.load_backbone(settings.geometry, "absorb" if absorb else "keep")
    if settings.reinit_from == "fc6":
        loaded = dataclasses.replace(loaded, backbone=drop_fully_connected(loaded.backbone))
    if settings.rescale:
        rescale_between_layers(loaded.backbone, sample_photos(photos).to(job.device), job.seed)
    if settings.color:
        loaded = dataclasses.replace(loaded, backbone=add_color_channels(loaded.backbone))
    return loaded


def sample_photos(photos: Sequence[Path]) -> UInt8[Tensor, "n 3 h w"]:
    """Return the central squares of some photos, by their paths: on them layers are measured."""
    # Spread over the list, which may be sorted.
    chosen = photos[:: max(1, len(photos) // PHOTOS)][:PHOTOS]
    return torch.stack([center_crop(read_image(path), SIDE, SIDE) for path in chosen])
