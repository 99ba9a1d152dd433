"""Rows that need no training, but other photos: each gray photo takes the colours of a photo that is like it."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from pretext.backbones.checkpoint import load_backbone
from pretext.checks import room_for
from pretext.color.lab import rgb_to_lab
from pretext.colorize.painting import lightness_of, paint
from pretext.data.crops import to_tensor
from pretext.data.decoding import UnreadablePhotoError, read_rgb
from pretext.data.photos import Photos
from pretext.errors import InputError
from pretext.progress import ProgressDisplay, say
from transfer.color_sources import ColorSource
from transfer.data.colored import TruePhotos
from transfer.judged import open_gallery, retriever_layer
from transfer.networks.color_transfer import aligned_ab, welsh_ab
from transfer.networks.painters import Painted, Painter, Photo
from transfer.protocols.settings import ColorizationSettings

#: Side, in pixels, to which gray photos are resized, whole, for the backbone that compares them.
SIDE = 128

Gray = UInt8[Tensor, "3 128 128"]


class Gallery:
    """Photos in colour, of which the one most like a gray photo can be asked for.

    Photos are compared in gray, by the cosine of a backbone's features, averaged over positions.

    Args:
        settings: Name photos, backbone and layer.
        photos: The photos that are coloured; those of the gallery are fitted as they are.
        seed: Seed of an untrained backbone.
        device: Where to compute.

    Raises:
        InputError: Photos, backbone or layer cannot be used.
    """

    def __init__(self, settings: ColorizationSettings, photos: TruePhotos, seed: int, device: torch.device):
        self._true, self._photos = photos, open_gallery(settings)
        self._backbone = load_backbone(settings.retriever, seed=seed).backbone.to(device)
        self._layer, self._device = retriever_layer(self._backbone, settings), device
        views = DataLoader(
            _GrayViews(self._photos, photos),
            settings.batch_size,
            num_workers=settings.workers,
            collate_fn=list,
        )
        features: list[Tensor] = []
        readable: list[int] = []
        with ProgressDisplay("gallery", len(views)) as progress:
            for batch in views:
                shown = [(number, view) for number, view in batch if view is not None]
                if shown:
                    readable += [number for number, _ in shown]
                    features.append(self._features(torch.stack([view for _, view in shown])))
                progress.step(len(batch))
        if not readable:
            raise InputError("no photo of the gallery can be read", received=settings.gallery)
        if len(readable) < len(self._photos):
            say(f"{len(self._photos) - len(readable)} photos of the gallery cannot be read and are left out")
        self._readable, self._known = readable, torch.cat(features)

    def nearest(self, index: int, truth: Photo) -> UInt8[Tensor, "3 i j"]:
        """Return the photo of the gallery that is most like a true one in gray, and is not that photo itself.

        A photo of the same path, or with the same pixels, is the photo itself.

        Args:
            index: Number of the true photo.
            truth: The true photo, fitted.

        Raises:
            InputError: There is no other photo.
        """
        likeness = self._known @ self._features(_gray(truth)[None])[0]
        own = os.path.realpath(self._true.place(index))
        for _ in self._readable:
            best = int(likeness.argmax())
            number = self._readable[best]
            if os.path.realpath(self._photos.name(number)) != own:
                photo = self._true.fitted(self._photos.image(number))
                if not torch.equal(photo, truth):
                    return photo
            likeness[best] = -torch.inf
        raise InputError(
            "the gallery has no photo but the one that is coloured", received=self._true.names[index]
        )

    @torch.no_grad()
    def _features(self, views: UInt8[Tensor, "n 3 128 128"]) -> Float[Tensor, "n c"]:
        with room_for("the retriever", f"{SIDE} pixels"):
            maps = self._backbone.features(views.to(self._device), self._layer)
        return F.normalize(maps.float().mean((2, 3)), dim=1).cpu()


class _GrayViews(Dataset[tuple[int, Gray | None]]):
    """The photos of a gallery in gray, each with its number; None in place of one that cannot be read."""

    def __init__(self, photos: Photos, true: TruePhotos):
        self._photos, self._true = photos, true

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, index: int) -> tuple[int, Gray | None]:
        try:
            return index, _gray(self._true.fitted(self._photos.image(index)))
        except UnreadablePhotoError:
            return index, None


def _gray(photo: Photo) -> Gray:
    """Return a photo in gray, resized whole to a square."""
    small = F.interpolate(lightness_of(photo)[None], size=(SIDE, SIDE), mode="bilinear", antialias=True)
    return paint(small[0], torch.zeros(2, 1, 1))


class Retrieval:
    """The colours of the photo of a gallery that is most like the gray one, as `aligned_ab` matches them.

    Args:
        gallery: Where photos are looked for.
        upsampling: One of `pretext.colorize.painting.UPSAMPLINGS`.
    """

    def __init__(self, gallery: Gallery, upsampling: str):
        self.gallery, self.upsampling = gallery, upsampling

    def __call__(self, index: int, truth: Photo) -> Painted:
        """See `Painter`."""
        lightness = lightness_of(truth)
        reference = rgb_to_lab(self.gallery.nearest(index, truth)[None])[0]
        return Painted(paint(lightness, aligned_ab(lightness, reference), self.upsampling), {})


class Welsh:
    """The colours of sampled pixels of a reference; see `welsh_ab`.

    Args:
        reference: Gives the photo in colour for the number of a photo and the photo.
        seed: Seed of the draws, which also depend on the number of the photo.
    """

    def __init__(self, reference: Callable[[int, Photo], Photo], seed: int):
        self.reference, self.seed = reference, seed

    def __call__(self, index: int, truth: Photo) -> Painted:
        """See `Painter`."""
        lightness = lightness_of(truth)
        reference = rgb_to_lab(self.reference(index, truth)[None])[0]
        ab = welsh_ab(lightness, reference, np.random.default_rng([self.seed, index]))
        return Painted(paint(lightness, ab), {})


def lent_colors(
    source: ColorSource, photos: TruePhotos, settings: ColorizationSettings, seed: int, device: torch.device
) -> Painter:
    """Return the painter of one of `transfer.color_sources.LENT`.

    Args:
        source: Names it.
        photos: The true photos.
        settings: Name the gallery or the reference.
        seed: Seed of what is drawn.
        device: Where to compute.

    Raises:
        InputError: Gallery, backbone or reference cannot be used.
    """
    if source.name == "welsh2002" and settings.reference is not None:
        reference = _read(Path(settings.reference))
        return Welsh(lambda index, truth: reference, seed)
    gallery = Gallery(settings, photos, seed, device)
    return (
        Retrieval(gallery, settings.upsampling)
        if source.name == "retrieval"
        else Welsh(gallery.nearest, seed)
    )


def _read(path: Path) -> Photo:
    try:
        image: Image.Image = read_rgb(path)
    except UnreadablePhotoError as error:
        raise InputError(
            f"cannot read the reference {path}: {error}", allowed="name another photo"
        ) from error
    return to_tensor(image)
