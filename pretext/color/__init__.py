"""Colour as pure tensor functions: CIE Lab, ab bins, colour priors and decoding."""

from pretext.color.bicone import bicone_ab, bicone_to_rgb, rgb_to_bicone
from pretext.color.bins import (
    AB_LIMIT,
    BIN_RULES,
    NEIGHBORS,
    SoftEncoder,
    ab_bins,
    bins_from_counts,
    to_dense,
    unit_cell_centers,
)
from pretext.color.decode import (
    annealed_mean,
    circular_mean,
    coherent_sample,
    decode_then_upsample,
    mean,
    median_position,
    mode,
    quantile_sample,
    sample,
    upsample_then_decode,
)
from pretext.color.gamut import in_gamut, reduce_chroma
from pretext.color.lab import lab_to_rgb, rgb_to_lab, rgb_to_lightness
from pretext.color.losses import histogram_cross_entropy, l2_loss, soft_cross_entropy
from pretext.color.prior import ColorPrior, count_ab, estimate_prior, imagenet_prior
from pretext.color.rebalance import gray_mask, rebalance_weights

__all__ = [
    "AB_LIMIT",
    "BIN_RULES",
    "NEIGHBORS",
    "ColorPrior",
    "SoftEncoder",
    "ab_bins",
    "annealed_mean",
    "bicone_ab",
    "bicone_to_rgb",
    "bins_from_counts",
    "circular_mean",
    "coherent_sample",
    "count_ab",
    "decode_then_upsample",
    "estimate_prior",
    "gray_mask",
    "histogram_cross_entropy",
    "imagenet_prior",
    "in_gamut",
    "l2_loss",
    "lab_to_rgb",
    "mean",
    "median_position",
    "mode",
    "quantile_sample",
    "rebalance_weights",
    "reduce_chroma",
    "rgb_to_bicone",
    "rgb_to_lab",
    "rgb_to_lightness",
    "sample",
    "soft_cross_entropy",
    "to_dense",
    "unit_cell_centers",
    "upsample_then_decode",
]
