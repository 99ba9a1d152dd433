"""Small colorizers that were not trained."""

from pretext.backbones.checkpoint import Provenance, build
from pretext.backbones.initializers import he_normal_
from pretext.colorize.colorizer import ColorHead, Colorizer, save_colorizer


def colorizer_file(path, space, seed=0, method="colorization"):
    backbone = build("alexnet", {"channels": (8, 8, 8, 8, 8)})
    made = Colorizer(backbone, ColorHead(8, space.channels), space, "conv5")
    he_normal_(made, seed)
    save_colorizer(made, path, Provenance(method, seed=seed, data="photos/train"))
    return str(path)
