"""Colours of a photo in colour for a gray one: by sampled pixels (Welsh et al. 2002), and by pixels at the same place.

Both match the lightness of a pixel and its standard deviation in the neighbourhood, half and half, with pixels of a
reference, and take their ab. Lightness is CIE L, 0..100, and ab is in CIE units.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

#: Side, in pixels, of the neighbourhood whose standard deviation is matched (Welsh et al. 2002, section 3.1).
NEIGHBORHOOD = 5
#: Pixels of the reference that are sampled, about (the same).
SAMPLES = 200
#: Longer side of the map in which `aligned_ab` matches, in positions.
CELLS = 64
#: How far from its own place, in positions of that map, a pixel looks for its match, up, down, left and right.
REACH = 8
#: Pixels that are matched with all samples at once.
_CHUNK = 1 << 14

Lightness = Float[Tensor, "1 h w"]
Lab = Float[Tensor, "3 i j"]


def remapped(lightness: Float[Tensor, "1 i j"], target: Lightness) -> Float[Tensor, "1 i j"]:
    """Shift and scale lightness to the mean and the standard deviation of another photo's.

    The luminance remapping of Welsh et al., after Hertzmann et al. ("Image Analogies", SIGGRAPH 2001). Lightness that
    is the same everywhere becomes the mean.
    """
    spread = lightness.std(correction=0)
    scale = target.std(correction=0) / spread if spread > 0 else torch.zeros_like(spread)
    return (lightness - lightness.mean()) * scale + target.mean()


def local_deviation(lightness: Lightness) -> Float[Tensor, "1 h w"]:
    """Return the standard deviation in the neighbourhood of each pixel; beyond the border, pixels repeat."""
    border = NEIGHBORHOOD // 2
    # In double precision, as a variance is the difference of two large numbers.
    padded = F.pad(lightness.double()[None], (border,) * 4, mode="replicate")
    mean, square = (F.avg_pool2d(each, NEIGHBORHOOD, stride=1) for each in (padded, padded.square()))
    return (square - mean.square()).clamp(min=0).sqrt()[0].to(lightness.dtype)


def jittered(height: int, width: int, rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """Draw one pixel from each cell of a grid over a photo, of about `SAMPLES` cells of about the photo's shape.

    Returns:
        Their numbers, counted row by row.
    """
    rows = min(height, max(1, round((SAMPLES * height / width) ** 0.5)))
    columns = min(width, max(1, round(SAMPLES / rows)))
    tops, lefts = (np.arange(n + 1) * side // n for n, side in ((rows, height), (columns, width)))
    y = rng.integers(tops[:-1, None], tops[1:, None], size=(rows, columns))
    x = rng.integers(lefts[:-1], lefts[1:], size=(rows, columns))
    return np.asarray((y * width + x).ravel())


def best_matches(pixels: Float[Tensor, "2 n"], samples: Float[Tensor, "2 k"]) -> Int[Tensor, " n"]:
    """Return for each pixel the number of the sample that is most like it; the first, if several are.

    Args:
        pixels: Lightness and deviation of each pixel.
        samples: The same of the samples.
    """
    found = []
    for chunk in torch.split(pixels, _CHUNK, dim=1):
        unlike = (chunk[:, :, None] - samples[:, None]).abs().sum(0)
        found.append(unlike.argmin(1))
    return torch.cat(found)


def welsh_ab(lightness: Lightness, reference: Lab, rng: np.random.Generator) -> Float[Tensor, "2 h w"]:
    """Return the colours that Welsh, Ashikhmin and Mueller give a gray photo (SIGGRAPH 2002, sections 3 and 3.1).

    The reference's lightness is remapped to the photo's; about 200 of its pixels are drawn from a jittered grid; each
    pixel of the photo takes the ab of the drawn one with the least |difference in lightness| / 2 + |difference in
    deviation| / 2, the deviation being that of a neighbourhood of 5 x 5 pixels.

    Args:
        lightness: The gray photo.
        reference: CIE Lab of the photo in colour, of any size.
        rng: Draws the pixels.

    Differences from the paper: CIE Lab in place of the l-alpha-beta of Ruderman et al. The paper does not say how the
    two differences are measured. Swatches, by which a person pairs parts of both photos, are left out.
    """
    shown = remapped(reference[:1], lightness)
    chosen = torch.from_numpy(jittered(reference.shape[1], reference.shape[2], rng))
    features = torch.cat([shown, local_deviation(shown)]).flatten(1)[:, chosen]
    pixels = torch.cat([lightness, local_deviation(lightness)]).flatten(1)
    ab = reference[1:].flatten(1)[:, chosen]
    return ab[:, best_matches(pixels, features)].view(2, *lightness.shape[1:])


def aligned_ab(lightness: Lightness, reference: Lab) -> Float[Tensor, "2 k l"]:
    """Return colours of a photo that shows something similar, matched near the same place.

    Both photos are resized to one map of up to 64 x 64 positions, of the gray photo's shape, and the reference's
    lightness is remapped to that of the gray photo. Each position takes the ab of the position of the reference, at
    most 8 up, down, left or right of it, with the least |difference in lightness| / 2 + |difference in deviation| / 2
    (as `welsh_ab`); the nearest, if several are alike.

    Args:
        lightness: The gray photo.
        reference: CIE Lab of the photo in colour, of any size.

    Returns:
        A map for `pretext.colorize.painting.paint`.
    """
    scale = CELLS / max(lightness.shape[1:])
    size = [max(1, round(side * min(scale, 1))) for side in lightness.shape[1:]]
    target, shown = (
        F.interpolate(each[None], size=size, mode="bilinear", antialias=True)[0]
        for each in (lightness, reference)
    )
    features = torch.cat([target, local_deviation(target)])
    shown_lightness = remapped(shown[:1], target)
    candidates = torch.cat([shown_lightness, local_deviation(shown_lightness), shown[1:]])
    # Beyond the border nothing matches.
    candidates = F.pad(candidates, (REACH,) * 4, value=torch.inf)
    least, ab = torch.full(size, torch.inf), torch.zeros(2, *size)
    for down, right in _offsets():
        rows, columns = (
            slice(REACH + down, REACH + down + size[0]),
            slice(REACH + right, REACH + right + size[1]),
        )
        there = candidates[:, rows, columns]
        unlike = (features - there[:2]).abs().sum(0)
        better = unlike < least
        least = torch.where(better, unlike, least)
        ab = torch.where(better, there[2:], ab)
    return ab


def _offsets() -> list[tuple[int, int]]:
    """Return all places within reach, nearest first."""
    reach = range(-REACH, REACH + 1)
    return sorted(((y, x) for y in reach for x in reach), key=lambda at: (at[0] ** 2 + at[1] ** 2, at))
