"""Pretext methods, one file each."""

from pretext.methods.autoencoder import Autoencoder
from pretext.methods.base import Method
from pretext.methods.bigan import BiGAN
from pretext.methods.colorization import Colorization
from pretext.methods.context import Context
from pretext.methods.counting import Counting
from pretext.methods.deepcluster import DeepCluster
from pretext.methods.egomotion import Egomotion
from pretext.methods.hypercolumn import Hypercolumn
from pretext.methods.inpainting import Inpainting
from pretext.methods.jigsaw import Jigsaw
from pretext.methods.rotation import Rotation
from pretext.methods.split_brain import SplitBrain
from pretext.methods.supervised import Supervised
from pretext.methods.tracking import Tracking

#: Every method by its name in backbone files and tables.
METHODS: dict[str, type[Method]] = {
    "autoencoder": Autoencoder,
    "bigan": BiGAN,
    "colorization": Colorization,
    "context": Context,
    "counting": Counting,
    "deepcluster": DeepCluster,
    "egomotion": Egomotion,
    "hypercolumn": Hypercolumn,
    "inpainting": Inpainting,
    "jigsaw": Jigsaw,
    "rotation": Rotation,
    "split_brain": SplitBrain,
    "supervised": Supervised,
    "tracking": Tracking,
}

__all__ = [
    "METHODS",
    "Autoencoder",
    "BiGAN",
    "Colorization",
    "Context",
    "Counting",
    "DeepCluster",
    "Egomotion",
    "Hypercolumn",
    "Inpainting",
    "Jigsaw",
    "Method",
    "Rotation",
    "SplitBrain",
    "Supervised",
    "Tracking",
]
