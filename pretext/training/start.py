"""Where training starts: from random filters, from filters that fit the photos, or from a backbone file."""

from dataclasses import dataclass
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from pretext.backbones.base import Backbone
from pretext.backbones.checkpoint import Provenance, load_backbone
from pretext.backbones.data_dependent import initialize_from_data, initialized_layers
from pretext.backbones.surgery import drop_fully_connected, make_gray
from pretext.distributed import rank_and_world_size
from pretext.errors import InputError
from pretext.methods.base import Method
from pretext.progress import ProgressDisplay, say
from pretext.training.settings import PretrainingSettings

#: Photos that filters are made from.
PHOTOS = 128
#: What tables call a start, by a setting or by the method of a backbone file; others have their own names.
LABELS = {"kmeans": "k-means"}

#: Arguments of backbones that say how a photo is padded and its maps are pooled, and change no weight.
_WEIGHTLESS = ("geometry", "conv1_padding", "pool5_stride")
#: What tables call a backbone that was made gray, by what they call the one that saw RGB.
MADE_GRAY = "{} made gray"


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

    A file's backbone that sees RGB is made gray for one that sees lightness, see `make_gray`; its fc6 and fc7 are left
    out for one that has none. A line says so.

    Raises:
        InputError: The file is not a backbone file, or damaged; or its architecture or arguments, such as the colours
            that it sees, are not those of the backbone; or a weight is not a finite number. How it is padded and
            pooled may differ.
    """
    if settings.init_file is None:
        return Start(None if settings.init == "he" else LABELS.get(settings.init, settings.init))
    if not Path(settings.init_file).is_file():
        raise InputError(
            "no backbone file to start from",
            received=f"init={settings.init_file}",
            allowed="he, gaussian, kmeans, or the path of a backbone.safetensors",
        )
    loaded = load_backbone(settings.init_file)
    given, method = loaded.backbone, loaded.provenance.method
    changes = []
    gray = (given.input_space, backbone.input_space) == ("rgb", "lightness")
    if gray:
        given = make_gray(given, *backbone.arguments["input_mean"], *backbone.arguments["input_std"])
        changes.append("its first filters are summed over colour, to see lightness")
    if given.arguments.get("fully_connected") and not backbone.arguments.get("fully_connected", True):
        given = drop_fully_connected(given)
        changes.append("fc6 and fc7 are left out")
    wanted, found = ({"architecture": each.architecture} | each.arguments for each in (backbone, given))
    differing = [
        key
        for key in sorted(wanted.keys() | found.keys())
        if key not in _WEIGHTLESS and wanted.get(key) != found.get(key)
    ]
    if "architecture" in differing:
        differing = ["architecture"]
    if differing:
        raise InputError(
            f"cannot start from {settings.init_file}: it holds another backbone",
            received=", ".join(f"{key}={found.get(key)}" for key in differing),
            allowed=", ".join(f"{key}={wanted.get(key)}" for key in differing),
        )
    backbone.load_state_dict(given.state_dict())
    if changes and rank_and_world_size()[0] == 0:
        say(f"{settings.init_file}: {'; '.join(changes)}")
    label = LABELS.get(method, method)
    return Start(MADE_GRAY.format(label) if gray else label, loaded.sha256, loaded.provenance)


def fit_filters(method: Method, photos: UInt8[Tensor, "n 3 h w"], kind: str, seed: int) -> dict[str, Tensor]:
    """Make the backbone's filters from photos by `initialize_from_data`, and show the progress.

    Returns:
        All that the backbone holds, by name.

    Raises:
        InputError: As for `initialize_from_data`.
    """
    layers = len(initialized_layers(method.backbone))
    with ProgressDisplay(f"{LABELS.get(kind, kind)} filters", layers) as display:

        def show(name: str) -> None:
            display.step(len(photos))

        try:
            initialize_from_data(method.backbone, photos, kind, seed, method.halves, show)
        except InputError as error:
            raise InputError(
                error.what,
                received=error.received,
                allowed=f"{error.allowed}; init={kind} looks at {PHOTOS} photos at most, at the size of the view,"
                " and init=he needs none",
            ) from error
    return method.backbone.state_dict()
