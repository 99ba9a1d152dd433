"""A check that photos have colour: without it a method that learns from colours learns nothing."""

from pretext.color.lab import rgb_to_lab
from pretext.color.rebalance import gray_mask
from pretext.data.crops import to_tensor
from pretext.data.photos import Photos
from pretext.data.samples import some_photos
from pretext.errors import InputError

#: Most photos that are looked at, spread over all: if 1 % of all photos have colour, chance hides them from so many in
#: fewer than one of 10^8 data sets (0.99^2000 is 2e-9).
MAX_PHOTOS = 2000
#: Most pixels of a photo that are looked at, on a regular grid.
MAX_PIXELS = 64 * 64


def check_colorful(method: str, photos: Photos, gray_threshold: float = 5.0) -> None:
    """Raise InputError if no photo has colour; look at some photos spread over all, up to the first that has.

    Args:
        method: Name of the method that learns from colours.
        photos: The photos to train on; unreadable ones are passed over.
        gray_threshold: A photo is gray if no |a| or |b| is above this, in CIE units.
    """
    gray = 0
    for _, photo in some_photos(photos, MAX_PHOTOS):
        pixels = to_tensor(photo)
        step = max(1, round((pixels[0].numel() / MAX_PIXELS) ** 0.5))
        ab = rgb_to_lab(pixels[None, :, ::step, ::step].contiguous())[:, 1:]
        if gray_mask(ab, gray_threshold).item():
            return
        gray += 1
    raise InputError(
        f"{method} learns from colours, and no photo has any",
        received=f"{gray} gray photos of {len(photos)}",
        allowed="train on photos in colour",
    )
