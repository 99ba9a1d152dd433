"""How many directions a network's features take: a start that is dead shows early."""

import math
from typing import Any

import torch
from jaxtyping import Float, UInt8
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from torch import Tensor

from pretext.backbones.base import Backbone

#: Steps between two measurements, and most photos of one: less than 1 % of the time.
INTERVAL, PHOTOS = 100, 32


def effective_rank(features: Float[Tensor, "n c h w"]) -> float:
    """Return the effective rank of the features' covariance: "The effective rank" (Roy and Vetterli, EUSIPCO 2007).

    It is exp(H), where H is the entropy, in nats, of the matrix's singular values divided by their sum. Those of a
    covariance are the variances of the principal components; each position is a sample, each channel a variable. So k
    directions of equal variance have the rank k.

    Returns:
        From 1 to c; 0 if no channel varies; NaN if a feature is not finite.
    """
    rows = features.movedim(1, -1).flatten(0, -2).double()
    rows = rows - rows.mean(0)
    if not bool(torch.isfinite(rows).all()):
        return math.nan
    values = torch.linalg.eigvalsh(rows.T @ rows).clamp(min=0)
    if not float(values.sum()) > 0:
        return 0.0
    return float(torch.special.entr(values / values.sum()).sum().exp())


def last_convolution(backbone: Backbone) -> str:
    """Return the name of the backbone's last convolution before the fully connected layers."""
    return [name for name in backbone.layer_names if name.startswith("conv")][-1]


class LogEffectiveRank(Hook):  # type: ignore[misc]  # mmengine is not typed
    """Log the effective rank of the last convolution's features as ``rank``, before the first step and every hundredth.

    The backbone sees the same few photos each time, whole, as a stage would show them: batch norm uses its running
    statistics.

    Args:
        photos: The photos.
    """

    def __init__(self, photos: UInt8[Tensor, "n 3 h w"]):
        self.photos = photos

    def before_train(self, runner: Any) -> None:
        """Log the rank of what the run starts from."""
        if runner.iter == 0:
            self._log(runner, 0)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Log the rank if the step is due."""
        if (batch_idx + 1) % INTERVAL == 0:
            self._log(runner, batch_idx + 1)

    @torch.no_grad()
    def _log(self, runner: Any, step: int) -> None:
        method = runner.model.module if is_model_wrapper(runner.model) else runner.model
        backbone = method.backbone
        training, name = backbone.training, last_convolution(backbone)
        photos = self.photos.to(next(backbone.parameters()).device)
        features = backbone.eval().features(photos, name)
        backbone.train(training)
        rank = effective_rank(features)
        runner.logger.info(
            f"Iter(train) [{step}/{runner.max_iters}]  rank: {rank:.1f} of {features.shape[1]} ({name})"
        )
        runner.visualizer.add_scalars({"rank": rank}, step=step)
