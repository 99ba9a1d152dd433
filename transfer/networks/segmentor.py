"""A backbone as mmsegmentation's segmentor: the parts that take the places of its backbone, head and preparation.

With ``network="head"`` the loss is averaged over all pixels of a batch, void and padding counted as zero, as
mmsegmentation does it, so that two processes compute what one does. With ``fcn32s`` and ``hypercolumn`` it is averaged
over the pixels that are not void, as in the papers.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from mmengine.config import ConfigDict
from torch import Tensor, nn

from pretext.backbones.base import Backbone
from pretext.backbones.initializers import he_normal_, normal_
from pretext.color.lab import lab_to_rgb, rgb_to_lightness
from transfer.data.voc import VOID
from transfer.networks.fcn32s import FCN32s
from transfer.networks.hypercolumn import HypercolumnClassifier, PointLogits
from transfer.networks.parts import Conv5
from transfer.protocols.settings import SegmentationSettings

with warnings.catch_warnings():
    # mmcv comes without compiled operators, and none are needed here.
    warnings.filterwarnings("ignore", "Fail to import ``MultiScaleDeformableAttention``", UserWarning)
    from mmseg.models import EncoderDecoder, FCNHead, SegDataPreProcessor
    from mmseg.models.decode_heads.decode_head import BaseDecodeHead
    from mmseg.models.losses import CrossEntropyLoss

#: Fills a crop beyond the photo: the gray of lightness 50, which a backbone normalises to about zero.
PADDING_GRAY = 119


class Encoder(nn.Module):
    """A backbone as mmsegmentation wants it: it returns a tuple of feature maps, here conv5's alone.

    Args:
        backbone: Becomes part of this module. Loses its layers above conv5, so that they are neither trained nor saved.
        settings: The stage's.
    """

    def __init__(self, backbone: Backbone, settings: SegmentationSettings):
        super().__init__()
        self.conv5 = Conv5(backbone, settings, trained=settings.train == "all")
        names = backbone.layer_names
        for name in names[names.index(self.conv5.layer.name) + 1 :]:
            if hasattr(backbone, name):
                delattr(backbone, name)

    def forward(self, photos: Shaped[Tensor, "n 3 h w"]) -> tuple[Float[Tensor, "n c i j"]]:
        """Return the map (N, C, H / stride, W / stride) of RGB photos with values 0..255."""
        return (self.conv5(photos),)


class LogitsHead(BaseDecodeHead):  # type: ignore[misc]  # mmseg is not typed
    """A head that returns its input: a network that gives logits needs of mmsegmentation only the loss."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.conv_seg = nn.Identity()

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return the logits."""
        return inputs[0]


class PointsHead(LogitsHead):
    """A head whose input are logits of some pixels of each photo in training, and of all in eval mode."""

    def loss(
        self, inputs: tuple[PointLogits], batch_data_samples: Sequence[Any], train_cfg: Any
    ) -> dict[str, Tensor]:
        """Return the loss of these pixels."""
        (given,) = inputs
        masks = self._stack_batch_gt(batch_data_samples).squeeze(1)
        rows, columns = given.points.unbind(2)
        labels = masks[torch.arange(len(masks), device=masks.device)[:, None], rows, columns]
        return {"loss_ce": self.loss_decode(given.logits, labels, ignore_index=self.ignore_index)}


def gray_photos(photos: Shaped[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Return RGB photos with values 0..255 with three equal channels; their CIE lightness is what it was."""
    lightness = rgb_to_lightness(photos / 255)
    colorless = torch.cat([lightness, torch.zeros_like(lightness).expand(-1, 2, -1, -1)], 1)
    # Its three channels differ in the fourth digit.
    gray = 255 * lab_to_rgb(colorless)[:, 1:2]
    return gray.expand(-1, 3, -1, -1).contiguous()


class GrayPhotos(SegDataPreProcessor):  # type: ignore[misc]
    """mmsegmentation's preparation of a batch, whose photos then lose their colour."""

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Return the batch as the network takes it."""
        prepared: dict[str, Any] = super().forward(data, training)
        return prepared | {"inputs": gray_photos(prepared["inputs"])}


def build_segmentor(
    backbone: Backbone, num_classes: int, settings: SegmentationSettings, seed: int
) -> nn.Module:
    """Build mmsegmentation's EncoderDecoder around a backbone.

    Args:
        backbone: With ``network="head"`` it becomes part of the model and loses its layers above conv5; with the other
            networks see `FCN32s` and `HypercolumnClassifier`.
        num_classes: Number of classes with the background.
        settings: The stage's.
        seed: Seed of the head's weights: He et al.'s, and N(0, 0.01^2) for the classifier.

    Returns:
        A model whose backbone is on the device it was on, and whose head is on the CPU.
    """
    crop = settings.crop
    preprocessor = {
        "type": GrayPhotos if settings.gray else SegDataPreProcessor,
        # Whole photos are padded to the largest of their batch.
        **({"size_divisor": 1} if crop is None else {"size": (crop, crop)}),
        "pad_val": PADDING_GRAY,
        "seg_pad_val": VOID,
    }
    head: dict[str, Any] = {
        "num_classes": num_classes,
        "out_channels": num_classes,
        "ignore_index": VOID,
        # Otherwise mmengine draws new weights when training starts.
        "init_cfg": None,
    }
    logits = {
        "in_channels": num_classes,
        "channels": num_classes,
        "loss_decode": {"type": CrossEntropyLoss, "avg_non_ignore": True},
    }
    encoder: nn.Module
    if settings.network == "fcn32s":
        encoder = FCN32s(backbone, num_classes, settings, seed)
        head |= {"type": LogitsHead} | logits
    elif settings.network == "hypercolumn":
        encoder = HypercolumnClassifier(backbone, num_classes, settings, seed)
        head |= {"type": PointsHead} | logits
    else:
        encoder = Encoder(backbone, settings)
        head |= {
            "type": FCNHead,
            "in_channels": encoder.conv5.out_channels,
            "norm_cfg": {"type": "BN"},
            "loss_decode": {"type": CrossEntropyLoss},
            **(settings.head or {}),
        }
    with warnings.catch_warnings():
        # We do want to average over all pixels: the mean over the pixels that are not void would differ between
        # one process and two.
        warnings.filterwarnings("ignore", "Default ``avg_non_ignore`` is False", UserWarning)
        segmentor = EncoderDecoder(
            data_preprocessor=preprocessor,
            # mmseg builds from descriptions only; the encoder takes this place below.
            backbone={"type": nn.Identity},
            decode_head=head,
            test_cfg=ConfigDict(mode="whole"),
        )
    segmentor.backbone = encoder
    if settings.network == "head":
        he_normal_(segmentor.decode_head, seed)
        normal_(segmentor.decode_head.conv_seg.weight, std=0.01, seed=seed, name="conv_seg.weight")
    built: nn.Module = segmentor
    return built
