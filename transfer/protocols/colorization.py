"""The protocols of colours: which photos are coloured, and what of them is compared."""

from dataclasses import replace

from transfer.protocols.protocol import Protocol
from transfer.protocols.settings import ColorizationSettings

#: What all share: everything that a colorizer is free to do.
COLORS = ColorizationSettings(
    protocol="",
    data="imagenet/val",
    photos="ctest10k",
    count=None,
    fit="square",
    size=256,
    network_size=None,
    decode="annealed",
    temperature=None,
    temperatures=(),
    upsampling="bilinear",
    decode_at="map",
    true_histogram=None,
    samples=0,
    prior=None,
    classifier="efficientnet_lite0",
    classifier_weights=None,
    classes=None,
    fid_weights=None,
    lpips_weights=None,
    lpips_linear=None,
    gallery=None,
    retriever="random:alexnet",
    retriever_layer=None,
    reference=None,
    batch_size=4,
    workers=8,
)
_CHOICES = frozenset(
    {
        *("data", "network_size", "decode", "temperature", "temperatures", "upsampling", "samples"),
        *("decode_at", "true_histogram"),
        *("classifier", "classifier_weights", "classes", "batch_size"),
        *("fid_weights", "lpips_weights", "lpips_linear"),
        *("gallery", "retriever", "retriever_layer", "reference"),
    }
)


def _protocol(id: str, metric: str, source: str, settings: ColorizationSettings) -> Protocol:
    return Protocol(id, "colorization", metric, source, replace(settings, protocol=id), _CHOICES)


COLORIZATIONS = (
    _protocol(
        "zhang2016_ctest10k",
        "auc",
        "Zhang et al., Colorful Image Colorization, ECCV 2016, table 1: 10,000 of ImageNet's validation photos, as"
        " ilsvrclin12_val_inds.npy of richzhang/colorization-pytorch lists them; rebalanced by the authors' prior. The"
        " paper classifies by VGG-16. Photos are 256 x 256 as in its training and its study; the size for the raw"
        " accuracy is not stated",
        COLORS,
    ),
    _protocol(
        "larsson2016_ctest10k",
        "psnr",
        "Larsson et al., Learning Representations for Automatic Colorization, ECCV 2016: the same 10,000 photos; PSNR"
        " in RGB, averaged over photos. Their RMSE in alpha-beta has no formula in paper or code: rmse_alphabeta has"
        " the nearest of those that were tried (docs/colorization.md)",
        replace(COLORS, fit="own", size=None),
    ),
    _protocol(
        "larsson2016_cval1k",
        "psnr",
        "Larsson et al., ECCV 2016, tables 1 and 2: 1,000 of ImageNet's validation photos, as cval1k.txt of"
        " AruniRC/colorizer-fcn lists them, whose ctest10k.txt has the 10,000 photos of ctest10k",
        replace(COLORS, photos="cval1k", fit="own", size=None),
    ),
    _protocol(
        "val5k",
        "psnr",
        "Kumar et al., Colorization Transformer, ICLR 2021, and after it CT2 and DDColor: the first 5,000 of ImageNet's"
        " validation photos, their central squares resized to 256 x 256",
        replace(COLORS, photos="val5k", fit="center"),
    ),
)
