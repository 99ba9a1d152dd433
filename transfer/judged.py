"""Who is judged: what identifies a backbone, a colorizer or a folder of coloured photos in scores."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from pretext.backbones.base import Backbone
from pretext.backbones.checkpoint import LoadedBackbone, Provenance, load_backbone, provenance_of
from pretext.colorize.colorizer import colorizer_sha256, load_colorizer
from pretext.data.decoding import PHOTO_SUFFIXES
from pretext.data.photos import Photos
from pretext.data.places import data_path, ensure_toyworld
from pretext.data.sources import fingerprint, open_photos
from pretext.data.walking import walk_files
from pretext.errors import InputError
from pretext.old_names import spelled_for_hash
from transfer.color_sources import LENT, color_source
from transfer.data.identity import data_name
from transfer.protocols.settings import ColorizationSettings, StageSettings
from transfer.stage import Stage

#: Keys of a pretraining config that change no weight; what ``data`` names is told by its fingerprint.
PLACE_KEYS = frozenset({"data", "workers", "checkpoint_interval", "preview_interval"})
#: What scores say of the architecture where there is none.
NO_BACKBONE = "none"


@dataclass(frozen=True)
class Judged:
    """What a score says of who was judged; see `transfer.scores.score.Score` for the fields."""

    method: str
    backbone: str
    input_space: str
    sha256: str
    seed: int | None
    recipe: str
    pretrained_on: str | None


def identify(stage: Stage, spec: str, seed: int, settings: StageSettings | None = None) -> Judged:
    """Return who is judged.

    Args:
        stage: Tells whether a backbone or colours are judged.
        spec: As :func:`pretext.backbones.checkpoint.load_backbone` or
            :func:`transfer.color_sources.color_source` takes it.
        seed: Seed of the run, which draws what is drawn without training.
        settings: The stage's; those matter that say who lends colours.

    Raises:
        InputError: There is nothing of that name, a file cannot be used, or nobody is named who lends colours.
    """
    if stage.judges == "backbone":
        loaded = load_backbone(spec, seed=seed)
        return _trained(loaded.backbone, loaded.provenance, loaded.sha256)
    source = color_source(spec)
    if source.kind == "model":
        colorizer = load_colorizer(source.name)
        assert colorizer.provenance is not None  # load_colorizer reads it
        return _trained(colorizer.backbone, colorizer.provenance, colorizer_sha256(colorizer))
    if source.kind == "folder":
        sha256, name = folder_sha256(Path(source.name)), Path(source.name).resolve().name
        return Judged(name, NO_BACKBONE, "lightness", sha256, None, sha256, None)
    if source.name in LENT:
        assert isinstance(settings, ColorizationSettings)
        return _lent(source.name, settings, seed)
    drawn = seed if source.name == "random-photo" else None
    recipe, sha256 = map(_text_sha256, (source.name, f"{source.name} {drawn}"))
    return Judged(source.name, NO_BACKBONE, "lightness", sha256, drawn, recipe, None)


def open_gallery(settings: ColorizationSettings) -> Photos:
    """Open the photos of a gallery.

    Raises:
        InputError: They are not there, or are not single photos.
    """
    given = str(settings.gallery)
    photos = open_photos(data_path(ensure_toyworld(given)))
    if photos.kind != "photos":
        raise InputError("a gallery holds single photos", received=given, allowed="name other photos")
    return photos


def retriever_layer(backbone: Backbone, settings: ColorizationSettings) -> str:
    """Return the layer whose features tell which photos are alike: the last convolution, or the one that is named.

    Raises:
        InputError: The backbone has no such layer.
    """
    last = [name for name in backbone.layer_names if name.startswith("conv")][-1]
    return backbone.layer(settings.retriever_layer or last).name


def _lent(name: str, settings: ColorizationSettings, seed: int) -> Judged:
    """Tell a row of `LENT` by all that its colours depend on."""
    draw = (seed,) if name == "welsh2002" else ()
    if draw and settings.reference is not None:
        made = (name, hashlib.sha256(_content(Path(settings.reference))).hexdigest())
        sha256, recipe = _json_sha256((*made, *draw)), _json_sha256(made)
        return Judged(name, NO_BACKBONE, "lightness", sha256, seed, recipe, None)
    if settings.gallery is None:
        raise InputError(
            f"{name} has no photos to take colours from",
            received="gallery=None",
            allowed="gallery=PHOTOS, photos in colour" + (", or reference=FILE, one of them" if draw else ""),
        )
    loaded, lender = load_backbone(settings.retriever, seed=seed), data_name(settings.gallery)
    layer = retriever_layer(loaded.backbone, settings)
    shared = (name, lender, fingerprint(open_gallery(settings)), layer)
    return Judged(
        method=f"{name} by features of {loaded.provenance.method}",
        backbone=loaded.backbone.architecture,
        input_space="lightness",
        sha256=_json_sha256((*shared, loaded.sha256, *draw)),
        seed=seed if draw else loaded.provenance.seed,
        recipe=_json_sha256((*shared, recipe_id(loaded))),
        pretrained_on=lender,
    )


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            "the reference cannot be read",
            received=str(path),
            allowed=f"name a photo ({error.strerror or error})",
        ) from error


def recipe_id(loaded: LoadedBackbone) -> str:
    """SHA-256 of how a backbone came about but for its seed.

    That is: its architecture, method, config, what it started from, number of processes, photos and steps.
    """
    return _recipe(loaded.backbone, loaded.provenance)


def folder_sha256(folder: Path) -> str:
    """Return the SHA-256 of the photos in a folder: their names below it, and their bytes.

    Raises:
        InputError: It holds no photos.
    """
    files = walk_files(folder, PHOTO_SUFFIXES).files
    if not files:
        raise InputError(
            "the folder has no photos",
            received=str(folder),
            allowed=f"photos end in {', '.join(PHOTO_SUFFIXES)}",
        )
    digest = hashlib.sha256()
    for path in files:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder)}\0{content}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _trained(backbone: Backbone, provenance: Provenance, sha256: str) -> Judged:
    return Judged(
        method=provenance.method,
        backbone=backbone.architecture,
        input_space=backbone.input_space,
        sha256=sha256,
        seed=provenance.seed,
        recipe=_recipe(backbone, provenance),
        pretrained_on=data_name(provenance.data) if provenance.data else None,
    )


def _start(backbone: Backbone, provenance: Provenance) -> str | None:
    """Return what tells one start from others: its recipe if it has the run's own seed, else its weights."""
    start = None if provenance.init is None else provenance_of(provenance.init)
    if start is None or start.seed is None or start.seed != provenance.seed:
        return provenance.init_sha256
    return _recipe(backbone, start)


def _recipe(backbone: Backbone, provenance: Provenance) -> str:
    arguments = {k: v for k, v in backbone.arguments.items() if k != "geometry"}
    config = {k: v for k, v in provenance.config.items() if k not in PLACE_KEYS}
    if provenance.init_sha256:
        config["init"] = _start(backbone, provenance)
    made = [provenance.method, config, provenance.data_fingerprint, provenance.step, provenance.processes]
    return _json_sha256(spelled_for_hash([backbone.architecture, arguments, *made]))


def _json_sha256(value: object) -> str:
    return _text_sha256(json.dumps(value, sort_keys=True))


def _text_sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
