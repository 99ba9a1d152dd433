"""Tracking as a pretext task: "Unsupervised Learning of Visual Representations using Videos" (Wang, Gupta, ICCV 2015).

Two patches that a tracker says show the same object must be nearer to each other than to a patch of another track.
"""

from collections.abc import Iterable
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor
from torch.nn import functional as F

from pretext.backbones.base import Backbone
from pretext.checks import check_at_least
from pretext.data.pairs.pair_list import halves
from pretext.errors import InputError
from pretext.methods.base import Method
from pretext.methods.parts.heads import MapHead
from pretext.methods.parts.patches import cut, drop_colors


class Tracking(Method):
    """Ranks the patches of tracks: the same track's later patch before those of other tracks.

    Of each track of a batch the first patch is the query, the last one is to be near it, and the last ones of other
    tracks are to be farther by a margin, in cosine distance. The others are drawn at random during the first epochs,
    and are then those that break the ranking most.

    Args:
        backbone: What is pretrained.
        layer: The backbone's layer that the head stands on.
        margin: By how much the patch of another track must be farther (equation 2).
        negatives: Patches of other tracks for each query; the paper's K.
        random_epochs: Epochs during which they are drawn at random. Where hard ones begin too early, all vectors become
            alike: the distances go to zero, and the loss stays at the margin.
        num_features: Length of the vectors that are compared.
        flip: Whether to mirror both patches of every other track, at random.
        window: For photos without tracks: the side, as a share of the photo's shorter one and at most 0.5, of two
            patches that do not overlap at random places of each photo, which stand in for a track; two channels of
            each are dropped, or their colours alone would tell. None for tracks.
        head_size: Positions a side that the backbone's map is pooled to.
        head_hidden: Length of the hidden layer.

    Raises:
        InputError: A number is out of range; a batch does not have two tracks.

    Differences from the paper: patches of 128 pixels in place of 227 in the config; one hidden layer of 512 with
    batch norm in place of fc6; a track of the same video counts as another one, as in the paper, even if it shows the
    same object. Other tracks are those of the same process alone. Windows of photos are no tracks of the paper.
    """

    name = "tracking"
    least_batch = 2
    epoch: Tensor

    def __init__(
        self,
        backbone: Backbone,
        *,
        layer: str = "conv5",
        margin: float = 0.5,
        negatives: int = 4,
        random_epochs: int = 10,
        num_features: int = 1024,
        flip: bool = True,
        window: float | None = None,
        head_size: int = 3,
        head_hidden: int = 512,
    ):
        super().__init__(backbone)
        check_at_least("margin", margin, 0.0)
        check_at_least("negatives", negatives, 1)
        check_at_least("random_epochs", random_epochs, 0)
        check_at_least("num_features", num_features, 1)
        if window is not None and not 0 < window <= 0.5:
            raise InputError(
                f"windows must not overlap: received window={window}, allowed are above 0 to 0.5, or None"
            )
        self.layer = backbone.layer(layer)
        self.window, self.whole_photos = window, window is None
        self.margin, self.negatives, self.random_epochs = margin, negatives, random_epochs
        self.flip = flip
        self.takes = ("tracks",) if window is None else ("photos",)
        self.register_buffer("epoch", torch.tensor(0))
        self.head = MapHead(self.layer.channels, num_features, size=head_size, hidden=head_hidden)

    def begin_epoch(self, epoch: int, batches: Iterable[dict[str, Tensor]]) -> None:
        """Remember which epoch it is."""
        self.epoch.fill_(epoch)

    def forward(
        self, image: UInt8[Tensor, "n 3 h w"], index: Int[Tensor, " n"], mode: Literal["loss"] = "loss"
    ) -> dict[str, Tensor]:
        """The ranking loss, the mean cosine distances, and how often the own track is nearer than the others."""
        first, last = self.patches(image)
        if self.flip:
            mirrored = (torch.rand(len(image)) < 0.5).to(image.device).view(-1, 1, 1, 1)
            first, last = (torch.where(mirrored, patch.flip(3), patch) for patch in (first, last))
        maps = self.backbone(torch.cat([first, last]), [self.layer.name])[self.layer.name]
        query, later = F.normalize(self.head(maps).float()).chunk(2)
        # A matrix product would fall to bfloat16 under autocast.
        with torch.autocast(image.device.type, enabled=False):
            distance = 1 - query @ later.T
        # The same track is twice in a batch where it stands in for an unreadable one.
        other = index[:, None] != index[None, :]
        if not other.any(1).all():
            raise InputError(
                f"tracking ranks tracks: received a batch of {len(image)} in which one has no other, allowed are 2 and"
                " above"
            )
        own = distance.diagonal()
        hard = int(self.epoch) >= self.random_epochs
        chosen = hard_negatives(distance, other) if hard else random_negatives(other)
        loss, others = ranking_loss(own, distance, chosen[:, : self.negatives], other, self.margin)
        return {
            "loss_ranking": loss,
            "distance_same": own.detach().mean(),
            "distance_other": others.detach().mean(),
            "accuracy": (own.detach().unsqueeze(1) < distance.detach())[other].float().mean(),
        }

    def patches(
        self, image: UInt8[Tensor, "n 3 h w"]
    ) -> tuple[Shaped[Tensor, "n 3 size size"], Shaped[Tensor, "n 3 size size"]]:
        """First and last patch of each track, or two windows of each photo."""
        if self.window is None:
            return halves(image)
        first, last = (drop_colors(patch) for patch in disjoint_windows(image, self.window))
        return first, last


def disjoint_windows(
    photos: Shaped[Tensor, "n 3 h w"], share: float
) -> tuple[Shaped[Tensor, "n 3 size size"], Shaped[Tensor, "n 3 size size"]]:
    """Two square windows at random places of each photo, one beside or below the other.

    Args:
        photos: Of any type.
        share: Side of the windows as a share of the photo's shorter side, up to 0.5.
    """
    count, size = len(photos), max(1, int(share * min(photos.shape[2:])))
    apart, anywhere = [], []
    for side in photos.shape[2:]:
        draws = torch.randint(side - 2 * size + 1, (count, 2)).sort(1).values
        apart.append(draws + torch.tensor([0, size]))
        anywhere.append(torch.randint(side - size + 1, (count, 2)))
    below = torch.rand(count, 1) < 0.5
    top, left = torch.where(below, apart[0], anywhere[0]), torch.where(below, anywhere[1], apart[1])
    first, last = cut(photos, top, left, size).unbind(1)
    return first, last


def random_negatives(other: Bool[Tensor, "n n"]) -> Int[Tensor, "n n"]:
    """All patches in a random order for each query, those of other tracks first.

    Args:
        other: Whether query i and patch j are of different tracks.
    """
    draws = torch.rand(other.shape).to(other.device)
    return torch.where(other, draws, 2.0).argsort(1)


def hard_negatives(distance: Float[Tensor, "n n"], other: Bool[Tensor, "n n"]) -> Int[Tensor, "n n"]:
    """All patches from the nearest to the farthest of each query, those of other tracks first.

    The nearest are those with the greatest loss.
    """
    return torch.where(other, distance.detach(), torch.inf).argsort(1)


def ranking_loss(
    own: Float[Tensor, " n"],
    distance: Float[Tensor, "n n"],
    chosen: Int[Tensor, "n k"],
    other: Bool[Tensor, "n n"],
    margin: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, " m"]]:
    """Wang and Gupta's equation 2, the mean over all triplets: max(0, D(query, own) - D(query, other) + margin).

    Args:
        own: Distance of each query to its own track's later patch.
        distance: Of every query to every later patch.
        chosen: Numbers of the patches that each query is compared with; those of the same track are left out.
        other: Whether query and patch are of different tracks.
        margin: In cosine distance, 0..2.

    Returns:
        The loss, and the distances to the other tracks' patches of all triplets.
    """
    counted = other.gather(1, chosen)
    others = distance.gather(1, chosen)
    losses = (own.unsqueeze(1) - others + margin).clamp_min(0)
    return losses[counted].mean(), others[counted]
