"""Hypercolumns: each pixel is classified by the features of all layers above it.

"Hypercolumns for Object Segmentation and Fine-grained Localization" (Hariharan et al., CVPR 2015), as "Learning
Representations for Automatic Colorization" (Larsson et al., ECCV 2016) trains them: on a few random pixels of each
photo, so that no map of all features is ever made.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from pretext.backbones.base import Backbone, Layer
from pretext.backbones.hypercolumn import sample, sample_grid
from pretext.precision import mixed_precision
from transfer.networks.parts import Part, initialize_new_
from transfer.protocols.settings import SegmentationSettings

#: Positions of a whole photo that are classified at once, which bounds the memory that it takes.
AT_ONCE = 2048


@dataclass(frozen=True)
class PointLogits:
    """Logits of some pixels of each photo.

    Attributes:
        logits: Of each class, (N, C, P).
        points: Row and column of each pixel, (N, P, 2).
    """

    logits: Float[Tensor, "n c p"]
    points: Int[Tensor, "n p 2"]


class HypercolumnClassifier(Part):
    """Classifies pixels by the photo itself, all convolutions and, if there are any, fc6 and fc7 of a backbone.

    Each layer is divided by the root of its features' second moment, so that all have a say. One hidden layer with ReLU
    and dropout follows. In training it looks at random pixels, in eval mode at every ``stride``-th, between which the
    logits are interpolated.

    Args:
        backbone: Becomes part of this module.
        num_classes: Number of classes with the background.
        settings: The stage's. Its ``head`` has ``channels`` of the hidden layer, ``dropout``, the number of ``points``
            of a photo, the ``edge`` in pixels from which none is drawn, and ``stride``.
        seed: Seed of new layers.
    """

    def __init__(self, backbone: Backbone, num_classes: int, settings: SegmentationSettings, seed: int):
        super().__init__(settings, trained=settings.train == "all")
        assert settings.head is not None  # SegmentationSettings.check
        head = settings.head
        self.points, self.edge, self.stride = head["points"], head["edge"], head["stride"]
        self.backbone = backbone
        self.layers = (
            Layer("photo", backbone.in_channels, 1),
            *(layer for layer in backbone.layers if layer.name.startswith(("conv", "fc"))),
        )
        self.hold()
        channels = sum(layer.channels for layer in self.layers)
        self.hidden = nn.Conv1d(channels, head["channels"], 1)
        self.dropout = nn.Dropout(head["dropout"])
        self.score = nn.Conv1d(head["channels"], num_classes, 1)
        for name in ("hidden", "score"):
            initialize_new_(self.get_submodule(name), settings, seed, name)
        self.register_buffer("scales", torch.ones(len(self.layers)))
        self.scales: Tensor

    @torch.no_grad()
    def balance(self, photos: Shaped[Tensor, "n 3 h w"]) -> None:
        """Measure each layer's second moment on some photos."""
        moments = [maps.double().square().mean() for maps in self._maps(photos)]
        self.scales.copy_(torch.stack(moments).clamp(min=1e-12).rsqrt())

    def forward(self, photos: Shaped[Tensor, "n 3 h w"]) -> tuple[PointLogits | Float[Tensor, "n c h w"]]:
        """Return the logits of RGB photos with values 0..255, as an encoder's one map.

        Returns:
            In training, those of random pixels; in eval mode those of all.
        """
        maps, (height, width) = self._maps(photos), photos.shape[2:]
        if self.training:
            sides = torch.tensor((height, width), device=photos.device) - 2 * self.edge
            drawn = torch.rand(len(photos), self.points, 2, device=photos.device)
            points = self.edge + (drawn * sides).long()
            return (PointLogits(self._classify(maps, points), points),)
        rows, columns = (torch.arange(0, side, self.stride, device=photos.device) for side in (height, width))
        points = torch.cartesian_prod(rows, columns).view(-1, 2).expand(len(photos), -1, -1)
        parts = [self._classify(maps, part) for part in torch.split(points, AT_ONCE, dim=1)]
        logits = torch.cat(parts, 2).view(len(photos), -1, len(rows), len(columns))
        down, across = (torch.arange(side, device=photos.device) for side in (height, width))
        return (sample_grid(logits, Layer("logits", 1, self.stride), down, across),)

    def _maps(self, photos: Shaped[Tensor, "n 3 h w"]) -> Sequence[Tensor]:
        with mixed_precision(photos.device, self.mixed_precision):
            inputs = self.backbone.prepare(photos)
            features = self.backbone.extract(inputs, [layer.name for layer in self.layers[1:]])
        return [inputs, *(maps.float() for maps in features.values())]

    def _classify(self, maps: Sequence[Tensor], points: Tensor) -> Float[Tensor, "n c p"]:
        column = torch.cat(list(self._column(maps, points)), 1)
        logits: Tensor = self.score(self.dropout(F.relu(self.hidden(column))))
        return logits

    def _column(self, maps: Sequence[Tensor], points: Tensor) -> Iterator[Tensor]:
        for scale, layer, each in zip(self.scales, self.layers, maps, strict=True):
            yield scale * sample(each, layer, *points.unbind(2)).squeeze(3)
