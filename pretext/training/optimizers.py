"""The optimisers that a config can name."""

from collections.abc import Mapping
from types import MappingProxyType

from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

#: Every optimiser by the name that configs and records have.
OPTIMIZERS: Mapping[str, type[Optimizer]] = MappingProxyType(
    {"Adam": Adam, "AdamW": AdamW, "RMSprop": RMSprop, "SGD": SGD}
)
