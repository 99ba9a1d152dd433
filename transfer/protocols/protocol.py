"""What one paper fixed about one stage."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from transfer.protocols.settings import StageSettings


@dataclass(frozen=True)
class Protocol:
    """What one paper fixed about one stage.

    Attributes:
        id: What a score line calls it.
        stage: One of `transfer.stage.STAGES`.
        metric: What the paper reports, as the stage calls it.
        source: Where the numbers were read.
        settings: The stage's settings that follow the protocol.
        choices: Those of them that are the user's choice.
        features: By layer, how many numbers the classifier sees of the paper's network, where windows fix it.
    """

    id: str
    stage: str
    metric: str
    source: str
    settings: StageSettings
    choices: frozenset[str]
    features: Mapping[str, int] = field(default_factory=dict)

    def fixed(self) -> dict[str, Any]:
        """Return what the paper fixed: keys of the stage's config and their values, as JSON can hold them."""
        free = self.choices | {"protocol"}
        return {key: value for key, value in self.settings.recipe().items() if key not in free}
