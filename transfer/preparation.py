"""What papers do to pretrained weights before they fine-tune them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from pretext.backbones.checkpoint import LoadedBackbone, add_color_channels, drop_fully_connected
from pretext.data.crops import center_crop
from pretext.errors import InputError
from pretext.initializers import rescale_between_layers
from transfer.data.voc import read_image
from transfer.stage import Job

#: How many photos, and how large, the rates of change are measured on.
PHOTOS, SIDE = 16, 227


def prepare_backbone(job: Job, photos: Sequence[Path]) -> LoadedBackbone:
    """The job's backbone, prepared as its config says, in eval mode on the job's device; its hash is the file's.

    Args:
        job: Its config says in ``batch_norm`` whether batch norm is folded into the convolutions (absorb), in
            ``rescale`` whether all layers are then scaled to change at the same relative rate
            (`rescale_between_layers`), and in ``color`` whether a backbone that sees lightness alone gets the ab
            channels, with weights of zero, to learn them (Zhang et al. 2016, the "color" rows). With
            ``reinit_from="fc6"`` it loses fc6 and fc7 before all that.
        photos: Those to train on.

    Raises:
        InputError: The backbone cannot be loaded or prepared so, or ``rescale`` comes without ``absorb``.
    """
    config = job.config
    absorb = config["batch_norm"] == "absorb"
    if config["rescale"] and not absorb:
        raise InputError(
            "only layers without batch norm can be rescaled: received rescale=True and"
            f" batch_norm={config['batch_norm']}, allowed is batch_norm=absorb"
        )
    loaded = job.load_backbone(config["geometry"], "absorb" if absorb else "keep")
    if config["reinit_from"] == "fc6":
        loaded = dataclasses.replace(loaded, backbone=drop_fully_connected(loaded.backbone))
    if config["rescale"]:
        # Spread over the list, which may be sorted by something.
        chosen = photos[:: max(1, len(photos) // PHOTOS)][:PHOTOS]
        views = torch.stack([center_crop(read_image(path), SIDE, SIDE) for path in chosen])
        rescale_between_layers(loaded.backbone, views.to(job.device), job.seed)
    if config["color"]:
        loaded = dataclasses.replace(loaded, backbone=add_color_channels(loaded.backbone))
    return loaded
