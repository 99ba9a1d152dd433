"""What colorization methods predict and draw: the output space that a config names, its colour prior, the preview."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pretext.checks import check_choice, check_share
from pretext.color.bins import BIN_RULES, ab_bins
from pretext.color.prior import FROM_DATA, ColorPrior, imagenet_prior
from pretext.color.spaces import (
    AbBins,
    HueChroma,
    LabJoint,
    LabMarginals,
    OutputSpace,
    RebalancedAbBins,
    SigmoidRegression,
    ab_regression,
)
from pretext.colorize.colorizer import Colorizer
from pretext.colorize.painting import lightness_of, paint, predict
from pretext.data.photos import Photos
from pretext.errors import InputError
from pretext.methods.parts.photo_prior import prior_of_photos

#: Most photos that the colour prior is estimated from.
PRIOR_PHOTOS = 2000
#: By the loss of the config, what it is logged as and what makes the output space from bins, neighbors and sigma, and
#: from further arguments of the space.
LOSSES: Mapping[str, tuple[str, Callable[..., OutputSpace]]] = MappingProxyType(
    {
        "rebalanced": ("loss_color", RebalancedAbBins),
        "classification": ("loss_color", AbBins),
        "l2": ("loss_l2", lambda bins, neighbors, sigma, **more: ab_regression(**more)),
        "l2_sigmoid": ("loss_l2", lambda bins, neighbors, sigma, **more: SigmoidRegression(**more)),
        "lab_marginals": ("loss_color", lambda bins, neighbors, sigma, **more: LabMarginals(**more)),
        "lab_joint": ("loss_color", lambda bins, neighbors, sigma, **more: LabJoint(**more)),
        "hue_chroma": ("loss_color", lambda bins, neighbors, sigma, **more: HueChroma(**more)),
    }
)


class ColorLoss:
    """The output space that a config names by its loss, and the colour prior if it needs one.

    Args:
        method: Name of the method, for errors.
        loss: A key of `LOSSES`.
        bins: Rule of the ab bins (see :func:`pretext.color.bins.ab_bins`), or ``from_data`` for those of the prior
            file.
        neighbors: Number of bins that a colour is encoded to.
        sigma: Width of the encoding's Gaussian in CIE units.
        rebalance_mix: The share of a uniform distribution that is mixed into the prior.
        prior: ``data`` (estimated from the training photos), ``imagenet`` (the published one, for the official bins),
            or the path of a prior file written by ``python -m pretext prior``.
        space: Further arguments of the output space, by name: the ``temperature`` of bins.

    Attributes:
        logged_as: Name of the loss in logs.
        space: The output space.

    Raises:
        InputError: An argument has a value that is not allowed.
    """

    def __init__(
        self,
        method: str,
        loss: str,
        *,
        bins: str = "official313",
        neighbors: int = 5,
        sigma: float = 5.0,
        rebalance_mix: float = 0.5,
        prior: str = "data",
        space: Mapping[str, Any] = MappingProxyType({}),
    ):
        check_choice(f"{method} loss", loss, LOSSES)
        check_choice("rule of ab bins", bins, [*BIN_RULES, FROM_DATA])
        if bins == FROM_DATA and prior in ("data", "imagenet"):
            raise InputError(
                "bins=from_data takes the bins from a prior file, and prior names none",
                received=prior,
                allowed="give the path of a file made by `python -m pretext prior --bins from_data`",
            )
        check_share("rebalance_mix", rebalance_mix)
        self.bins_rule, self.rebalance_mix = bins, rebalance_mix
        needed = prior != "data" and (loss == "rebalanced" or bins == FROM_DATA)
        self.given_prior = _named_prior(prior) if needed else None
        centers = self.given_prior.bins if self.given_prior and bins == FROM_DATA else ab_bins(bins)
        if self.given_prior:
            self._check_bins(self.given_prior, centers)
        self.logged_as, make_space = LOSSES[loss]
        try:
            self.space = make_space(centers, neighbors, sigma, **space)
        except TypeError as error:
            raise InputError(
                f"the output space of loss={loss} does not take its arguments: {error}",
                received=dict(space),
                allowed="method.space={} leaves all of them as they are by default",
            ) from error

    def balance(self, photos: Photos, folder: Path) -> None:
        """Find the colour prior if the space needs one; keep an estimated one as ``prior.json``.

        Args:
            photos: The training photos.
            folder: Folder of the run.

        Raises:
            InputError: The prior has other bins.
        """
        if not isinstance(self.space, RebalancedAbBins):
            return
        kept = folder / "prior.json"
        if self.given_prior:
            prior = self.given_prior
        elif kept.is_file():
            prior = ColorPrior.load(kept)
            self._check_bins(prior, self.space.bins.cpu())
        else:
            prior = prior_of_photos(photos, bins=self.bins_rule, max_photos=PRIOR_PHOTOS)
            prior.save(kept)
        self.space.balance(prior.probabilities, self.rebalance_mix)

    def _check_bins(self, prior: ColorPrior, bins: Float[Tensor, "q 2"]) -> None:
        if not torch.equal(prior.bins, bins):
            raise InputError(
                f"the colour prior does not have the bins of bins={self.bins_rule}",
                received=f"{prior.rule} with {len(prior.bins)} bins",
                allowed=f"estimate one by `python -m pretext prior --bins {self.bins_rule}`",
            )


def colors_beside(colorizer: Colorizer, image: UInt8[Tensor, "n 3 h w"]) -> UInt8[Tensor, "n 3 h w3"]:
    """Draw each photo's lightness, the photo and its predicted colours side by side."""
    rows = []
    for photo in image:
        lightness = lightness_of(photo)
        ab = predict(colorizer, lightness, min(photo.shape[1:])).ab[0]
        gray, colored = (paint(lightness, each).to(photo.device) for each in (torch.zeros_like(ab), ab))
        rows.append(torch.cat([gray, photo, colored], 2))
    return torch.stack(rows)


def _named_prior(name: str) -> ColorPrior:
    return imagenet_prior() if name == "imagenet" else ColorPrior.load(Path(name))
