"""Where a detector looks: anchors at conv5's positions, and features of regions between them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator

from pretext.backbones.base import Layer


class StridedAnchors(AnchorGenerator):  # type: ignore[misc]  # torchvision is not typed
    """Anchors where the positions of a layer are centred.

    torchvision divides the photo's side by the map's, which makes 14 of 16 where padding adds a position.

    Args:
        sizes: Square roots of the anchors' areas, in pixels.
        aspect_ratios: Height over width.
        layer: Where its positions are centred.
    """

    def __init__(self, sizes: Sequence[int], aspect_ratios: Sequence[float], layer: Layer):
        super().__init__((tuple(sizes),), (tuple(aspect_ratios),))
        self.layer = layer

    def forward(self, image_list: Any, feature_maps: list[Tensor]) -> list[Float[Tensor, "a 4"]]:
        """Anchors x1, y1, x2, y2 in pixels of the padded batch, the same for each photo."""
        (features,) = feature_maps
        self.set_cell_anchors(features.dtype, features.device)
        stride = torch.tensor(self.layer.stride, device=features.device)
        anchors = torch.cat(self.grid_anchors([features.shape[-2:]], [[stride, stride]])) + self.layer.offset
        return [anchors] * len(image_list.image_sizes)


class RegionAlign(nn.Module):
    """RoIAlign (He et al., "Mask R-CNN", ICCV 2017, section 3) as one matrix product a photo.

    Equal to ``torchvision.ops.roi_align(..., aligned=False)`` where the layer's offset is 0. torchvision's
    backward pass adds up in a single thread on a CPU, where it takes half of the training step, and in any order
    on a GPU; this one costs little and is the same every time.

    Args:
        size: Bins along each side of a region.
        layer: Where the map's positions are centred.
        samples: Points along each side of a bin, whose bilinear interpolations are averaged.
    """

    def __init__(self, size: int, layer: Layer, samples: int = 2):
        super().__init__()
        self.size, self.layer, self.samples = size, layer, samples

    def forward(
        self, features: Mapping[str, Float[Tensor, "n c h w"]], regions: Sequence[Tensor], shapes: Any
    ) -> Float[Tensor, "r c k k"]:
        """Features of the regions of all photos.

        Args:
            features: The one map, under any name.
            regions: For each photo (R, 4) x1, y1, x2, y2 in pixels.
            shapes: Sizes of the photos, which torchvision's own pooling needs; not used.

        Returns:
            (sum of R, C, size, size).
        """
        (maps,) = features.values()
        pooled = []
        for values, boxes in zip(maps, regions, strict=True):
            x1, y1, x2, y2 = ((boxes - self.layer.offset) / self.layer.stride).unbind(1)
            across, down = self._weights(x1, x2, maps.shape[3]), self._weights(y1, y2, maps.shape[2])
            # (R, k, 1, H, 1) * (R, 1, k, 1, W): each bin's weight at each position.
            weights = (down[:, :, None, :, None] * across[:, None, :, None, :]).flatten(3).flatten(0, 2)
            bins = weights @ values.flatten(1).T  # (R * k * k, C)
            pooled.append(bins.view(len(boxes), self.size, self.size, len(values)).permute(0, 3, 1, 2))
        return torch.cat(pooled)

    def _weights(
        self, start: Float[Tensor, " r"], end: Float[Tensor, " r"], length: int
    ) -> Float[Tensor, "r k length"]:
        """Weight of each position along one axis in each bin."""
        count = self.size * self.samples
        steps = (torch.arange(count, device=start.device, dtype=start.dtype) + 0.5) / count
        # As in torchvision, a region is at least one position wide.
        points = start[:, None] + steps * (end - start).clamp(min=1)[:, None]
        inside = (points >= -1) & (points <= length)
        positions = torch.arange(length, device=start.device)
        distance = (points.clamp(0, length - 1)[:, :, None] - positions).abs()
        weights = (1 - distance).clamp(min=0) * inside[:, :, None]
        return weights.view(-1, self.size, self.samples, length).mean(2)
