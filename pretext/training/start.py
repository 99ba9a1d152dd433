"""Where training starts: from random filters, from filters that fit the photos, or from a backbone file."""

from dataclasses import dataclass

from jaxtyping import UInt8
from torch import Tensor

from pretext.backbones.base import Backbone
from pretext.backbones.checkpoint import Provenance, load_backbone
from pretext.backbones.data_dependent import initialize_from_data, initialized_layers
from pretext.errors import InputError
from pretext.methods.base import Method
from pretext.progress import ProgressDisplay
from pretext.training.settings import PretrainingSettings

#: Photos that filters are made from.
PHOTOS = 128
#: What tables call a start, by a setting or by the method of a backbone file; others have their own names.
LABELS = {"kmeans": "k-means"}


@dataclass(frozen=True)
class Start:
    """What a run starts from.

    Attributes:
        label: Its name in tables; None for He's random filters, which most runs start from.
        sha256: SHA-256 of the backbone file, as `load_backbone` gives it; None without one.
        provenance: That of the file; None without one.
    """

    label: str | None = None
    sha256: str | None = None
    provenance: Provenance | None = None


def start_from(backbone: Backbone, settings: PretrainingSettings) -> Start:
    """Find what a run starts from, and give the backbone its weights if it is a file.

    Raises:
        InputError: The file is not a backbone file, or damaged; or its architecture or arguments, such as the colours
            that it sees, are not those of the backbone. How it is padded may differ.
    """
    if settings.init_file is None:
        return Start(None if settings.init == "he" else LABELS.get(settings.init, settings.init))
    loaded = load_backbone(settings.init_file)
    wanted, found = (
        {"architecture": each.architecture} | each.arguments for each in (backbone, loaded.backbone)
    )
    differing = [
        key
        for key in sorted(wanted.keys() | found.keys())
        if key != "geometry" and wanted.get(key) != found.get(key)
    ]
    if "architecture" in differing:
        differing = ["architecture"]
    if differing:
        raise InputError(
            f"cannot start from {settings.init_file}: it holds another backbone",
            received=", ".join(f"{key}={found.get(key)}" for key in differing),
            allowed=", ".join(f"{key}={wanted.get(key)}" for key in differing),
        )
    backbone.load_state_dict(loaded.backbone.state_dict())
    method = loaded.provenance.method
    return Start(LABELS.get(method, method), loaded.sha256, loaded.provenance)


def fit_filters(method: Method, photos: UInt8[Tensor, "n 3 h w"], kind: str, seed: int) -> dict[str, Tensor]:
    """Make the backbone's filters from photos by `initialize_from_data`, and show the progress.

    Returns:
        All that the backbone holds, by name.
    """
    layers = len(initialized_layers(method.backbone))
    with ProgressDisplay(f"{LABELS.get(kind, kind)} filters", layers) as display:

        def show(name: str) -> None:
            display.step(len(photos))

        initialize_from_data(method.backbone, photos, kind, seed, method.halves, show)
    return method.backbone.state_dict()
