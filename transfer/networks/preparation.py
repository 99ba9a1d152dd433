"""How papers prepare pretrained weights before they fine-tune them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from pretext.backbones.checkpoint import LoadedBackbone
from pretext.backbones.data_dependent import rescale_between_layers
from pretext.backbones.surgery import add_color_channels, drop_fully_connected
from pretext.data.crops import center_crop
from pretext.errors import InputError
from transfer.data.voc import read_image
from transfer.job import Job

#: Number and side in pixels of the photos on which the layers' rates of change are measured.
PHOTOS, SIDE = 16, 227


def prepare_backbone(job: Job, photos: Sequence[Path]) -> LoadedBackbone:
    """Load the job's backbone and prepare it as the config says.

    Args:
        job: Its config has ``reinit_from`` ("fc6" drops fc6 and fc7 first), ``batch_norm`` ("absorb" folds it into
            the convolutions), ``rescale`` (whether to scale all layers to change at the same relative rate, see
            `rescale_between_layers`) and ``color`` (whether to give a backbone that sees lightness alone the ab
            channels, with zero weights, to learn: the "color" rows of Zhang et al. 2016).
        photos: Paths of the training photos.

    Returns:
        The backbone in eval mode on the job's device, with the hash of the weights as stored.

    Raises:
        InputError: The backbone cannot be loaded or prepared, or ``rescale`` comes without ``batch_norm="absorb"``.
    """
    config = job.config
    absorb = config["batch_norm"] == "absorb"
    if config["rescale"] and not absorb:
        raise InputError(
            "rescale=True needs layers without batch norm",
            received=f"batch_norm={config['batch_norm']}",
            allowed=("batch_norm=absorb",),
        )
    loaded = job.load_backbone(config["geometry"], "absorb" if absorb else "keep")
    if config["reinit_from"] == "fc6":
        loaded = dataclasses.replace(loaded, backbone=drop_fully_connected(loaded.backbone))
    if config["rescale"]:
        # Spread over the list, which may be sorted.
        chosen = photos[:: max(1, len(photos) // PHOTOS)][:PHOTOS]
        views = torch.stack([center_crop(read_image(path), SIDE, SIDE) for path in chosen])
        rescale_between_layers(loaded.backbone, views.to(job.device), job.seed)
    if config["color"]:
        loaded = dataclasses.replace(loaded, backbone=add_color_channels(loaded.backbone))
    return loaded
