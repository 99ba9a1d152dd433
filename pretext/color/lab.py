"""sRGB to CIE Lab and back, for the D65 white point and the 2 degree observer.

The constants are scikit-image's, so that colours agree with the data and the bins of Zhang et al. (ECCV
2016): lightness L lies in [0, 100]; for sRGB colours a lies in [-86.18, 98.23] and b in [-107.86, 94.48].

Channels are mixed by explicit sums and not by a matrix product: a product would fall to bfloat16 under
autocast and to TF32 on recent GPUs, both far coarser than the 1e-3 promised here.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

# Linear sRGB to XYZ, each row divided by the D65 white point, so that white is (1, 1, 1).
_XYZ_FROM_RGB = torch.tensor(
    [
        [0.412453, 0.357580, 0.180423],
        [0.212671, 0.715160, 0.072169],
        [0.019334, 0.119193, 0.950227],
    ],
    dtype=torch.float64,
) / torch.tensor([[0.95047], [1.0], [1.08883]], dtype=torch.float64)
_TO_XYZ: list[list[float]] = _XYZ_FROM_RGB.tolist()
_TO_RGB: list[list[float]] = torch.linalg.inv(_XYZ_FROM_RGB).tolist()

#: Shares of linear red, green and blue in the luminance Y, which is 1 of white.
LUMINANCE: tuple[float, ...] = tuple(_TO_XYZ[1])

# Below this relative luminance the cube root gives way to a line of slope 7.787 (CIE 15).
_LINEAR_BELOW = 0.008856
_SLOPE = 7.787


def rgb_to_lab(rgb: Shaped[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Convert sRGB photos to CIE Lab; agrees with `skimage.color.rgb2lab` within 1e-3.

    Args:
        rgb: Photos, (N, 3, H, W): uint8 in [0, 255] (fast, by a look-up table) or floating point in [0, 1].
            Gradients flow through floating-point photos; half precision is computed in float32.

    Returns:
        (N, 3, H, W): L in [0, 100], a and b in CIE units, about [-110, 110]. float64 for float64 photos,
        float32 otherwise.

    Raises:
        TypeError: If `rgb` holds integers other than uint8.
    """
    red, green, blue = _linear_rgb(rgb).unbind(1)
    x, y, z = (_lightness_curve(_mix(row, red, green, blue)) for row in _TO_XYZ)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def rgb_to_lightness(rgb: Shaped[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 h w"]:
    """Convert sRGB photos to CIE lightness, the first channel of `rgb_to_lab`, in a third of its time.

    Args:
        rgb: Photos, (N, 3, H, W): uint8 in [0, 255] or floating point in [0, 1].

    Returns:
        L in [0, 100], (N, 1, H, W).

    Raises:
        TypeError: If `rgb` holds integers other than uint8.
    """
    red, green, blue = _linear_rgb(rgb).unbind(1)
    return (116 * _lightness_curve(_mix(_TO_XYZ[1], red, green, blue)) - 16).unsqueeze(1)


def lab_to_rgb(lab: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Convert CIE Lab to sRGB; agrees with `skimage.color.lab2rgb`.

    Args:
        lab: (N, 3, H, W), L in [0, 100], a and b in CIE units.

    Returns:
        sRGB in [0, 1], (N, 3, H, W). Colours outside sRGB are clamped channel by channel, which changes their
        lightness and hue a little; the gradient through a clamped channel is zero.
    """
    linear = lab_to_linear_rgb(lab).clamp(0, 1)
    # The power is never evaluated at 0, where its slope is infinite.
    curve = 1.055 * linear.clamp_min(0.0031308).pow(1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, curve, 12.92 * linear).clamp(0, 1)


def rgb_to_linear_rgb(rgb: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Undo the gamma of sRGB, elementwise; beyond 0 and 1 its two pieces go on, so that it rises everywhere."""
    curve = ((rgb.clamp_min(0.04045) + 0.055) / 1.055).pow(2.4)
    return torch.where(rgb > 0.04045, curve, rgb / 12.92)


def lightness_to_luminance(lightness: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return the luminance Y, 0..1, of CIE lightness, 0..100, elementwise."""
    return _inverse_lightness_curve((lightness + 16) / 116)


def lab_to_linear_rgb(lab: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Convert CIE Lab to linear sRGB, (N, 3, H, W): below 0 or above 1 where a colour is outside sRGB."""
    lightness, a, b = lab.to(torch.promote_types(lab.dtype, torch.float32)).unbind(1)
    y = (lightness + 16) / 116
    xyz = [_inverse_lightness_curve(t) for t in (y + a / 500, y, (y - b / 200).clamp_min(0))]
    return torch.stack([_mix(row, *xyz) for row in _TO_RGB], dim=1)


def _linear_rgb(rgb: Tensor) -> Tensor:
    """Undo the sRGB gamma: photos as `rgb_to_lab` takes them to linear values in [0, 1]."""
    if rgb.dtype == torch.uint8:
        table = rgb_to_linear_rgb(torch.arange(256, dtype=torch.float64, device=rgb.device) / 255).float()
        return table.index_select(0, rgb.flatten().int()).view(rgb.shape)
    if not rgb.is_floating_point():
        raise TypeError(
            f"rgb_to_lab cannot read this type of photo: received {rgb.dtype}; "
            "pass uint8 in [0, 255] or floating point in [0, 1]"
        )
    return rgb_to_linear_rgb(rgb.to(torch.promote_types(rgb.dtype, torch.float32)))


def _mix(row: list[float], first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    return (first * row[0]).add_(second, alpha=row[1]).add_(third, alpha=row[2])


def _lightness_curve(t: Tensor) -> Tensor:
    """Compute CIE's f(t): the cube root of t, and a line below `_LINEAR_BELOW`.

    It is computed as the cube root of max(t, limit) + slope * min(t - limit, 0): without a branch, and finite with a
    finite gradient for every t, including 0 and below.
    """
    root = t.clamp_min(_LINEAR_BELOW).pow_(1 / 3)
    return root.add_((t - _LINEAR_BELOW).clamp_max_(0), alpha=_SLOPE)


def _inverse_lightness_curve(value: Tensor) -> Tensor:
    return torch.where(value > 0.2068966, value.pow(3), (value - 16 / 116) / _SLOPE)
