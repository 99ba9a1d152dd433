"""What can be chosen when photos are coloured. torch is not imported here."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from pretext.checks import check_at_least, check_choice, check_seed
from pretext.colorize.reference import Reference
from pretext.errors import InputError

#: How one colour is chosen from a distribution, see `Decoding`.
RULES = ("annealed", "mean", "median", "mode", "sample", "coherent")
#: Rules that draw at random.
DRAWN = ("sample", "coherent")
#: How a small map of colours is enlarged.
UPSAMPLINGS = ("bilinear", "bilateral")
#: Where colours are chosen: at the positions of the map, or at the photo's pixels from the enlarged distribution.
DECODE_AT = ("map", "photo")
#: How a photo is given a reference's colours, see `Steering`.
TRANSFERS = ("energy", "quantile")
#: The largest angle by which hues are turned, to either side, in degrees.
MAX_BIAS = 180.0
#: Formats of coloured photos.
FORMATS = ("png", "jpeg")


@dataclass(frozen=True)
class Decoding:
    """How one colour per position is chosen from a distribution.

    Attributes:
        rule: ``annealed`` (the mean of p^(1/T)), ``mean``, ``median`` (of spaces whose bins are in order), ``mode``,
            ``sample`` (each position drawn independently) or ``coherent`` (drawn with the same random numbers
            everywhere, so that neighbours agree: :func:`pretext.color.decode.coherent_sample` and
            :func:`pretext.color.decode.quantile_sample`).
        temperature: T of the annealed mean; None takes the output space's own decoding. Samples are drawn from p^(1/T);
            None draws from p itself. Mean, median and mode take none.
        seed: Seed of the samples.

    Raises:
        InputError: A value is not allowed.
    """

    rule: str = "annealed"
    temperature: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("rule of decoding", self.rule, RULES)
        check_seed(self.seed)
        if self.temperature is None:
            return
        if self.rule in ("mean", "median", "mode"):
            raise InputError(
                f"{self.rule} takes no temperature", received=self.temperature, allowed="use annealed"
            )
        if not self.temperature > 0:
            raise InputError(
                "temperature is out of range",
                received=self.temperature,
                allowed="allowed are numbers above 0; the limit at 0 is the rule mode",
            )


@dataclass(frozen=True)
class Steering:
    """Where colours are led: to those of a reference, and around the circle of hues (Larsson et al., ECCV 2016).

    Attributes:
        reference: The photo whose colours are taken; None for none.
        transfer: How. ``energy``: the predicted distributions are brought near its histograms, before colours are
            chosen from them. ``quantile``: the colours of the painted photo are matched to its own. None without a
            reference.
        bias: Degrees by which hues are turned, from -180 to 180; a positive angle leads from red to yellow. Without a
            reference the predicted hues are turned; with ``energy`` the bias that was found for them; with
            ``quantile`` the reference's hues.

    Raises:
        InputError: A value is not allowed, or there is a reference or a transfer without the other.
    """

    reference: Reference | None = None
    transfer: str | None = None
    bias: float = 0.0

    def __post_init__(self) -> None:
        if self.transfer is not None:
            check_choice("transfer", self.transfer, TRANSFERS)
        if (self.reference is None) != (self.transfer is None):
            raise InputError(
                "a reference and a transfer need each other",
                received=f"transfer {self.transfer}" if self.transfer else "a reference alone",
                allowed="give both, or neither",
            )
        if not -MAX_BIAS <= self.bias <= MAX_BIAS:
            raise InputError(
                "bias is out of range",
                received=self.bias,
                allowed=f"allowed are degrees from {-MAX_BIAS:g} to {MAX_BIAS:g}",
            )

    def as_json(self) -> dict[str, Any]:
        """Return all values by their names; the reference is the hash of its file."""
        reference = self.reference and self.reference.sha256
        return {"reference": reference, "transfer": self.transfer, "bias": self.bias}


@dataclass(frozen=True)
class PaintingSettings:
    """How photos are coloured and written.

    Attributes:
        decoding: How a colour is chosen; sample n of a photo is drawn with ``decoding.seed`` + n, n counted from 0.
        size: Length of the shorter side for the network, in pixels; None is the colorizer's own.
        upsampling: ``bilinear`` or ``bilateral``.
        decode_at: ``map``: a colour is chosen at each position of the map, and the colours are enlarged, as Zhang et
            al. do; or ``photo``: the distribution is enlarged, and a colour chosen at each pixel, as Larsson et al.
            (ECCV 2016) do.
        samples: How many results a photo gets; above 1 the rule must draw.
        uncertainty: Whether the entropy of the predicted distribution is written, too.
        format: ``png`` or ``jpeg``; None writes a JPEG of a photo named .jpg or .jpeg, and a PNG of any other.
        steering: Where the colours are led.

    Raises:
        InputError: A value is not allowed.
    """

    decoding: Decoding = field(default_factory=Decoding)
    size: int | None = None
    upsampling: str = UPSAMPLINGS[0]
    samples: int = 1
    uncertainty: bool = False
    format: str | None = None
    decode_at: str = DECODE_AT[0]
    steering: Steering = field(default_factory=Steering)

    def __post_init__(self) -> None:
        check_choice("upsampling", self.upsampling, UPSAMPLINGS)
        check_choice("decode_at", self.decode_at, DECODE_AT)
        check_at_least("samples", self.samples, 1)
        if self.size is not None:
            check_at_least("size", self.size, 1)
        if self.format is not None:
            check_choice("format", self.format, FORMATS)
        if self.samples > 1 and self.decoding.rule not in DRAWN:
            raise InputError(
                f"all samples of {self.decoding.rule} are alike", received=self.samples, allowed=DRAWN
            )
        check_seed(self.decoding.seed + self.samples - 1)

    def as_json(self) -> dict[str, Any]:
        """Return all values by their names, on one level."""
        parts = {"decoding": asdict(self.decoding), "steering": self.steering.as_json()}
        own = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in parts}
        return {**parts["decoding"], **own, **parts["steering"]}
