"""The histograms of Larsson et al. (ECCV 2016), one pixel at a time, in NumPy."""

import cmath
import colorsys
import math
from statistics import NormalDist

import numpy as np
from skimage.color import rgb2lab


def softmax(scores, temperature=1.0):
    annealed = np.exp((scores - scores.max()) / temperature)
    return annealed / annealed.sum()


def cross_entropy(scores, histogram):
    return -(histogram * np.log(softmax(scores))).sum()


def gaussian_bin(value, count, std=25.0):
    """As the code of the paper: the level of the value among the Gaussian's, cut into equal parts."""
    return min(int(NormalDist(0, std).cdf(value) * count), count - 1)


def gaussian_quantile(level, std=25.0):
    return NormalDist(0, std).inv_cdf(level)


def gaussian_centers(count, std=25.0):
    return np.array([gaussian_quantile((k + 0.5) / count, std) for k in range(count)])


def hue_chroma(rgb):
    hue, _, value = colorsys.rgb_to_hsv(*rgb)
    return hue, value - min(rgb)


def hue_bin(hue, count):
    """Hues a hair below an edge are above it."""
    return int(hue * count + 2e-3) % count


def median_position(histogram):
    below = 0.0
    for k, share in enumerate(histogram):
        if below + share >= 0.5:
            return k + (0.5 - below) / share
        below += share
    raise AssertionError(histogram)


def circular_mean(histogram):
    """The direction in turns, and the length of the expectation."""
    count = len(histogram)
    z = sum(f * cmath.exp(2j * math.pi * (k + 0.5) / count) for k, f in enumerate(histogram))
    return cmath.phase(z) / (2 * math.pi) % 1, abs(z)


def bicone_ab(hue, chroma, lightness):
    """The colour of hue and chroma whose luminance is that of a CIE lightness, by bisection; then clipped."""
    pure = np.array(colorsys.hsv_to_rgb(hue, 1, 1)) * chroma
    y = (lightness + 16) / 116
    target = y**3 if y > 0.2068966 else (y - 16 / 116) / 7.787

    def luminance(shift):
        rgb = pure + shift
        linear = np.where(rgb > 0.04045, ((np.maximum(rgb, 0) + 0.055) / 1.055) ** 2.4, rgb / 12.92)
        return linear @ [0.212671, 0.715160, 0.072169]

    low, high = -2.0, 2.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if luminance(middle) < target else (low, middle)
    return rgb2lab((pure + low).clip(0, 1))[1:]


def marginals_loss(scores, ab, count):
    """Of a window of colours, (M, 2)."""
    total = 0.0
    for channel in range(2):
        histogram = np.mean([np.eye(count)[gaussian_bin(value, count)] for value in ab[:, channel]], axis=0)
        total += cross_entropy(scores[channel * count : (channel + 1) * count], histogram)
    return total


def joint_loss(scores, ab, count):
    bins = [gaussian_bin(a, count) * count + gaussian_bin(b, count) for a, b in ab]
    return cross_entropy(scores, np.mean(np.eye(count**2)[bins], axis=0))


def hue_chroma_loss(scores, rgb, count, hue_weight=5.0, release=False):
    """Of a window of sRGB colours, (M, 3); the weights are those of the one in the middle."""
    pixels = [hue_chroma(pixel) for pixel in rgb]
    hues = np.mean([np.eye(count)[hue_bin(hue, count)] for hue, _ in pixels], axis=0)
    chromas = np.mean([np.eye(count)[min(int(c * count), count - 1)] for _, c in pixels], axis=0)
    lightness = float(np.mean(rgb[len(rgb) // 2]))
    chroma_weight = 3 * min(lightness, 1 / 3, 1 - lightness) if release else 1.0
    of_hue = hue_weight * pixels[len(rgb) // 2][1] * cross_entropy(scores[:count], hues)
    return of_hue + chroma_weight * cross_entropy(scores[count:], chromas)


def hue_chroma_decoded(scores, lightness, count, rule="own", temperature=1.0, fade=1.0):
    """Return ab; ``fade`` multiplies chroma."""
    hues, chromas = (softmax(part, temperature) for part in (scores[:count], scores[count:]))
    centers = (np.arange(count) + 0.5) / count
    hue, _ = circular_mean(hues)
    if rule in ("own", "median"):
        chroma = median_position(chromas) / count
    elif rule == "mean":
        chroma = chromas @ centers
    else:
        hue, chroma = centers[hues.argmax()], centers[chromas.argmax()]
    return bicone_ab(hue, fade * chroma, lightness)
