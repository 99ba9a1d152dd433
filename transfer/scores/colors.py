"""How good colours are: numbers of coloured photos against the true ones, as pure tensor functions.

Photos are sRGB in [0, 1] or CIE Lab (L 0..100, ab in CIE units), (N, 3, H, W), coloured and true ones of one size.
Each function gives one number per photo, (N,), unless it says otherwise. docs/colorization.md tells what each means.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from pretext.errors import InputError

#: Largest ab error that raw accuracy tells from larger ones, in CIE units (Zhang et al., ECCV 2016, section 3.1).
AUC_LIMIT = 150.0
#: Largest PSNR in dB: that of the error of rounding to 8 bits, with a variance of 1/12 level^2. That of equal photos,
#: as of a gray photo that is left gray, would be infinite.
PSNR_LIMIT = 10 * math.log10(12 * 255**2)
_SSIM_WINDOW = 11

Photos = Float[Tensor, "n 3 h w"]
PerPhoto = Float[Tensor, " n"]


def ab_errors(lab: Photos, truth: Photos) -> Float[Tensor, "n h w"]:
    """Return the distance of each pixel from its true colour in the ab plane, in CIE units."""
    errors: Tensor = torch.linalg.vector_norm(lab[:, 1:] - truth[:, 1:], dim=1)
    return errors


def raw_accuracy(
    errors: Float[Tensor, "n h w"], weights: Float[Tensor, "n h w"] | None = None
) -> tuple[PerPhoto, PerPhoto]:
    """Return the area under the curve of the share of pixels whose ab error is below t, for t from 0 to 150.

    Zhang et al., ECCV 2016, section 3.1. That area, divided by 150, is 1 - E[min(d, 150)] / 150 exactly, which is how
    it is computed here.

    Args:
        errors: See `ab_errors`.
        weights: Weight of each pixel, for the rebalanced accuracy: see `rarity`. None counts pixels alike.

    Returns:
        Its numerator, the weighted sum over a photo's pixels in [0, weight], and its denominator, the sum of their
        weights. The accuracy of many photos is the quotient of the sums of both.
    """
    shares = 1 - errors.double().clamp(max=AUC_LIMIT) / AUC_LIMIT
    weights = torch.ones_like(shares) if weights is None else weights.double()
    return (shares * weights).sum((1, 2)), weights.sum((1, 2))


def rarity(nearest: Int[Tensor, "n h w"], probabilities: Float[Tensor, " q"]) -> Float[Tensor, "n h w"]:
    """Return the weight of each pixel in the rebalanced accuracy: 1 / p of the bin of its true colour.

    Equation 4 of Zhang et al. (ECCV 2016) with lambda = 0; a common factor of all weights changes nothing.

    Args:
        nearest: The bin of the true colour of each pixel.
        probabilities: Prior of each bin, above 0.
    """
    return probabilities.reciprocal()[nearest]


def error_curve(errors: Float[Tensor, "n h w"]) -> Float[Tensor, "n 151"]:
    """Return the share of a photo's pixels whose ab error is at most t, for t = 0, 1, ..., 150."""
    counts = [
        torch.bincount(each.double().ceil().clamp(max=AUC_LIMIT + 1).long().flatten(), minlength=152)
        for each in errors
    ]
    return torch.stack(counts).cumsum(1)[:, :151] / errors[0].numel()


def mean_squared_ab_error(errors: Float[Tensor, "n h w"]) -> PerPhoto:
    """Return the mean over a and b, too, of the squared error; the RMSE of many photos is the root of the mean."""
    return errors.double().square().mean((1, 2)) / 2


def alphabeta(rgb: Photos) -> Float[Tensor, "n 2 h w"]:
    """Return the opponent colours alpha = R - G and beta = R + G - 2 B of sRGB in [0, 1], which are 0 for gray.

    Larsson et al. (ECCV 2016) measure their RMSE in an alpha-beta whose formula they do not give. These axes, which are
    those of Swain and Ballard (Color Indexing, IJCV 1991) up to a sign, give what the paper prints for photos without
    colour: see `benchmarks/alphabeta.py`.
    """
    red, green, blue = rgb.unbind(1)
    return torch.stack([red - green, red + green - 2 * blue], dim=1)


def mean_squared_alphabeta_error(rgb: Photos, truth: Photos) -> PerPhoto:
    """Return the mean over pixels of the squared distance in `alphabeta`; the RMSE of many photos is as that of ab."""
    apart = alphabeta(rgb.double()) - alphabeta(truth.double())
    return apart.square().sum(1).mean((1, 2))


def psnr(rgb: Photos, truth: Photos) -> PerPhoto:
    """Return the peak signal-to-noise ratio in dB, at most `PSNR_LIMIT`."""
    squared = (rgb.double() - truth.double()).square().mean((1, 2, 3))
    return -10 * squared.clamp(min=10 ** (-PSNR_LIMIT / 10)).log10()


def ssim(rgb: Photos, truth: Photos) -> PerPhoto:
    """Return the structural similarity: a Gaussian window of 11 pixels, sigma 1.5 (Wang et al., TIP 2004).

    The mean is over channels and over windows that lie within the photo, as in the authors' code and scikit-image.

    Raises:
        InputError: A side is shorter than the window.
    """
    if min(rgb.shape[2:]) < _SSIM_WINDOW:
        raise InputError(
            "a photo is too small for SSIM",
            received=tuple(rgb.shape[2:]),
            allowed=f"sides from {_SSIM_WINDOW} pixels up",
        )
    # Channels as photos, in single precision: torch convolves by groups, or in double precision, many times slower.
    single, true_single = (each.float().flatten(0, 1).unsqueeze(1) for each in (rgb, truth))
    _, full = structural_similarity_index_measure(single, true_single, data_range=1.0, return_full_image=True)
    border = _SSIM_WINDOW // 2
    return full[..., border:-border, border:-border].double().mean((1, 2, 3)).view(len(rgb), 3).mean(1)


def colorfulness(rgb: Photos, absolute: bool = False) -> PerPhoto:
    """Return the colourfulness of Hasler and Suesstrunk (2003), 0 for a gray photo.

    Args:
        rgb: sRGB in [0, 1].
        absolute: Take the absolute values of the opponent channels first, as the code of CT2 and DDColor does.
    """
    red, green, blue = (255 * rgb.double()).flatten(2).unbind(1)
    channels = torch.stack([red - green, (red + green) / 2 - blue])
    channels = channels.abs() if absolute else channels
    spread: Tensor = torch.linalg.vector_norm(channels.std(2, correction=0), dim=0)
    shift: Tensor = torch.linalg.vector_norm(channels.mean(2), dim=0)
    return spread + 0.3 * shift


def ciede2000(lab: Photos, truth: Photos) -> Float[Tensor, "n h w"]:
    """Return the CIEDE2000 difference of each pixel (Sharma, Wu, Dalal, Color Research and Application 2005)."""
    (l1, a1, b1), (l2, a2, b2) = (each.double().unbind(1) for each in (lab, truth))
    mean_c7 = ((a1.hypot(b1) + a2.hypot(b2)) / 2) ** 7
    stretch = 1.5 - 0.5 * (mean_c7 / (mean_c7 + 25**7)).sqrt()
    c1, c2 = (a1 * stretch).hypot(b1), (a2 * stretch).hypot(b2)
    h1, h2 = (torch.atan2(b, a * stretch) % (2 * math.pi) for a, b in ((a1, b1), (a2, b2)))
    # Hues go round: differences lie within half a turn, and the mean hue between the two on the shorter way.
    turn = (h2 - h1 + math.pi) % (2 * math.pi) - math.pi
    colored = c1 * c2 > 0
    turn = torch.where(colored, turn, 0.0)
    mean_hue = torch.where(colored, h1 + turn / 2, h1 + h2)
    mean_l, mean_c = (l1 + l2) / 2, (c1 + c2) / 2
    weight = _hue_weight(mean_hue)
    lightness = (l2 - l1) / (1 + 0.015 * (mean_l - 50) ** 2 / (20 + (mean_l - 50) ** 2).sqrt())
    chroma = (c2 - c1) / (1 + 0.045 * mean_c)
    hue = 2 * (c1 * c2).sqrt() * (turn / 2).sin() / (1 + 0.015 * mean_c * weight)
    rotation = -_rotation(mean_hue, mean_c)
    return (lightness**2 + chroma**2 + hue**2 + rotation * chroma * hue).clamp(min=0).sqrt()


def _hue_weight(hue: Tensor) -> Tensor:
    terms = ((-0.17, 1, -30), (0.24, 2, 0), (0.32, 3, 6), (-0.20, 4, -63))
    return 1 + torch.stack([k * (n * hue + math.radians(shift)).cos() for k, n, shift in terms]).sum(0)


def _rotation(hue: Tensor, chroma: Tensor) -> Tensor:
    degrees = torch.rad2deg(hue) % 360
    angle = math.radians(60) * (-(((degrees - 275) / 25) ** 2)).exp()
    return angle.sin() * 2 * (chroma**7 / (chroma**7 + 25**7)).sqrt()


def diversity(samples: Float[Tensor, "k 2 h w"]) -> Float[Tensor, ""]:
    """Return how far draws of one photo lie apart: the mean ab distance over pixels and pairs of draws.

    Args:
        samples: Two or more draws of a photo's ab.
    """
    first, second = torch.triu_indices(len(samples), len(samples), offset=1)
    distances: Tensor = torch.linalg.vector_norm(samples[first] - samples[second], dim=1)
    return distances.mean()


def frechet_distance(features: Float[Tensor, "n d"], truth: Float[Tensor, "m d"]) -> float:
    """Return the Frechet distance between the normal distributions that have the features' means and covariances.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) (Heusel et al., NIPS 2017, equation 6; covariances divide by n - 1). The
    trace of the root is the sum of the singular values of X1 X2', where Xi' Xi = Si, which a QR decomposition makes
    small: no root of a matrix is taken, and nothing becomes complex.

    Raises:
        InputError: There are fewer than two photos.
    """
    if min(len(features), len(truth)) < 2:
        raise InputError("one photo has no covariance", received=1, allowed="FID needs two photos or more")
    first, second = features.double(), truth.double()
    apart = (first.mean(0) - second.mean(0)).square().sum()
    roots = [(each - each.mean(0)) / math.sqrt(len(each) - 1) for each in (first, second)]
    spread = sum(root.square().sum() for root in roots)
    small = [torch.linalg.qr(root, mode="r").R for root in roots]
    shared = torch.linalg.svdvals(small[0] @ small[1].T).sum()
    return max(0.0, float(apart + spread - 2 * shared))
