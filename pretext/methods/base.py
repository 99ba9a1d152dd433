"""The contract of a pretext method: a backbone, a loss on unlabeled photos, and perhaps a picture of itself."""

from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Int, UInt8
from mmengine.model import BaseModel
from torch import Tensor
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

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.backbone = backbone

    def setup(self, photos: Photos, folder: Path) -> None:
        """Prepare from the training photos, once before training; what takes long is kept in ``folder``."""

    def forward(
        self, image: UInt8[Tensor, "n 3 h w"], index: Int[Tensor, " n"], mode: Literal["loss"] = "loss"
    ) -> dict[str, Tensor]:
        """Losses and other scalars of a batch of RGB photos.

        Args:
            image: RGB photos.
            index: Their numbers in the data set.
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
