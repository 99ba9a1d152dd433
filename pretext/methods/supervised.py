"""Classification by labels, the upper row of the papers' tables, which all pretext methods are measured against.

"ImageNet Classification with Deep Convolutional Neural Networks" (Krizhevsky, Sutskever, Hinton, NIPS 2012).
"""

from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from pretext.backbones.base import Backbone
from pretext.backbones.classifier import PhotoClassifier
from pretext.checks import check_at_least
from pretext.data.photos import Photos
from pretext.errors import InputError
from pretext.methods.base import Method, Scalars
from pretext.methods.parts.heads import MapHead, accuracy


class Supervised(Method):
    """Predicts the folder of a photo: the name of the folder right above the photo is its label.

    In a tar shard it is the folder of the photo's member.

    Args:
        backbone: The network to pretrain.
        num_classes: Number of folders; checked against the photos before training.
        layer: The backbone's layer under the head.
        head_size: Side, in positions, that the layer's map is pooled to.
        head_hidden: Length of the hidden layer.

    Raises:
        InputError: The backbone has no such layer, or a number is out of range.

    Differences from the paper: one hidden layer of 512 with batch norm on the pooled map instead of fc6 and fc7 of
    4,096 with dropout; the photos' colours are not varied.
    """

    name = "supervised"
    least_batch = 2
    labels: Tensor

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int,
        layer: str = "conv5",
        head_size: int = 3,
        head_hidden: int = 512,
    ):
        super().__init__(backbone)
        check_at_least("num_classes", num_classes, 2)
        self.num_classes = num_classes
        self.layer = backbone.layer(layer)
        backbone.freeze_above(layer)
        self.head = MapHead(self.layer.channels, num_classes, size=head_size, hidden=head_hidden)
        # Not saved, because they follow from the photos' names, as the names of the classes do.
        self.classes: tuple[str, ...] = ()
        self.register_buffer("labels", torch.empty(0, dtype=torch.int64), persistent=False)

    def setup(self, photos: Photos, folder: Path) -> None:
        """Number the photos' folders in the order of their names.

        Raises:
            InputError: A photo lies in no folder or above the folders of others, all photos lie in one folder, or the
                number of folders is not ``num_classes``.
        """
        folders = [_folder(photos.name(i)) for i in range(len(photos))]
        above = {parent for folder in set(folders) for parent in folder.parents}
        stray = [photos.name(i) for i, folder in enumerate(folders) if folder in above]
        if stray:
            raise InputError(
                f"{len(stray)} photos have no label: they lie above the folders of others",
                received=stray[0],
                allowed="sort all photos into CLASS/PHOTO",
            )
        names, labels = np.unique([folder.name for folder in folders], return_inverse=True)
        found = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        if len(names) < 2:
            raise InputError(
                f"all {len(photos)} photos have the same label",
                received=found,
                allowed="sort them into the folders of two or more classes",
            )
        if len(names) != self.num_classes:
            raise InputError(
                f"num_classes does not fit the {len(names)} folders of the photos ({found})",
                received=self.num_classes,
                allowed=f"set method.num_classes={len(names)}",
            )
        self.labels = torch.from_numpy(labels).to(self.labels)
        self.classes = tuple(map(str, names))

    def photo_classifier(self) -> PhotoClassifier:
        """Return what names the folder of a photo: backbone and head as they are now, shared."""
        return PhotoClassifier(self.backbone, self.head, self.layer.name, self.classes)

    def forward(
        self, image: UInt8[Tensor, "n 3 h w"], index: Int[Tensor, " n"], mode: Literal["loss"] = "loss"
    ) -> Scalars:
        """Return the cross-entropy over the folders, and the accuracy."""
        labels = self.labels[index]
        logits = self.head(self.backbone.features(image, self.layer.name)).float()
        return Scalars(
            {"loss_class": F.cross_entropy(logits, labels)}, {"accuracy": accuracy(logits, labels)}
        )


def _folder(name: str) -> PurePosixPath:
    """Return the folder right above a photo of that name."""
    folder = PurePosixPath(name).parent
    if folder.name.endswith(".tar"):
        raise InputError(
            "a photo has no label: it lies in no folder of its shard",
            received=name,
            allowed="name it SHARD.tar/CLASS/PHOTO",
        )
    return folder
