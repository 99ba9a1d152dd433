"""The views that a config can name."""

from collections.abc import Mapping
from types import MappingProxyType

from pretext.data.crops import PairCrop, RandomCrop, RandomResizedCrop, RandomScaleCrop, View

#: Every view by the name that configs and records have.
VIEWS: Mapping[str, type[View]] = MappingProxyType(
    {
        "PairCrop": PairCrop,
        "RandomCrop": RandomCrop,
        "RandomResizedCrop": RandomResizedCrop,
        "RandomScaleCrop": RandomScaleCrop,
    }
)
