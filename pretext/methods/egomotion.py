"""Ego-motion as a pretext task: "Learning to See by Moving" (Pulkit Agrawal, Joao Carreira, Jitendra Malik, ICCV 2015).

Given two views, the network predicts how the camera moved between them: translation in x and y and rotation, each as a
class.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from pretext.backbones.base import Backbone
from pretext.checks import check_at_least
from pretext.data.pairs.frames import MOTION, FramePairs
from pretext.data.pairs.pair_list import halves
from pretext.data.photos import Photos
from pretext.errors import InputError
from pretext.methods.base import Method, Scalars
from pretext.methods.parts.heads import MapHead, accuracy


class Egomotion(Method):
    """Predicts the camera's motion between two views of a scene, as one class for each of dx, dy and rotation.

    The views are either two windows of one photo, which lie apart and are turned against each other by a motion drawn
    for each photo; or, where the photos are a list of pairs with known motion
    (:class:`pretext.data.pairs.frames.FramePairs`), the two frames of a pair. Both go through the same backbone, whose
    maps are concatenated for a classifier of each of the three.

    Args:
        backbone: The network to pretrain.
        layer: The backbone's layer under the heads.
        bins: Classes of each component: equally wide for windows, equally frequent for frames.
        window: For windows: their side as a share of the photo's shorter side.
        max_shift: For windows: greatest distance in x and in y, as a share of the photo's shorter side.
        max_rotation: For windows: greatest angle between them, in degrees.
        head_size: Side, in positions, that each map is pooled to; pooling to few loses where things are.
        head_hidden: Length of each classifier's hidden layer.

    Raises:
        InputError: A number is out of range; or windows could leave the photo.

    Differences from the paper: a photo's windows stand for the transformed digits with which the paper tests the idea;
    both are resampled, each by half of the motion, so that sharpness does not tell them apart; classes of frames are
    equally frequent, and their components are those of the list (in the paper's driving videos: sideways and forward
    translation and the turn); the maps are pooled, and one hidden layer per component replaces the two convolutions and
    the fully connected layer of its top network.
    """

    name = "egomotion"
    least_batch = 2
    takes = ("photos", "frames")
    edges: Tensor
    motions: Tensor

    def __init__(
        self,
        backbone: Backbone,
        *,
        layer: str = "conv5",
        bins: int = 20,
        window: float = 0.6,
        max_shift: float = 0.2,
        max_rotation: float = 30.0,
        head_size: int = 4,
        head_hidden: int = 256,
    ):
        super().__init__(backbone)
        check_at_least("bins", bins, 2)
        for name, value in (("max_shift", max_shift), ("max_rotation", max_rotation)):
            check_at_least(name, value, 0.0)
        reach = window * _spread(max_rotation / 2) + max_shift
        if not (window > 0 and max_rotation <= 90 and reach <= 1):
            raise InputError(
                f"window, max_shift and max_rotation need {reach:.2f} of the photo's shorter side",
                received=(window, max_shift, max_rotation),
                allowed="allowed are window above 0, max_rotation up to 90, and 1 in all",
            )
        self.layer = backbone.layer(layer)
        self.window, self.slack = window, 1 - reach
        limits = torch.tensor([[max_shift], [max_shift], [max_rotation]])
        # The classes of windows divide -limit to limit evenly; an edge lies between two classes.
        self.register_buffer("edges", limits * torch.linspace(-1, 1, bins + 1)[1:-1])
        self.register_buffer("limits", limits[:, 0], persistent=False)
        self.limits: Tensor
        # Filled by `setup` if the photos are pairs of frames.
        self.register_buffer("motions", torch.empty(0, len(MOTION)), persistent=False)
        self.heads = nn.ModuleDict(
            {
                name: MapHead(2 * self.layer.channels, bins, size=head_size, hidden=head_hidden)
                for name in MOTION
            }
        )

    def setup(self, photos: Photos, folder: Path) -> None:
        """Take the motions of a list of frame pairs, and cut each component into classes of equal frequency."""
        self.whole_photos = isinstance(photos, FramePairs)
        if isinstance(photos, FramePairs):
            bins = self.edges.shape[1] + 1
            inner = np.arange(1, bins) / bins
            self.edges = torch.from_numpy(np.quantile(photos.motions, inner, axis=0).T.copy()).float()
            self.motions = torch.from_numpy(photos.motions).float()

    def forward(
        self, image: UInt8[Tensor, "n 3 h w"], index: Int[Tensor, " n"], mode: Literal["loss"] = "loss"
    ) -> Scalars:
        """Return the cross-entropy and the accuracy of each component of the motion."""
        views: tuple[Tensor, Tensor]
        if len(self.motions):
            views, motion = halves(image), self.motions[index]
        else:
            motion = (torch.rand(len(image), len(MOTION)) * 2 - 1).to(image.device) * self.limits
            around = (torch.rand(len(image), 2) - 0.5).to(image.device) * self.slack
            views = windows(image, motion, around, self.window)
        labels = self.labels(motion)
        maps = self.backbone.features(torch.cat(views), self.layer.name)
        both = torch.cat(maps.chunk(2), 1)
        losses, accuracies = {}, {}
        for number, (name, head) in enumerate(self.heads.items()):
            logits = head(both).float()
            losses[f"loss_{name}"] = F.cross_entropy(logits, labels[:, number])
            accuracies[f"accuracy_{name}"] = accuracy(logits, labels[:, number])
        return Scalars(losses, accuracies)

    def labels(self, motion: Float[Tensor, "n 3"]) -> Int[Tensor, "n 3"]:
        """Return the class of each component: the number of its edges below the motion."""
        return (motion.unsqueeze(-1) > self.edges).sum(-1)


def windows(
    photos: UInt8[Tensor, "n 3 h w"], motion: Float[Tensor, "n 3"], around: Float[Tensor, "n 2"], side: float
) -> tuple[Float[Tensor, "n 3 size size"], Float[Tensor, "n 3 size size"]]:
    """Cut the two windows between which the camera moves; each is moved by half of the motion.

    Args:
        photos: RGB, 0..255.
        motion: How far the second window lies to the right of and below the first, as shares of the photo's shorter
            side, and by how many degrees it is turned clockwise (its content then seems turned counterclockwise).
        around: The middle between both, to the right of and below the photo's middle, as shares of the shorter side.
        side: Side of the windows, as a share of the shorter side.

    Returns:
        First and second window, bilinearly resampled, 0..255.
    """
    height, width = photos.shape[2:]
    shorter = min(height, width)
    size = round(side * shorter)
    # Positions of the window's pixels from its middle, and of its middle from the photo's, in pixels. Written out:
    # autocast would compute a product of matrices in bfloat16.
    step = torch.arange(size, device=photos.device) - (size - 1) / 2
    down, right = torch.meshgrid(step, step, indexing="ij")
    views = []
    for sign in (-0.5, 0.5):
        angle = torch.deg2rad(sign * motion[:, 2]).view(-1, 1, 1)
        middle = (around + sign * motion[:, :2]) * shorter
        x = angle.cos() * right - angle.sin() * down + middle[:, 0].view(-1, 1, 1)
        y = angle.sin() * right + angle.cos() * down + middle[:, 1].view(-1, 1, 1)
        grid = torch.stack([2 * x / width, 2 * y / height], -1)
        views.append(F.grid_sample(photos.float(), grid, align_corners=False, padding_mode="border"))
    return views[0], views[1]


def _spread(degrees: float) -> float:
    """Return the side of the upright square around a turned square of side 1."""
    angle = np.deg2rad(degrees)
    return float(np.cos(angle) + np.sin(angle))
