"""What can be chosen when photos are coloured. torch is not imported here."""

from dataclasses import asdict, dataclass, field
from typing import Any

from pretext.checks import check_at_least, check_choice, check_seed
from pretext.errors import InputError

#: How one colour is chosen from a distribution, see `Decoding`.
RULES = ("annealed", "mean", "mode", "sample", "coherent")
#: Rules that draw at random.
DRAWN = ("sample", "coherent")
#: How a small map of colours is enlarged.
UPSAMPLINGS = ("bilinear", "bilateral")
#: Formats of coloured photos.
FORMATS = ("png", "jpeg")


@dataclass(frozen=True)
class Decoding:
    """How one colour per position is chosen from a distribution.

    Attributes:
        rule: ``annealed`` (the mean of p^(1/T)), ``mean``, ``mode``, ``sample`` (each position drawn independently) or
            ``coherent`` (drawn with the same random numbers everywhere, so that neighbours agree:
            :func:`pretext.color.decode.coherent_sample`).
        temperature: T of the annealed mean; None takes the output space's own. Samples are drawn from p^(1/T); None
            draws from p itself. Mean and mode take none.
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
        if self.rule in ("mean", "mode"):
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
class PaintingSettings:
    """How photos are coloured and written.

    Attributes:
        decoding: How a colour is chosen; sample n of a photo is drawn with ``decoding.seed`` + n, n counted from 0.
        size: Length of the shorter side for the network, in pixels; None is the colorizer's own.
        upsampling: ``bilinear`` or ``bilateral``.
        samples: How many results a photo gets; above 1 the rule must draw.
        uncertainty: Whether the entropy of the predicted distribution is written, too.
        format: ``png`` or ``jpeg``; None writes a JPEG of a photo named .jpg or .jpeg, and a PNG of any other.

    Raises:
        InputError: A value is not allowed.
    """

    decoding: Decoding = field(default_factory=Decoding)
    size: int | None = None
    upsampling: str = UPSAMPLINGS[0]
    samples: int = 1
    uncertainty: bool = False
    format: str | None = None

    def __post_init__(self) -> None:
        check_choice("upsampling", self.upsampling, UPSAMPLINGS)
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
        values = {**asdict(self.decoding), **asdict(self)}
        del values["decoding"]
        return values
