"""Jigsaw puzzles as a pretext task: "Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles".

Mehdi Noroozi, Paolo Favaro, ECCV 2016. Nine tiles of a photo are shuffled by one of a set of permutations, and the
network says by which one.
"""

from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Int, Shaped, UInt8
from torch import Tensor
from torch.nn import functional as F

from pretext.backbones.base import Backbone
from pretext.checks import check_at_least, check_share
from pretext.errors import InputError
from pretext.methods.base import Method, Scalars
from pretext.methods.parts.heads import MapHead, accuracy, perceptron
from pretext.methods.parts.patches import gray_at_random, normalize_each, tiles_of_cells
from pretext.methods.parts.permutations import PermutationSet, distant_permutations

#: Tiles per side of a photo.
GRID = 3


class Jigsaw(Method):
    """Predicts by which of a set of permutations the nine tiles of a photo were shuffled.

    A tile lies at a random place inside its cell of a three by three grid and is normalised by itself, so that neither
    continued lines nor brightness reveal its neighbours. The tiles go through the same backbone one by one; their
    features are concatenated in the shuffled order and classified.

    Args:
        backbone: The network to pretrain.
        layer: The backbone's layer under the heads.
        permutations: Number of permutations, chosen far from each other; or the path of a file made by
            ``python -m pretext permutations``.
        tile: Side of a tile as a share of its cell's; 64 / 75 in the paper.
        channel_shift: Most pixels that each colour channel of a tile is shifted, to hide chromatic aberration; 2 in the
            paper, whose photos are twice as large.
        gray: Share of the photos that are shown in gray, also to hide chromatic aberration.
        head_size: Side, in positions, that each tile's map is pooled to.
        tile_features: Length of a tile's features.
        head_hidden: Length of the hidden layer.

    Raises:
        InputError: An argument is out of range, or the file is not a whole set of permutations of nine tiles.

    Differences from the paper: tiles of 27 to 36 pixels instead of 64; conv1 keeps its stride of 4, in the paper 2 for
    pretraining; 64 permutations instead of 1,000; the hidden layer has a length of 512 instead of fc7's 4,096.
    """

    name = "jigsaw"
    least_batch = 2
    whole_photos = False
    table: Tensor

    def __init__(
        self,
        backbone: Backbone,
        *,
        layer: str = "conv5",
        permutations: int | str = 64,
        tile: float = 0.85,
        channel_shift: int = 1,
        gray: float = 0.3,
        head_size: int = 3,
        tile_features: int = 512,
        head_hidden: int = 512,
    ):
        super().__init__(backbone)
        check_share("tile", tile, above_zero=True)
        check_share("gray", gray)
        check_at_least("channel_shift", channel_shift, 0)
        check_at_least("tile_features", tile_features, 1)
        self.layer = backbone.layer(layer)
        self.tile, self.channel_shift, self.gray = tile, channel_shift, gray
        chosen = _permutations(permutations)
        self.register_buffer("table", torch.tensor(chosen.permutations))
        self.tile_head = MapHead(self.layer.channels, tile_features, size=head_size, hidden=0)
        self.head = perceptron(GRID * GRID * tile_features, len(self.table), hidden=head_hidden)

    def forward(
        self, image: UInt8[Tensor, "n 3 h w"], index: Int[Tensor, " n"], mode: Literal["loss"] = "loss"
    ) -> Scalars:
        """Return the cross-entropy over the permutations, one drawn for each photo, and the accuracy."""
        tiles = tiles_of_cells(image, grid=GRID, share=self.tile, channel_shift=self.channel_shift)
        tiles = gray_at_random(tiles, self.gray)
        labels = torch.randint(len(self.table), (len(image),)).to(image.device)
        puzzle = shuffled(tiles, self.table[labels])
        maps = self.backbone.features(normalize_each(puzzle.flatten(0, 1)), self.layer.name)
        features = F.relu(self.tile_head(maps)).view(len(image), -1)
        logits = self.head(features).float()
        return Scalars(
            {"loss_jigsaw": F.cross_entropy(logits, labels)}, {"accuracy": accuracy(logits, labels)}
        )


def shuffled(
    tiles: Shaped[Tensor, "n k 3 size size"], permutations: Int[Tensor, "n k"]
) -> Shaped[Tensor, "n k 3 size size"]:
    """Reorder the tiles of each photo: place i shows tile ``permutations[:, i]``."""
    return tiles[torch.arange(len(tiles), device=tiles.device)[:, None], permutations]


def _permutations(given: int | str) -> PermutationSet:
    if not isinstance(given, (int, str)):
        raise InputError(
            "permutations has a wrong type",
            received=repr(given),
            allowed="give a number, such as 64, or the path of a file",
        )
    # A number on the command line arrives as text if the config names a file.
    if isinstance(given, int) or given.isdecimal():
        return distant_permutations(int(given))
    chosen = PermutationSet.load(Path(given))
    if len(chosen.permutations[0]) != GRID * GRID:
        raise InputError(
            f"the permutations of {given} have the wrong number of tiles",
            received=len(chosen.permutations[0]),
            allowed=(GRID * GRID,),
        )
    return chosen
