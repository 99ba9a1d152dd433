"""The photos that the page shows: coloured once by the network, kept in bounded memory, decoded again at each wish.

Beside them the photos whose colours they are given.
"""

import io
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from pretext.color.gamut import reduce_chroma
from pretext.color.lab import lab_to_rgb, rgb_to_lab
from pretext.colorize.colorizer import Colorizer, Colors
from pretext.colorize.painting import Decoding, decode, entropy, lightness_of, paint, predict
from pretext.colorize.reference import Reference, read_reference
from pretext.colorize.settings import Steering
from pretext.colorize.steering import Biases, find_biases, recolor, steer
from pretext.data.decoding import UnreadablePhotoError, decode_rgb, size_of
from pretext.errors import InputError

#: Most pixels of a photo. A larger one is for the command, which needs no preview.
MAX_PIXELS = 50_000_000
#: Most bytes of all photos that are kept; the one that was used longest ago goes first.
MAX_KEPT = 512 << 20
#: Most references that are kept.
MAX_REFERENCES = 16
#: Most pixels of a preview.
PREVIEW_PIXELS = 1 << 20
#: About as many pixels of a preview are matched to a reference by quantiles; the page interpolates between them.
MATCHED_PIXELS = 1 << 14
#: Points of the table of colours in L, 0..100, and in a and b, -`TABLE_REACH` to `TABLE_REACH`.
TABLE_POINTS = (41, 57, 57)
TABLE_REACH = 112.0
#: Opacity, of 255, where colours are least certain.
OPAQUE = 230


@dataclass(frozen=True)
class KeptPhoto:
    """One photo that was coloured.

    Attributes:
        name: As the browser gave it.
        rgb: The photo, (3, H, W) uint8.
        preview: Lightness of the photo at the preview's size, (1, h, w), in CIE L.
        colors: What the network predicts.
        biases: What brings them near references, by the hash of each.
    """

    name: str
    rgb: UInt8[Tensor, "3 height width"]
    preview: Float[Tensor, "1 h w"]
    colors: Colors
    biases: dict[str, Biases] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        tensors = (self.rgb, self.preview, *self.colors)
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)


class KeptPhotos:
    """Photos and references by their keys, which nobody can guess.

    Args:
        colorizer: In eval mode.
        size: Shorter side of what the network sees, in pixels; None takes the one of training.
    """

    def __init__(self, colorizer: Colorizer, size: int | None):
        self.colorizer = colorizer
        self._size = size
        self._photos: OrderedDict[str, KeptPhoto] = OrderedDict()
        self._references: OrderedDict[str, Reference] = OrderedDict()
        # Of the photos; and of the network and the painting, which take all cores.
        self._lock, self._work = Lock(), Lock()

    def add(self, data: bytes, name: str) -> tuple[str, KeptPhoto]:
        """Colour a photo and keep it.

        Args:
            data: The photo's file.
            name: What it is called.

        Returns:
            Its key, and the photo.

        Raises:
            InputError: It cannot be read, or has too many pixels.
        """
        _check_size(data, name)
        try:
            with self._work:
                rgb = torch.from_numpy(np.array(decode_rgb(data))).permute(2, 0, 1).contiguous()
                lightness = lightness_of(rgb)
                colors = predict(self.colorizer, lightness, self._size)
        except UnreadablePhotoError as error:
            raise InputError(f"cannot read {name}: {error}") from error
        photo = KeptPhoto(name, rgb, _reduced(lightness, PREVIEW_PIXELS), colors)
        key = secrets.token_urlsafe(12)
        with self._lock:
            self._photos[key] = photo
            while len(self._photos) > 1 and sum(one.bytes for one in self._photos.values()) > MAX_KEPT:
                self._photos.popitem(last=False)
        return key, photo

    def get(self, key: str) -> KeptPhoto:
        """Return a photo.

        Raises:
            KeyError: It is not kept, or no longer.
        """
        with self._lock:
            self._photos.move_to_end(key)
            return self._photos[key]

    def add_reference(self, data: bytes, name: str) -> str:
        """Keep a photo whose colours others are given; return its key.

        Args:
            data: The photo's file.
            name: What it is called.

        Raises:
            InputError: It cannot be read, has too many pixels, or is gray.
        """
        _check_size(data, name)
        with self._work:
            reference = read_reference(data, name)
        key = secrets.token_urlsafe(12)
        with self._lock:
            self._references[key] = reference
            while len(self._references) > MAX_REFERENCES:
                self._references.popitem(last=False)
        return key

    def reference(self, key: str) -> Reference:
        """Return a reference.

        Raises:
            KeyError: It is not kept, or no longer.
        """
        with self._lock:
            self._references.move_to_end(key)
            return self._references[key]

    def colors(self, photo: KeptPhoto, steering: Steering) -> Colors:
        """Return the photo's colours after steering; what takes long is done once for each reference.

        Raises:
            InputError: They cannot be steered so.
        """
        biases = None
        if steering.reference is not None and steering.transfer == "energy":
            biases = photo.biases.get(steering.reference.sha256)
            if biases is None:
                with self._work:
                    biases = find_biases(self.colorizer, photo.colors, steering.reference)
                if len(photo.biases) >= MAX_REFERENCES:
                    photo.biases.clear()
                photo.biases[steering.reference.sha256] = biases
        return steer(self.colorizer, photo.colors, steering, biases)

    def ab(self, photo: KeptPhoto, decoding: Decoding, steering: Steering) -> Float[Tensor, "2 h w"]:
        """Decode the photo's colours for its preview, at the positions of the map or, matched by quantiles, at more.

        Raises:
            InputError: The colorizer leaves no choice, or its colours cannot be steered so.
        """
        ab = decode(self.colorizer, self.colors(photo, steering), decoding)[0].float().cpu()
        if steering.transfer != "quantile":
            return ab
        lightness = _reduced(photo.preview, MATCHED_PIXELS)
        matched = recolor(paint(lightness, ab), lightness, steering)
        return rgb_to_lab(matched[None])[0, 1:]

    def painted(self, photo: KeptPhoto, decoding: Decoding, steering: Steering, upsampling: str) -> bytes:
        """Paint the photo at its full size, as a PNG file.

        Raises:
            InputError: As for `ab`, or ``upsampling`` is unknown.
        """
        ab = decode(self.colorizer, self.colors(photo, steering), decoding)[0]
        with self._work:
            lightness = lightness_of(photo.rgb)
            painted = recolor(paint(lightness, ab, upsampling), lightness, steering)
        return _png(painted.permute(1, 2, 0))


def lightness_png(photo: KeptPhoto) -> bytes:
    """Return the preview's lightness as a gray PNG file: 0 for L = 0, 255 for L = 100."""
    return _png((photo.preview[0] * 2.55).round().to(torch.uint8))


def entropy_range(colors: Colors) -> tuple[float, float] | None:
    """Return the smallest and the largest entropy of the colours, in bits; None if the colorizer tells none."""
    if colors.distribution is None:
        return None
    bits = entropy(colors.distribution)
    return bits.min().item(), bits.max().item()


def uncertainty_png(photo: KeptPhoto, colors: Colors) -> bytes:
    """Return where colours are uncertain, as white that is transparent where the entropy is smallest in the photo.

    Args:
        photo: The photo.
        colors: Its colours, steered or not.

    Raises:
        InputError: The colorizer predicts no distribution.
    """
    distribution = colors.distribution
    if distribution is None:
        raise InputError("this colorizer predicts one colour per pixel, and no uncertainty")
    bits = entropy(distribution.cpu())[:, None]
    share = (bits - bits.min()) / (bits.max() - bits.min()).clamp_min(1e-6)
    share = F.interpolate(share, photo.preview.shape[1:], mode="bilinear")[0, 0].clamp(0, 1)
    alpha = (share * OPAQUE).round().to(torch.uint8)
    white = torch.full_like(alpha, 255)
    return _png(torch.stack([white, white, white, alpha], dim=-1))


def color_table() -> UInt8[Tensor, "l a b 3"]:
    """Return sRGB over a lattice of L, a and b, from which the page interpolates; colours outside lose chroma."""
    lightness = torch.linspace(0, 100, TABLE_POINTS[0])
    a, b = (torch.linspace(-TABLE_REACH, TABLE_REACH, points) for points in TABLE_POINTS[1:])
    lab = torch.stack(torch.meshgrid(lightness, a, b, indexing="ij"))
    rgb = lab_to_rgb(reduce_chroma(lab.flatten(2)[None]))[0].view_as(lab)
    return (rgb * 255).round().to(torch.uint8).permute(1, 2, 3, 0).contiguous()


def _check_size(data: bytes, name: str) -> None:
    try:
        width, height = size_of(data)
    except UnreadablePhotoError as error:
        raise InputError(f"cannot read {name}: {error}") from error
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{name} is too large for the page",
            received=f"{width}x{height} pixels",
            allowed=f"at most {MAX_PIXELS // 10**6} million; tools/colorize.sh takes more",
        )


def _reduced(lightness: Tensor, pixels: int) -> Tensor:
    height, width = lightness.shape[1:]
    scale = min(1.0, (pixels / (height * width)) ** 0.5)
    if scale == 1:
        return lightness
    size = [max(1, int(side * scale)) for side in (height, width)]
    return F.interpolate(lightness[None], size=size, mode="bilinear", antialias=True)[0].clamp(0, 100)


def _png(pixels: Tensor) -> bytes:
    buffer = io.BytesIO()
    # Level 1: four times as fast as the default, and a tenth larger.
    Image.fromarray(pixels.numpy()).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
