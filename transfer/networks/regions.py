"""Where a detector looks: anchors at conv5's positions, given proposals, and the features of regions."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import RoIPool

from pretext.backbones.base import Layer


class StridedAnchors(AnchorGenerator):  # type: ignore[misc]  # torchvision is not typed
    """Anchors at the centres of a layer's positions.

    torchvision divides the photo's side by the map's, and gets a stride of 14 instead of 16 where padding adds a
    position.

    Args:
        sizes: Square roots of the anchors' areas, in pixels.
        aspect_ratios: Height over width.
        layer: Gives the stride and offset of the positions.
    """

    def __init__(self, sizes: Sequence[int], aspect_ratios: Sequence[float], layer: Layer):
        super().__init__((tuple(sizes),), (tuple(aspect_ratios),))
        self.layer = layer

    def forward(self, image_list: Any, feature_maps: list[Tensor]) -> list[Float[Tensor, "a 4"]]:
        """Return anchors x1, y1, x2, y2 in pixels of the padded batch, the same for each photo."""
        (features,) = feature_maps
        self.set_cell_anchors(features.dtype, features.device)
        stride = torch.tensor(self.layer.stride, device=features.device)
        anchors = torch.cat(self.grid_anchors([features.shape[-2:]], [[stride, stride]])) + self.layer.offset
        return [anchors] * len(image_list.image_sizes)


class GivenProposals(nn.Module):
    """The proposals that come with a photo, in place of a region proposal network."""

    def forward(
        self, images: Any, features: Any, targets: Sequence[Mapping[str, Tensor]]
    ) -> tuple[list[Float[Tensor, "r 4"]], dict[str, Tensor]]:
        """Return the proposals (R, 4) of each photo in the pixels it was resized to, and no loss.

        Args:
            images: torchvision's ImageList.
            features: Not used.
            targets: For each photo ``proposals`` (R, 4) in its own pixels, and ``size`` (2,), its height and width.
        """
        proposals = []
        for target, size in zip(targets, images.image_sizes, strict=True):
            scale = torch.tensor(size, device=target["size"].device) / target["size"]
            proposals.append(target["proposals"] * scale[[1, 0, 1, 0]])
        return proposals, {}


class FlooredMatcher(Matcher):  # type: ignore[misc]  # torchvision is not typed
    """A matcher of proposals and objects that ignores proposals with too little overlap.

    Fast R-CNN (Girshick, ICCV 2015, section 2.3) takes its background from proposals that overlap an object by 0.1 to
    0.5, which finds hard examples.

    Args:
        threshold: Smallest IoU of a proposal that gets its object's class.
        floor: Smallest IoU of a proposal that counts as background.
    """

    def __init__(self, threshold: float, floor: float):
        super().__init__(threshold, threshold, allow_low_quality_matches=False)
        self.floor = floor

    def __call__(self, overlaps: Float[Tensor, "g r"]) -> Int[Tensor, " r"]:
        """Return each proposal's object by index, or a number below zero: background, or neither."""
        matches: Tensor = super().__call__(overlaps)
        matches[overlaps.max(dim=0).values < self.floor] = self.BETWEEN_THRESHOLDS
        return matches


class ScaleAugmentation(GeneralizedRCNNTransform):  # type: ignore[misc]  # torchvision is not typed
    """Resizes photos: the shorter side to one of several lengths at random in training, to a fixed length at test.

    Args:
        sizes: Lengths of the shorter side in training, in pixels.
        max_size: Largest length of the longer side in training.
        test_size: Length of the shorter side at test.
        test_max_size: Largest length of the longer side at test.
    """

    def __init__(self, sizes: Sequence[int], max_size: int, test_size: int, test_max_size: int):
        # The backbone normalises photos itself.
        super().__init__(tuple(sizes), max_size, [0.0, 0.0, 0.0], [1.0, 1.0, 1.0])
        self.sizes = {True: (tuple(sizes), max_size), False: ((test_size,), test_max_size)}

    def resize(self, image: Tensor, target: Any = None) -> Any:
        """Resize one photo and its boxes."""
        self.min_size, self.max_size = self.sizes[self.training]
        return super().resize(image, target)


class RegionMaxPool(nn.Module):
    """RoI max pooling (Girshick, "Fast R-CNN", ICCV 2015, section 2.1), whose bins are rounded to whole positions.

    Args:
        size: Bins along each side of a region.
        layer: Gives the stride of the map's positions; as in Caffe, the offset is ignored.
    """

    def __init__(self, size: int, layer: Layer):
        super().__init__()
        self.pool = RoIPool(size, 1 / layer.stride)

    def forward(
        self, features: Mapping[str, Float[Tensor, "n c h w"]], regions: Sequence[Tensor], shapes: Any
    ) -> Float[Tensor, "r c k k"]:
        """Return the features of the regions of all photos; see `RegionAlign.forward`."""
        (maps,) = features.values()
        pooled: Tensor = self.pool(maps, list(regions))
        return pooled


class RegionAlign(nn.Module):
    """RoIAlign (He et al., "Mask R-CNN", ICCV 2017, section 3) as one matrix product per photo.

    Equal to ``torchvision.ops.roi_align(..., aligned=False)`` where the layer's offset is 0. torchvision's backward
    pass runs in a single thread on a CPU, where it takes half of the training step, and sums in any order on a GPU;
    this one costs little and is deterministic.

    Args:
        size: Bins along each side of a region.
        layer: Gives the stride and offset of the map's positions.
        samples: Points along each side of a bin whose bilinear interpolations are averaged.
    """

    def __init__(self, size: int, layer: Layer, samples: int = 2):
        super().__init__()
        self.size, self.layer, self.samples = size, layer, samples

    def forward(
        self, features: Mapping[str, Float[Tensor, "n c h w"]], regions: Sequence[Tensor], shapes: Any
    ) -> Float[Tensor, "r c k k"]:
        """Return the features of the regions of all photos.

        Args:
            features: One map (N, C, H, W), under any name.
            regions: For each photo (R, 4) x1, y1, x2, y2 in pixels.
            shapes: Not used: sizes of the photos, which torchvision's own pooling needs.

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
        """Return the weight of each position along one axis in each bin."""
        count = self.size * self.samples
        steps = (torch.arange(count, device=start.device, dtype=start.dtype) + 0.5) / count
        # As in torchvision, a region is at least one position wide.
        points = start[:, None] + steps * (end - start).clamp(min=1)[:, None]
        inside = (points >= -1) & (points <= length)
        positions = torch.arange(length, device=start.device)
        distance = (points.clamp(0, length - 1)[:, :, None] - positions).abs()
        weights = (1 - distance).clamp(min=0) * inside[:, :, None]
        return weights.view(-1, self.size, self.samples, length).mean(2)
