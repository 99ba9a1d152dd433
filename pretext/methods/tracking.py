"""Tracking as a pretext task: "Unsupervised Learning of Visual Representations using Videos" (Wang, Gupta, ICCV 2015).

Two patches of the same track, which show the same object, must be nearer to each other than to one of another track.
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
from pretext.methods.base import Method, Scalars
from pretext.methods.parts.heads import MapHead
from pretext.methods.parts.patches import cut, drop_colors


class Tracking(Method):
    """Ranks the patches of tracks: the same track's later patch comes before those of other tracks.

    The first patch of each track is the query. In cosine distance, its last patch must be near the query, and the last
    patches of other tracks in the batch must be farther by a margin. The other tracks are drawn at random during the
    first epochs; later they are those that violate the ranking most.

    Args:
        backbone: The network to pretrain.
        layer: The backbone's layer under the head.
        margin: How much farther the patch of another track must be (equation 2).
        negatives: Patches of other tracks for each query; the paper's K.
        random_epochs: Epochs during which they are drawn at random. If hard ones begin too early, all vectors become
            alike: the distances go to zero, and the loss stays at the margin.
        num_features: Length of the vectors that are compared.
        flip: Whether to mirror both patches of every other track, at random.
        window: For photos without tracks: two patches of each photo, at random places where they do not overlap, stand
            in for a track; this is their side as a share of the photo's shorter side, at most 0.5. Two channels of each
            patch are dropped, because colours alone would tell. None for tracks.
        head_size: Side, in positions, that the backbone's map is pooled to.
        head_hidden: Length of the hidden layer.

    Raises:
        InputError: A number is out of range; a batch does not have two tracks.

    Differences from the paper: patches of 128 pixels instead of 227 in the config; one hidden layer of 512 with batch
    norm instead of fc6; another track of the same video counts as a different object, as in the paper, even if it shows
    the same one. Tracks are compared only with those of the same process. The paper has no windows of photos.
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
                "window must leave room for two windows that do not overlap",
                received=window,
                allowed="allowed are numbers above 0 to 0.5, or None",
            )
        self.layer = backbone.layer(layer)
        self.window, self.whole_photos = window, window is None
        self.margin, self.negatives, self.random_epochs = margin, negatives, random_epochs
        self.flip = flip
        self.takes = ("tracks",) if window is None else ("photos",)
        self.register_buffer("epoch", torch.tensor(0))
        self.head = MapHead(self.layer.channels, num_features, size=head_size, hidden=head_hidden)

    def begin_epoch(self, epoch: int, batches: Iterable[dict[str, Tensor]]) -> None:
        """Remember the number of the epoch."""
        self.epoch.fill_(epoch)

    def forward(
        self, image: UInt8[Tensor, "n 3 h w"], index: Int[Tensor, " n"], mode: Literal["loss"] = "loss"
    ) -> Scalars:
        """Return the ranking loss, the mean cosine distances, and how often the own track is nearer than others."""
        first, last = self.patches(image)
        if self.flip:
            mirrored = (torch.rand(len(image)) < 0.5).to(image.device).view(-1, 1, 1, 1)
            first, last = (torch.where(mirrored, patch.flip(3), patch) for patch in (first, last))
        maps = self.backbone.features(torch.cat([first, last]), self.layer.name)
        query, later = F.normalize(self.head(maps).float()).chunk(2)
        # Autocast would compute the matrix product in bfloat16.
        with torch.autocast(image.device.type, enabled=False):
            distance = 1 - query @ later.T
        # A track that stands in for an unreadable one is in the batch twice.
        other = index[:, None] != index[None, :]
        if not other.any(1).all():
            raise InputError(
                "tracking compares tracks, and a track has no other in its batch",
                received=f"a batch of {len(image)}",
                allowed="batches need 2 different tracks or more",
            )
        own = distance.diagonal()
        hard = int(self.epoch) >= self.random_epochs
        chosen = hard_negatives(distance, other) if hard else random_negatives(other)
        loss, others = ranking_loss(own, distance, chosen[:, : self.negatives], other, self.margin)
        return Scalars(
            {"loss_ranking": loss},
            {
                "distance_same": own.detach().mean(),
                "distance_other": others.detach().mean(),
                "accuracy": (own.detach().unsqueeze(1) < distance.detach())[other].float().mean(),
            },
        )

    def patches(
        self, image: UInt8[Tensor, "n 3 h w"]
    ) -> tuple[Shaped[Tensor, "n 3 size size"], Shaped[Tensor, "n 3 size size"]]:
        """Return the first and the last patch of each track, or two windows of each photo."""
        if self.window is None:
            return halves(image)
        first, last = (drop_colors(patch) for patch in disjoint_windows(image, self.window))
        return first, last


def disjoint_windows(
    photos: Shaped[Tensor, "n 3 h w"], share: float
) -> tuple[Shaped[Tensor, "n 3 size size"], Shaped[Tensor, "n 3 size size"]]:
    """Cut two square windows at random places of each photo, one beside or below the other.

    Args:
        photos: Photos of any dtype.
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
    """Return all patches in a random order for each query, those of other tracks first.

    Args:
        other: Whether query i and patch j are of different tracks.
    """
    draws = torch.rand(other.shape).to(other.device)
    return torch.where(other, draws, 2.0).argsort(1)


def hard_negatives(distance: Float[Tensor, "n n"], other: Bool[Tensor, "n n"]) -> Int[Tensor, "n n"]:
    """Return all patches from the nearest to the farthest for each query, those of other tracks first.

    The nearest have the greatest loss.
    """
    return torch.where(other, distance.detach(), torch.inf).argsort(1)


def ranking_loss(
    own: Float[Tensor, " n"],
    distance: Float[Tensor, "n n"],
    chosen: Int[Tensor, "n k"],
    other: Bool[Tensor, "n n"],
    margin: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, " m"]]:
    """Average Wang and Gupta's equation 2 over all triplets: max(0, D(query, own) - D(query, other) + margin).

    Args:
        own: Distance of each query to its own track's later patch.
        distance: Distance of every query to every later patch.
        chosen: Numbers of the patches that each query is compared with; those of the same track are left out.
        other: Whether query and patch are of different tracks.
        margin: Margin in cosine distance, 0..2.

    Returns:
        The loss, and the distances to the other tracks' patches of all triplets.
    """
    counted = other.gather(1, chosen)
    others = distance.gather(1, chosen)
    losses = (own.unsqueeze(1) - others + margin).clamp_min(0)
    return losses[counted].mean(), others[counted]
