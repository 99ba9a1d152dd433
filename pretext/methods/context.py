"""Context as a pretext task: "Unsupervised Visual Representation Learning by Context Prediction" (Doersch et al.).

Carl Doersch, Abhinav Gupta, Alexei Efros, ICCV 2015. Given two neighbouring patches of a photo, the network says in
which direction the second lies from the first.
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Int, Shaped, UInt8
from torch import Tensor
from torch.nn import functional as F

from pretext.backbones.base import Backbone
from pretext.checks import check_at_least, check_choice
from pretext.errors import InputError
from pretext.methods.base import Method, Scalars
from pretext.methods.parts.heads import MapHead, accuracy
from pretext.methods.parts.patches import cut, drop_colors, jittered_grid, project_colors

#: Ways to hide chromatic aberration.
COLOR_RULES: dict[str, Callable[[Tensor], Tensor]] = {
    "drop": drop_colors,
    "projection": project_colors,
    "keep": lambda patches: patches,
}
#: By label, how many cells down and right of the first patch the second lies.
DIRECTIONS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
#: By label, how many cells later the second patch comes in a grid of three by three, row by row.
STEPS = torch.tensor([3 * down + right for down, right in DIRECTIONS])
#: By label, the cells that have a neighbour in that direction.
STARTS = [
    [3 * row + column for row in range(3) for column in range(3) if {row + down, column + right} <= {0, 1, 2}]
    for down, right in DIRECTIONS
]
#: Least side of a patch in pixels.
MIN_PATCH = 8


class Context(Method):
    """Predicts in which of eight directions one patch of a photo lies from another.

    The patches form a grid of three by three, with gaps between them and each shifted at random, so that neither
    continued lines nor exact distances help. For each direction one pair is drawn from the grid, so that the second
    patch's place in the photo does not tell its direction from the first. Both patches of a pair go through the same
    backbone, whose maps are pooled, concatenated and classified. The grid is as large as the photo allows: patches of
    30 pixels in photos of 128.

    Args:
        backbone: The network to pretrain. Without batch norm all patches soon look alike to it (section 3).
        layer: The backbone's layer under the head.
        gap: Gap between two patches of the grid, as a share of a patch's side; 48 / 96 in the paper.
        jitter: Most that each patch is shifted in each direction, as a share of its side; 7 / 96 in the paper.
        color: How to hide chromatic aberration: ``drop`` (two of three channels), ``projection`` (green and magenta
            become gray), or ``keep`` (not at all, for a backbone that sees no colours).
        head_size: Side, in positions, that each map is pooled to.
        head_hidden: Length of the hidden layer.

    Raises:
        InputError: An argument has a value that is not allowed.

    Differences from the paper: patches of 23 to 30 pixels instead of 96, whose resolution is not lowered at random and
    whose contrast is not normalised; a grid of three by three, which nearly fills the photo; eight pairs of each photo
    in a batch, one per direction; one hidden layer of 512 on the concatenated maps of conv5 instead of fc6 to fc9.
    """

    name = "context"
    whole_photos = False

    def __init__(
        self,
        backbone: Backbone,
        *,
        layer: str = "conv5",
        gap: float = 0.5,
        jitter: float = 0.07,
        color: str = "drop",
        head_size: int = 3,
        head_hidden: int = 512,
    ):
        super().__init__(backbone)
        check_at_least("gap", gap, 0.0)
        check_at_least("jitter", jitter, 0.0)
        check_choice("color", color, COLOR_RULES)
        self.layer = backbone.layer(layer)
        self.gap, self.jitter = gap, jitter
        self.color = color
        self.head = MapHead(2 * self.layer.channels, len(DIRECTIONS), size=head_size, hidden=head_hidden)

    def forward(
        self, image: UInt8[Tensor, "n 3 h w"], index: Int[Tensor, " n"], mode: Literal["loss"] = "loss"
    ) -> Scalars:
        """Return the cross-entropy over the eight directions, and the accuracy."""
        patches = neighborhoods(image, gap=self.gap, jitter=self.jitter)
        shown = COLOR_RULES[self.color](patches.flatten(0, 1))
        maps = torch.unflatten(self.backbone.features(shown, self.layer.name), 0, patches.shape[:2])
        number, first = torch.arange(len(image))[:, None], draw_cells(len(image))
        pairs = torch.cat([maps[number, first], maps[number, first + STEPS]], 2).flatten(0, 1)
        labels = torch.arange(len(DIRECTIONS), device=image.device).repeat(len(image))
        logits = self.head(pairs).float()
        return Scalars(
            {"loss_context": F.cross_entropy(logits, labels)}, {"accuracy": accuracy(logits, labels)}
        )


def draw_cells(count: int) -> Int[Tensor, "n 8"]:
    """Draw the cell of the first patch for each label; that of the second comes `STEPS` later."""
    drawn = [torch.tensor(cells)[torch.randint(len(cells), (count,))] for cells in STARTS]
    return torch.stack(drawn, 1)


def neighborhoods(
    photos: Shaped[Tensor, "n 3 h w"], *, gap: float, jitter: float
) -> Shaped[Tensor, "n 9 3 size size"]:
    """Cut the nine patches of the largest grid that fits, row by row, at a random place of the photo.

    Args:
        photos: Photos of any dtype.
        gap: Gap between two patches, as a share of their side.
        jitter: Most that a patch is shifted in each direction, as a share of its side.

    Raises:
        InputError: The patches would be smaller than 8 x 8 pixels.
    """
    height, width = photos.shape[2:]
    size = int(min(height, width) / (3 + 2 * gap + 2 * jitter))
    between, shift = int(gap * size), int(jitter * size)
    if size < MIN_PATCH:
        raise InputError(
            f"photos are too small for three by three patches with gap={gap} and jitter={jitter}",
            received=f"{height}x{width} pixels, which leave patches of {size}",
            allowed=f"patches need at least {MIN_PATCH} pixels",
        )
    top, left = jittered_grid(len(photos), grid=3, pitch=size + between, jitter=2 * shift)
    reach = 3 * size + 2 * between + 2 * shift
    top = top + torch.randint(height - reach + 1, (len(photos), 1))
    left = left + torch.randint(width - reach + 1, (len(photos), 1))
    return cut(photos, top, left, size)
