"""Colorization as a pretext task: "Colorful Image Colorization" (Zhang, Isola, Efros, ECCV 2016)."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from pretext.backbones.base import Backbone
from pretext.checks import check_at_least, check_choice
from pretext.color.lab import rgb_to_lab, rgb_to_lightness
from pretext.color.rebalance import gray_mask
from pretext.color.spaces import RebalancedAbBins
from pretext.colorize.colorizer import Colorizer
from pretext.colorize.heads import ColorHead, grid_over
from pretext.data.photos import Photos
from pretext.methods.base import Method, Scalars
from pretext.methods.parts.color_losses import ColorLoss, colors_beside
from pretext.methods.parts.colorful import check_colorful
from pretext.methods.parts.targets import at_targets, check_target_stride


class Colorization(Method):
    """Predicts the colours of a photo from its lightness.

    Zhang et al., section 2: the ab plane is cut into bins, each pixel's colour is softly encoded to its nearest bins
    (equation 2's target), and the loss is the cross-entropy, each pixel weighted by the rarity of its colour (equations
    2 to 4). ``loss="classification"`` leaves out the weights; ``loss="l2"`` is equation 1, and
    ``loss="l2_sigmoid"`` the regression of a study of CIFAR-10 (see :class:`pretext.color.spaces.SigmoidRegression`).
    The histograms of Larsson et al. (ECCV 2016) are losses, too: ``lab_marginals`` and ``lab_joint`` over a and b (see
    :mod:`pretext.color.marginals`), and ``hue_chroma`` (see :class:`pretext.color.hue_chroma.HueChroma`).

    Args:
        backbone: The network to pretrain; its input space must be ``lightness``.
        loss: ``rebalanced``, ``classification``, ``l2``, ``l2_sigmoid``, ``lab_marginals``, ``lab_joint`` or
            ``hue_chroma``.
        layer: The backbone's layer under the head.
        head_channels: Channels of a 3x3 convolution with batch norm and ReLU between backbone and classifier; 0 for the
            plain 1x1 classifier of the paper.
        target_stride: Pixels between two targets, in both directions.
        bins: Rule of the ab bins (see :func:`pretext.color.bins.ab_bins`), or ``from_data`` for those of the prior
            file. This and the next two are of ``rebalanced`` and ``classification`` alone.
        neighbors: Number of bins that a colour is encoded to: 5 in the paper, 10 in the released Caffe layer, 1 for
            one-hot.
        sigma: Width of the encoding's Gaussian in CIE units.
        rebalance_mix: The paper's lambda: the share of a uniform distribution that is mixed into the prior.
        prior: ``data`` (estimated from the training photos), ``imagenet`` (the published one, for the official bins),
            or the path of a prior file written by ``python -m pretext prior``.
        gray_threshold: A photo adds no loss if none of its target pixels has |a| or |b| above this.
        space: Further arguments of the output space, by name.

    Raises:
        InputError: An argument has a value that is not allowed.

    Differences from the paper: the weights multiply the loss, so that the logged loss is the weighted one (the Caffe
    layer only multiplies the gradient, which trains the same).
    """

    name = "colorization"

    def __init__(
        self,
        backbone: Backbone,
        *,
        loss: str = "rebalanced",
        layer: str = "conv5",
        head_channels: int = 0,
        target_stride: int = 8,
        bins: str = "official313",
        neighbors: int = 5,
        sigma: float = 5.0,
        rebalance_mix: float = 0.5,
        prior: str = "data",
        gray_threshold: float = 5.0,
        space: Mapping[str, Any] = MappingProxyType({}),
    ):
        super().__init__(backbone)
        check_choice("colorization input_space", backbone.input_space, ("lightness",))
        self.color_loss = ColorLoss(
            self.name,
            loss,
            bins=bins,
            neighbors=neighbors,
            sigma=sigma,
            rebalance_mix=rebalance_mix,
            prior=prior,
            space=space,
        )
        check_at_least("head_channels", head_channels, 0)
        self.layer = backbone.layer(layer)
        check_target_stride(self.layer, target_stride)
        self.target_stride = target_stride
        self.gray_threshold = gray_threshold
        self.space = self.color_loss.space
        self.head = ColorHead(self.layer.channels, self.space.channels, head_channels)
        self.register_load_state_dict_pre_hook(_move_bin_weights)

    def setup(self, photos: Photos, folder: Path) -> None:
        """Find the colour prior if the loss needs one; keep an estimated one as ``prior.json``.

        Raises:
            InputError: No photo has colour, or the prior has other bins.
        """
        check_colorful(self.name, photos, self.gray_threshold)
        self.color_loss.balance(photos, folder)

    def colorizer(self) -> Colorizer:
        """Return what colours photos: backbone, head and output space as they are now, shared."""
        return Colorizer(self.backbone, self.head, self.space, self.layer.name)

    def predict(self, lightness: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n q h2 w2"]:
        """Return logits over the bins (for L2, ab / 20) at the stride of the head's layer.

        Args:
            lightness: CIE L, 0..100.
        """
        return self.colorizer().predict(lightness)

    def forward(
        self, image: UInt8[Tensor, "n 3 h w"], index: Int[Tensor, " n"], mode: Literal["loss"] = "loss"
    ) -> Scalars:
        """Return the loss of a batch, averaged over all target pixels; those of gray photos count as zero."""
        stride = self.target_stride
        target = rgb_to_lab(image[:, :, ::stride, ::stride].contiguous())
        prediction = self.predict(rgb_to_lightness(image))
        # The loss is in single precision, whatever the backbone ran in.
        with torch.autocast(image.device.type, enabled=False):
            prediction = at_targets(prediction.float(), target.shape[-2:], grid_over(self.layer), stride)
            colorful = gray_mask(target[:, 1:], self.gray_threshold)
            return Scalars({self.color_loss.logged_as: self.space.loss(prediction, target, colorful)})

    def preview(self, image: UInt8[Tensor, "n 3 h w"]) -> UInt8[Tensor, "n 3 h w3"]:
        """Draw each photo's lightness, the photo and its predicted colours side by side."""
        return colors_beside(self.colorizer(), image)


def _move_bin_weights(method: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Find the weights of the bins where earlier checkpoints have them: at the top, whatever the loss."""
    weights = state_dict.pop(f"{prefix}bin_weights", None)
    if weights is not None and isinstance(method.space, RebalancedAbBins):
        state_dict[f"{prefix}space.bin_weights"] = weights
