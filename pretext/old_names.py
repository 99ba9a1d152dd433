"""Names in files that were written while configs named a class by its module, such as ``torch.optim.SGD``.

Configs, headers, scores and work folders say ``SGD``. What was written before is read by `renamed`. Hashes that such
files hold are still those of new ones: `spelled_for_hash` gives the spelling that they were taken over.
"""

from collections.abc import Mapping
from typing import Any

_METHODS = {
    "autoencoder": "Autoencoder",
    "bigan": "BiGAN",
    "colorization": "Colorization",
    "context": "Context",
    "counting": "Counting",
    "deepcluster": "DeepCluster",
    "egomotion": "Egomotion",
    "inpainting": "Inpainting",
    "jigsaw": "Jigsaw",
    "rotation": "Rotation",
    "split_brain": "SplitBrain",
    "supervised": "Supervised",
    "tracking": "Tracking",
}
_VIEWS = ("RandomCrop", "RandomResizedCrop", "RandomScaleCrop")
_REDUCTIONS = ("AdaptiveAveragePool", "AdaptiveMaxPool", "AveragePool", "BilinearResize", "MaxPool")
_OPTIMIZERS = ("Adam", "AdamW", "RMSprop", "SGD")

#: Today's name by the old one. Nothing is ever added here: what is new has had its name from the start.
NAMES: Mapping[str, str] = {
    **{f"pretext.methods.{name}.{kind}": name for name, kind in _METHODS.items()},
    **{f"pretext.data.views.{name}": name for name in _VIEWS},
    "pretext.data.side_by_side.PairCrop": "PairCrop",
    **{f"transfer.reductions.{name}": name for name in _REDUCTIONS},
    **{f"torch.optim.{name}": name for name in _OPTIMIZERS},
}
_ADDRESSES = {name: address for address, name in NAMES.items()}


def renamed(config: Any) -> Any:
    """``config`` with today's names where a ``type`` in it has an old one; a copy."""
    return _mapped(config, NAMES)


def spelled_for_hash(config: Any) -> Any:
    """``config`` as it was spelled when the first identities were hashed; for hashes alone, never to be shown."""
    return _mapped(config, _ADDRESSES)


def _mapped(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {
            key: names.get(entry, entry)
            if key == "type" and isinstance(entry, str)
            else _mapped(entry, names)
            for key, entry in value.items()
        }
    if isinstance(value, (list, tuple)):
        return type(value)(_mapped(entry, names) for entry in value)
    return value
