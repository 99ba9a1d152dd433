"""The contract of a pretext method: a backbone, losses on unlabeled photos, and perhaps a picture of itself."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Int, UInt8
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch import distributed as dist

from pretext.backbones.base import Backbone
from pretext.backbones.classifier import PhotoClassifier
from pretext.colorize.colorizer import Colorizer
from pretext.data.photos import Photos


class Scalars(NamedTuple):
    """The scalars of one batch, by name.

    Attributes:
        losses: Scalars that are added up and minimised. Their sum is logged as ``loss``.
        logged: Scalars that are only logged, under names of their own.
    """

    losses: Mapping[str, Tensor]
    logged: Mapping[str, Tensor] = MappingProxyType({})


class Method(BaseModel):  # type: ignore[misc]  # mmengine is not typed
    """A pretext method. The engine trains it and keeps its ``backbone`` at the end.

    Args:
        backbone: The network to pretrain.

    Attributes:
        name: The method's name in METHODS, in headers and in tables.
    """

    name: ClassVar[str]
    #: The kinds of photos that it is trained on, of `pretext.data.photos.KINDS`.
    takes: tuple[str, ...] = ("photos",)
    #: Least number of photos in a batch: batch norm of a head, or a comparison of photos, needs two.
    least_batch: ClassVar[int] = 1
    #: Whether the backbone is shown photos (or frames) as they are, be it turned or mirrored. If not, its batch norms
    #: are recalibrated at the end (`pretext.training.recalibration`).
    whole_photos: bool = True
    #: Learning rates relative to the config's, by the beginning of the parameters' names: a second player is stepped as
    #: if by an optimiser of its own.
    rate_factors: Mapping[str, float] = MappingProxyType({})
    #: For a network of two halves: by the name of each layer that must not mix them, how many input channels belong to
    #: the first; see `pretext.backbones.data_dependent.initialize_from_data`.
    halves: Mapping[str, int] = MappingProxyType({})
    #: Whether `choose` says which photos an epoch shows. If not, it shows each photo once.
    chooses_photos: bool = False

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.backbone = backbone

    def setup(self, photos: Photos, folder: Path) -> None:
        """Check the training photos and prepare from them, once before training; keep slow results in ``folder``."""

    def begin_epoch(self, epoch: int, batches: Iterable[dict[str, Tensor]]) -> Iterable[nn.Parameter] | None:
        """Look at all photos before an epoch. A run that resumes in mid-epoch does not call this.

        Keep results in buffers, so that they are saved with the weights.

        Args:
            epoch: Number of the epoch, from 0.
            batches: All training photos once, in the order of their numbers, as ``image`` and ``index`` on the method's
                device: central crops, without random draws. They are read as they are asked for.

        Returns:
            The parameters that were set anew, if any; the optimiser drops its state of them.
        """
        return None

    def choose(self, photos: Int[np.ndarray, " n"], rng: np.random.Generator) -> Int[np.ndarray, " n"]:
        """Return the photos of an epoch in the order in which they are shown; called after `begin_epoch`.

        A run that resumes in mid-epoch asks again, and so does each process: the answer must follow from the arguments
        and from buffers. A photo that comes twice is cropped anew. Only called if ``chooses_photos``.

        Args:
            photos: Numbers of all training photos, ascending.
            rng: The random numbers of the epoch.

        Returns:
            As many of these numbers, perhaps with repetitions.
        """
        raise NotImplementedError

    def forward(
        self, image: UInt8[Tensor, "n 3 h w"], index: Int[Tensor, " n"], mode: Literal["loss"] = "loss"
    ) -> Scalars:
        """Return the losses and other scalars of a batch of RGB photos.

        Args:
            image: RGB photos.
            index: Their numbers among the photos that `setup` is given.
            mode: Always ``loss``.
        """
        raise NotImplementedError

    def preview(self, image: UInt8[Tensor, "n 3 h w"]) -> UInt8[Tensor, "n 3 h w2"] | None:
        """Draw one picture per photo of what the method does with it; None if there is nothing to see."""
        return None

    def colorizer(self) -> Colorizer | None:
        """Return what colours photos by what was learned; None if the method does not learn to colour."""
        return None

    def photo_classifier(self) -> PhotoClassifier | None:
        """Return what names the folder of a photo; None if the method does not learn their names."""
        return None

    def parse_losses(self, scalars: Scalars) -> tuple[Tensor, dict[str, Tensor]]:
        """Add up the losses, and average all scalars over all processes for the log."""
        if not isinstance(scalars, Scalars):
            raise TypeError(
                f"{type(self).__name__}.forward must return Scalars(losses, logged), not {type(scalars).__name__}"
            )
        first, *others = scalars.losses.values()
        total = sum(others, first)
        named = {"loss": total, **scalars.losses, **scalars.logged}
        logged = {name: value.detach() for name, value in named.items()}
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            values = torch.stack([value.float() for value in logged.values()])
            dist.all_reduce(values)
            logged = dict(zip(logged, values / dist.get_world_size(), strict=True))
        return total, logged
