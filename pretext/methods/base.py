"""The contract of a pretext method: a backbone, a loss on unlabeled photos, and perhaps a picture of itself."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Int, UInt8
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch import distributed as dist

from pretext.backbones.base import Backbone
from pretext.data.photos import Photos


class Method(BaseModel):  # type: ignore[misc]  # mmengine is not typed
    """A pretext method. The engine trains it and, at the end, keeps its ``backbone``.

    Args:
        backbone: What is pretrained.

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
    #: Learning rate of parameters whose name begins so, relative to the config's: those of a second player, which is
    #: stepped as by an optimiser of its own.
    rate_factors: Mapping[str, float] = MappingProxyType({})

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.backbone = backbone

    def setup(self, photos: Photos, folder: Path) -> None:
        """Prepare from the training photos, once before training; what takes long is kept in ``folder``."""

    def begin_epoch(self, epoch: int, batches: Iterable[dict[str, Tensor]]) -> Iterable[nn.Parameter] | None:
        """Look at all photos before an epoch; a run that goes on in mid-epoch does not come here.

        What is found must be kept in buffers, so that it is saved with the weights.

        Args:
            epoch: From 0.
            batches: All photos of the training once, in the order of their numbers, as ``image`` and ``index`` on the
                method's device: central crops, nothing drawn. They are read as they are asked for.

        Returns:
            The parameters that were set anew, if any: what the optimiser remembers of them is dropped.
        """
        return None

    def forward(
        self, image: UInt8[Tensor, "n 3 h w"], index: Int[Tensor, " n"], mode: Literal["loss"] = "loss"
    ) -> dict[str, Tensor]:
        """Losses and other scalars of a batch of RGB photos.

        Args:
            image: RGB photos.
            index: Their numbers among the photos that `setup` is given.
            mode: Always ``loss``.

        Returns:
            Scalars by name; the entries whose name contains ``loss`` are added up and minimised.
        """
        raise NotImplementedError

    def preview(self, image: UInt8[Tensor, "n 3 h w"]) -> UInt8[Tensor, "n 3 h w2"] | None:
        """What the method does with these photos, one picture a photo, or None if there is nothing to see."""
        return None

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Any]]:
        """Add up the losses; what is logged is the mean over all processes."""
        total, logged = super().parse_losses(losses)
        logged = {name: value.detach() for name, value in logged.items()}
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            values = torch.stack([value.float() for value in logged.values()])
            dist.all_reduce(values)
            logged = dict(zip(logged, values / dist.get_world_size(), strict=True))
        return total, logged
