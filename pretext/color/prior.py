"""The colour prior: how often photos use each ab bin.

Source: Zhang, Isola, Efros, "Colorful Image Colorization", ECCV 2016, section 2.2: the distribution of ab values over
the training photos, smoothed with a Gaussian. Photos are counted batch by batch on a fine grid of unit cells, so one
pass over the photos serves every set of bins and every smoothing width.
"""

import json
import math
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float64, Int64, Num
from torch import Tensor

from pretext.checks import check_at_least
from pretext.color.bins import AB_LIMIT, BIN_RULES, SoftEncoder, ab_bins, unit_cell_centers
from pretext.errors import InputError
from pretext.files import write_whole

#: Rule of bins that follow no named rule, such as those of `bins_from_counts`.
FROM_DATA = "from_data"

_VERSION = 1
_SIDE = 2 * AB_LIMIT
_MAKE_AGAIN = "make the file with `python -m pretext prior`"


@dataclass(frozen=True, eq=False)
class ColorPrior:
    """The probability of each ab bin over a set of photos, and where it comes from.

    Attributes:
        rule: Rule of the bins: a key of `BIN_RULES`, or `from_data`.
        bins: Bin centres in CIE units, (Q, 2).
        probabilities: Probabilities, (Q,), float64, all above 0, which sum to 1.
        sigma: Width of the smoothing Gaussian in CIE units; 0 for none.
        num_photos: Number of photos counted; None if unknown.
        num_pixels: Number of pixels counted; None if unknown.
        source: Where the photos or the numbers come from, in words.
    """

    rule: str
    bins: Float[Tensor, "q 2"]
    probabilities: Float64[Tensor, " q"]
    sigma: float
    num_photos: int | None
    num_pixels: int | None
    source: str = ""

    def save(self, path: Path) -> None:
        """Write the prior as JSON, whole or not at all, so that no reader sees half a file.

        Raises:
            InputError: The file cannot be written.
        """
        fields = {
            "version": _VERSION,
            "source": self.source,
            "rule": self.rule,
            "num_bins": len(self.bins),
            "sigma": self.sigma,
            "num_photos": self.num_photos,
            "num_pixels": self.num_pixels,
            "probabilities": self.probabilities.tolist(),
        }
        if self.rule == FROM_DATA:
            fields["bins"] = self.bins.tolist()
        write_whole(path, json.dumps(fields, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "ColorPrior":
        """Read a prior that `save` wrote.

        Raises:
            InputError: The file cannot be read, or does not hold a colour prior.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise InputError(f"cannot read the colour prior {path}: {reason}", allowed=_MAKE_AGAIN) from error
        return _parse(text, str(path))


def imagenet_prior() -> ColorPrior:
    """Return the authors' ImageNet prior over the `official313` bins, which their release uses."""
    resource = resources.files("pretext.color") / "prior_imagenet.json"
    return _parse(resource.read_text(encoding="utf-8"), "prior_imagenet.json")


def load_prior(file: str | None) -> ColorPrior:
    """Return the prior of a file that `ColorPrior.save` wrote; None gives `imagenet_prior`.

    Raises:
        InputError: As `ColorPrior.load`.
    """
    return imagenet_prior() if file is None else ColorPrior.load(Path(file))


def count_ab(ab: Float[Tensor, "n 2 h w"]) -> Int64[Tensor, "256 256"]:
    """Count pixels per unit cell of the ab plane; the counts of batches add up to those of a data set.

    Args:
        ab: Colours in CIE units, (N, 2, H, W). Values outside [-128, 128] count in the outermost cells.

    Returns:
        Counts, (256, 256): entry [i, j] counts a in [i - 128, i - 127) and b in [j - 128, j - 127).
    """
    cells = (ab.floor().long() + AB_LIMIT).clamp_(0, _SIDE - 1)
    flat = (cells[:, 0] * _SIDE + cells[:, 1]).flatten()
    return torch.bincount(flat, minlength=_SIDE**2).view(_SIDE, _SIDE)


def estimate_prior(
    counts: Num[Tensor, "256 256"],
    bins: str | Float[Tensor, "q 2"] = "official313",
    sigma: float = 5.0,
    floor: float = 1e-9,
    num_photos: int | None = None,
    source: str = "",
) -> ColorPrior:
    """Estimate the prior from counts: smooth them in the ab plane and assign each cell to its nearest bin.

    Args:
        counts: Pixels per unit cell, (256, 256), from `count_ab`.
        bins: Name of a rule (see `ab_bins`), or bin centres in CIE units, (Q, 2).
        sigma: Width of the Gaussian in CIE units; 0 for none. It acts in the ab plane, not along the list of bins.
        floor: Least probability of a bin, so that none is empty; above 0, at most 1 / Q.
        num_photos: Number of photos counted, kept in the file.
        source: Where the photos come from, kept in the file.

    Raises:
        InputError: No pixel was counted, or `bins`, `sigma` or `floor` is not allowed.
    """
    rule, centers = (bins, ab_bins(bins)) if isinstance(bins, str) else (FROM_DATA, bins)
    num_pixels = int(counts.sum())
    if num_pixels <= 0:
        raise InputError(
            "cannot estimate a colour prior without pixels",
            received=num_pixels,
            allowed="count at least one photo",
        )
    check_at_least("sigma", sigma, 0.0)
    if math.isinf(sigma):
        raise InputError(
            "sigma is not finite", received=sigma, allowed="allowed are finite numbers from 0.0 up"
        )
    if not 0 < floor <= 1 / len(centers):
        raise InputError(
            "floor is out of range",
            received=floor,
            allowed=f"allowed are numbers above 0 up to 1/{len(centers)}",
        )
    smooth = _smooth(counts.double(), sigma)
    encoder = SoftEncoder(centers.to(counts.device), neighbors=1)
    nearest = encoder.nearest_bin(unit_cell_centers(counts.device).T.reshape(1, 2, _SIDE, _SIDE))
    mass = torch.zeros(len(centers), dtype=torch.float64, device=counts.device)
    mass.index_add_(0, nearest.flatten(), smooth.flatten())
    probabilities = (mass / mass.sum()).clamp_min(floor).cpu()
    probabilities /= probabilities.sum()
    return ColorPrior(rule, centers.cpu(), probabilities, sigma, num_photos, num_pixels, source)


def _smooth(counts: Tensor, sigma: float) -> Tensor:
    """Smooth along both axes; at the borders the Gaussian is cut and rescaled, so that no pixel is lost."""
    if sigma == 0:
        return counts
    axis = torch.arange(_SIDE, dtype=counts.dtype, device=counts.device)
    kernel = torch.exp((axis[:, None] - axis).square() / (-2 * sigma**2))
    kernel /= kernel.sum(dim=0)
    return kernel @ counts @ kernel.T


def _parse(text: str, name: str) -> ColorPrior:
    """Parse and check the JSON of a prior; `name` is the file's, for messages."""
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        raise _malformed(name, f"it must be JSON ({error})") from error
    if not isinstance(fields, dict):
        raise _malformed(name, "it must be a JSON object", type(fields).__name__)
    if fields.get("version") != _VERSION:
        raise _malformed(name, f"version must be {_VERSION}", fields.get("version"))
    bins = _parse_bins(fields, name)
    probabilities = _numbers(fields, "probabilities", name)
    if probabilities.shape != (len(bins),):
        raise _malformed(name, f"probabilities must have shape ({len(bins)},)", tuple(probabilities.shape))
    if not bool((probabilities > 0).all()):
        raise _malformed(name, "probabilities must be above 0", probabilities.min().item())
    if abs(probabilities.sum().item() - 1) > 1e-6:
        raise _malformed(name, "probabilities must sum to 1", probabilities.sum().item())
    sigma = fields.get("sigma")
    if not isinstance(sigma, int | float):
        raise _malformed(name, "sigma must be a number", sigma)
    photos, pixels = (_count(fields, key, name) for key in ("num_photos", "num_pixels"))
    return ColorPrior(
        str(fields["rule"]), bins, probabilities, float(sigma), photos, pixels, str(fields.get("source", ""))
    )


def _parse_bins(fields: dict[str, Any], name: str) -> Tensor:
    rule = fields.get("rule")
    if rule in BIN_RULES:
        bins = ab_bins(str(rule))
    elif rule == FROM_DATA:
        bins = _numbers(fields, "bins", name).float()
    else:
        raise _malformed(name, "unknown rule of ab bins", rule, (*BIN_RULES, FROM_DATA))
    if bins.ndim != 2 or bins.shape[1] != 2 or fields.get("num_bins") != len(bins):
        shape = tuple(bins.shape)
        raise _malformed(name, f"num_bins must fit the bins, of shape {shape}", fields.get("num_bins"))
    return bins


def _numbers(fields: dict[str, Any], key: str, name: str) -> Tensor:
    try:
        numbers = torch.tensor(fields.get(key), dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise _malformed(name, f"{key} must be a list of numbers ({error})") from error
    if not bool(torch.isfinite(numbers).all()):
        raise _malformed(name, f"{key} must be finite", numbers[~numbers.isfinite()][0].item())
    return numbers


def _count(fields: dict[str, Any], key: str, name: str) -> int | None:
    value = fields.get(key)
    if value is None or (isinstance(value, int) and value >= 0):
        return value
    raise _malformed(name, f"{key} must be a count or null", value)


def _malformed(
    name: str, fault: str, received: Any = None, allowed: str | tuple[str, ...] = _MAKE_AGAIN
) -> InputError:
    return InputError(f"{name} is not a colour prior: {fault}", received=received, allowed=allowed)
