"""DeepCluster of AlexNet on Imagenette at 128 pixels: 6 epochs, clustered anew before each."""

from mmengine.config import read_base

with read_base():
    from .colorization_alexnet_imagenette128 import *

# Ten clusters a class, as are best in the paper (figure 2c).
method = dict(
    type="deepcluster",
    layer="conv5",
    clusters=100,
    feature_size=2,
    components=256,
    head_size=3,
    head_hidden=512,
)
# Section 4.1: crops of random sizes and shapes.
view = dict(type="RandomResizedCrop", size=128, resize=128)
